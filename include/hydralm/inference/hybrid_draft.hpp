// HybridDraft: speculative decoding of a published hybrid by its own module of multi-token
// prediction.
#pragma once

#include <algorithm>
#include <span>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/model/hybrid_mtp.hpp"
#include "hydralm/model/runtime_model.hpp"

namespace HYDRALM_NAMESPACE {

// A draft (inference/drafts.hpp) that follows every token with its hidden state, for the module's
// attention has a past of its own. The tokens after the first of a round are drafted from the
// module's own output in the place of the model's.
template <Real T>
class HybridDraft {
public:
    using Model = RuntimeModel<T>;

    HybridDraft(const Model&& model, const HybridMtp<T>& mtp) = delete;
    HybridDraft(const Model& model, const HybridMtp<T>&& mtp) = delete;
    // Both must outlive it, and belong to one checkpoint. Throws Error for another width.
    HybridDraft(const Model& model, const HybridMtp<T>& mtp)
        : model_(model),
          mtp_(mtp),
          known_(mtp.new_memory()),
          guessed_(known_),
          workspace_(std::max(scratch_bytes(mtp, {1, tile, Form::parallel}),
                              scratch_bytes(mtp, {1, tile, Form::recurrent}))),
          rows_(2 * tile * model.d_model()),
          last_(model.d_model()),
          chained_(model.d_model()),
          logits_(model.vocab_size()) {
        if (mtp.d_model() != model.d_model())
            raise({.field = "d_model of the draft",
                   .expected = std::to_string(model.d_model()),
                   .found = std::to_string(mtp.d_model()),
                   .fix = "open both from one folder"});
    }

    Index vocab_size() const noexcept { return model_.vocab_size(); }
    void reset() noexcept {
        known_.reset();
        begun_ = guessing_ = false;
    }
    // Makes memory to follow so many tokens. Throws std::bad_alloc, nothing changed.
    void reserve(Index tokens) { known_.reserve(tokens); }
    // The model was fed these tokens, and hidden [n, d] is its output after the final norm for
    // each.
    void follow(std::span<const token_id> tokens, MatrixView<const T> hidden) noexcept {
        const auto n = static_cast<Index>(tokens.size());
        for (Index first = 0; first < n; first += tile)
            follow_tile(tokens.data() + first,
                        hidden.middle_rows(first, std::min(tile, n - first)));
        guessing_ = false;
    }
    void begin(std::span<const token_id>, MatrixView<const T>) noexcept { guessing_ = false; }
    std::span<const T> next(token_id token) {
        if (!guessing_) {
            guessed_ = known_;
            std::copy_n(last_.data(), last_.size(), chained_.data());
        }
        guessing_ = true;
        guessed_.reserve(1);
        const Index d = model_.d_model();
        const MatrixView<T> h(chained_.data(), 1, d), embedded(rows_.data(), 1, d);
        model_.weights().embed.copy_row(token, embedded.data());
        run(guessed_, h, embedded, h);
        model_.head(MatrixView<const T>(h), {logits_.data(), 1, vocab_size()});
        return logits_.span();
    }

private:
    static constexpr Index tile = 64;

    // Token i stands behind the hidden state of the token before it, which may be of the call
    // before.
    void follow_tile(const token_id* tokens, MatrixView<const T> hidden) noexcept {
        const Index n = hidden.rows(), d = model_.d_model(), first = begun_ ? 0 : 1;
        if (n == 0) return;
        const MatrixView<T> h(rows_.data(), n, d), embedded(rows_.data() + tile * d, n, d);
        std::copy_n(last_.data(), d, h.row(0));
        for (Index i = 0; i < n; ++i) {
            if (i > 0) std::copy_n(hidden.row(i - 1), d, h.row(i));
            model_.weights().embed.copy_row(tokens[i], embedded.row(i));
        }
        run(known_, h.middle_rows(first, n - first), embedded.middle_rows(first, n - first),
            h.middle_rows(first, n - first));
        std::copy_n(hidden.row(n - 1), d, last_.data());
        begun_ = true;
    }
    void run(StreamMemory& memory, MatrixView<const T> h, MatrixView<const T> embedded,
             MatrixView<T> out) noexcept {
        const Index n = out.rows();
        if (n == 0) return;
        Arena arena(workspace_.span());
        const Stream stream = memory.stream();
        mtp_.forward(h, embedded, Streams(&stream, 1), n, out, Form::recurrent, arena);
        memory.advance(n);
    }

    const Model& model_;
    const HybridMtp<T>& mtp_;
    StreamMemory known_, guessed_;
    AlignedBuffer<std::byte> workspace_;
    AlignedBuffer<T> rows_;     // [2·tile, d], hidden states and embeddings of a tile
    AlignedBuffer<T> last_;     // [d], the hidden state of the last token fed
    AlignedBuffer<T> chained_;  // [d], that which the next guess is drafted from
    AlignedBuffer<T> logits_;
    bool begun_ = false;     // last_ is there
    bool guessing_ = false;  // guessed_ goes on from known_
};

}  // namespace HYDRALM_NAMESPACE
