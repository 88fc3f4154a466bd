// LanguageModel: embedding, a stack of blocks, final norm and head as one type.
//
//   x = embed[token];  every block: x += mixer(norm1(x)), x += mlp(norm2(x));  logits = norm_f(x)
//   headᵀ
//
// Three forms that agree to rounding: prefill of a whole text, prefill in pieces from a carried
// state, step by step (model/model_calls.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/layers/transposed_parameters.hpp"
#include "hydralm/model/embedded_weights.hpp"
#include "hydralm/model/model_calls.hpp"
#include "hydralm/model/mtp.hpp"
#include "hydralm/model/stack.hpp"
#include "hydralm/model/weight_memory.hpp"

namespace HYDRALM_NAMESPACE {

// The head of a vocabulary: the embedding matrix again, or one of its own.
struct tied {};
struct untied {};

// Token ids [0, Size).
template <Index Size, class Head = tied>
struct Vocabulary {
    static_assert(Size >= 1, "hydralm: vocabulary: must have at least one token; give its size");
    static_assert(std::is_same_v<Head, tied> || std::is_same_v<Head, untied>,
                  "hydralm: vocabulary: its head must be tied or untied; give one of the two");
    static constexpr Index size = Size;
    static constexpr bool ties = std::is_same_v<Head, tied>;
};

// Layers: a Stack whose shapes are constants. Norm: of what the head reads. Drafts: Mtp or NoMtp.
// Weights: what the matrices are kept in (weights/formats.hpp); states do not depend on it.
//
// A const model may be used by many threads at once, each with its own State. Movable, not
// copyable; one that was moved from is refused where Error is thrown, and may be assigned to. Sizes
// are constants of the type: parameter_count, state_bytes, weight_bytes, workspace_bytes(B, N,
// form).
template <class Words, class Layers, class Norm = typename Layers::NormType, class Drafts = NoMtp,
          class Weights = weights::Float>
class LanguageModel : public ModelCalls<LanguageModel<Words, Layers, Norm, Drafts, Weights>,
                                        typename Layers::Scalar> {
public:
    using Scalar = typename Layers::Scalar;
    using T = Scalar;
    using WeightFormats = Weights;
    static constexpr Layers stack{};
    static constexpr Norm norm{};
    static_assert(detail::LayerFits<stack.first_misfit()>::value);
    static_assert(norm.d_model() == stack.d_model(),
                  "hydralm: norm: must have the width of the stack; make its d_model the same");

    static constexpr Index layers = Layers::size;
    static constexpr Index vocab_size() noexcept { return Words::size; }
    static constexpr Index d_model() noexcept { return stack.d_model(); }
    static constexpr bool ties_head = Words::ties;
    static constexpr Index mtp_depth = Drafts::depth;
    static constexpr auto mtp_module = detail::mtp_module<Drafts>();  // all mtp_depth of them
    static constexpr double mtp_loss_weight = Drafts::loss_weight;
    // What the scheme InitScheme::normal scales by.
    static constexpr double initializer_range = 0.02;

    // ---- parameters
    // ---------------------------------------------------------------------------------------------

    template <class Storage>
    struct Parameters {
        typename Storage::Matrix embed{};  // [V, d]
        typename Layers::template Parameters<Storage> blocks{};
        typename Norm::template Parameters<Storage> norm_f{};
        typename Storage::Matrix lm_head{};  // [V, d] when untied
        detail::MtpParameters<Drafts, Storage> mtp{};
    };
    // The tensors by themselves, without a model: what there is and in which order.
    struct Structure {
        template <class Storage>
        using Parameters = LanguageModel::Parameters<Storage>;
        template <class P, class V>
        static constexpr void visit(P& p, V& v) {
            v.matrix(p.embed, "embed.weight", laws::embedding, vocab_size(), d_model());
            v.nested("blocks", [&] { stack.visit(p.blocks, v); });
            v.nested("norm_f", [&] { norm.visit(p.norm_f, v); });
            if constexpr (!ties_head)
                v.matrix(p.lm_head, "lm_head.weight", laws::head, vocab_size(), d_model());
            if constexpr (mtp_depth > 0)
                v.nested("mtp", [&] {
                    for (std::size_t i = 0; i < p.mtp.size(); ++i)
                        v.nested(detail::decimal(i), [&] { mtp_module.visit(p.mtp[i], v); });
                });
        }
    };

    template <class P, class V>
    static constexpr void visit(P& p, V& v) {
        Structure::visit(p, v);
    }

    static_assert(std::is_same_v<Weights, weights::Float> || detail::formats_fit<Structure>,
                  "hydralm: weights: must be a Storage::Matrix where the law says any_format and a "
                  "Storage::Exact where not; change the field, or the law");
    // Tensors in file order: name, shape, law, format.
    static constexpr const auto& parameters = detail::parameter_table<Structure, T, Weights>;
    static_assert(std::all_of(parameters.begin(), parameters.end(),
                              [](const ParameterInfo& info) {
                                  return detail::columns_fit(info, info.format);
                              }),
                  "hydralm: weights: a matrix of Q8 or Q4 must have at most 57344 columns; give "
                  "the model Float or BF16");
    static constexpr Index parameter_count = [] {
        Index n = 0;
        for (const auto& info : parameters) n += info.size();
        return n;
    }();
    static constexpr Index largest_parameter = [] {
        Index n = 0;
        for (const auto& info : parameters) n = std::max(n, info.size());
        return n;
    }();
    // Bytes of the weights as they are computed with: packed in panels, aligned.
    static constexpr Index weight_bytes = [] {
        Index n = 0;
        for (const auto& info : parameters) n += packed_size<T, Weights>(info);
        return n;
    }();
    // Bytes that one stream carries on, beside what the banks of retrieval layers hold.
    static constexpr Index state_bytes = stack.all_states().bytes;
    // The memory of a stream before its first token. Allocates. Throws Error for a policy that
    // cannot be.
    static StreamMemory new_memory(const BankPolicy& policy = {}) {
        return stack.new_memory(policy);
    }

    // The policy under which the banks of a stream together never take more than budget bytes, in
    // states of at most this tile. Throws Error for a budget too small for one chunk and its mean.
    static BankPolicy bounded_banks(Index budget, BankFormat format = BankFormat::exact,
                                    Index tile = LanguageModel::prefill_tile) {
        return bounded_policy(new_memory().banks(), budget, format, tile);
    }

    // All parameters zero, in memory of the model's own.
    LanguageModel() : memory_(weight_bytes) { bind(); }
    // Weights in the caller's memory: at least weight_bytes, aligned to hydralm::alignment,
    // outliving the model. Its contents become the weights as they are (zeros, or what another such
    // model left there). No allocation.
    explicit LanguageModel(std::span<std::byte> memory) : memory_(memory) {
        if (static_cast<Index>(memory.size()) < weight_bytes ||
            reinterpret_cast<std::uintptr_t>(memory_.data()) % alignment != 0)
            raise({.field = "weight memory",
                   .expected = std::to_string(weight_bytes) + " bytes aligned to " +
                               std::to_string(alignment),
                   .found =
                       std::to_string(memory.size()) + " bytes, " +
                       std::to_string(reinterpret_cast<std::uintptr_t>(memory.data()) % alignment) +
                       " beyond that alignment",
                   .fix = "give alignas(64) storage of the model's weight_bytes"});
        bind();
    }
    // Weights where they lie in the program, for ever: never written. No allocation.
    template <class Model, Index vector_bytes>
    explicit LanguageModel(const EmbeddedWeights<Model, vector_bytes>& embedded) noexcept
        : memory_(embedded.bytes()) {
        static_assert(std::is_base_of_v<LanguageModel, Model>,
                      "hydralm: embedded weights: must be those of a model of this config and "
                      "format; name the model as their header does");
        bind();
    }
    template <class Model, Index vector_bytes>
    explicit LanguageModel(const EmbeddedWeights<Model, vector_bytes>&&) = delete;  // ends too soon
    LanguageModel(LanguageModel&&) noexcept = default;
    LanguageModel& operator=(LanguageModel&&) noexcept = default;
    // Throws Error when this model was moved from. Called by what takes a model and throws Error.
    void expect_weights() const { memory_.expect(); }

    // f(const ParameterInfo&, std::span<T> values) fills every tensor, row-major, in file order.
    // Allocates one tensor's worth of scratch. Throws Error where weights are embedded. When f
    // throws, the tensors before have their new values.
    template <class F>
    void set_parameters(F f) {
        std::byte* const memory = memory_.to_write();
        ZeroPages<T> scratch(largest_parameter);
        StorePacked<T, F> store(memory, scratch.span(), f);
        Structure::visit(weights_, store);
    }
    // f(const ParameterInfo&, std::span<const T> values) is shown every tensor, row-major, in file
    // order.
    template <class F>
    void get_parameters(F f) const {
        expect_weights();
        AlignedBuffer<T> scratch(largest_parameter);
        ReadPacked<T, F> read(scratch.span(), f);
        Structure::visit(weights_, read);
    }
    const Parameters<PackedStorage<T, Weights>>& weights() const noexcept { return weights_; }

    // ---- one stream: ModelCalls, and
    // ---------------------------------------------------------------------------------------------

    using State = StreamValues<T, LanguageModel>;

    // sink("<layer>.<name>", shape, std::vector<T>) for every array of the state, in the layout of
    // files: conv_cache [3I, K−1] and S [H, Dv, Dk]; k_cache and v_cache [H, min(position, W), D],
    // oldest first; conv_cache, keys and values [H, position, D], summaries [H, position/C, D] (of
    // a bounded bank, the last of them); k_cache and v_cache [Hkv, position, D]. Allocates.
    template <class Sink>
    void export_state(State& state, const Sink& sink) const {
        constexpr auto offsets = stack.state_offsets();
        const Stream stream = state.stream();
        stack.for_each([&](const auto& block, auto i) {
            const auto part = bind_state(block, Streams(&stream, 1).at(offsets[i]), 0);
            if constexpr (exports_state<std::decay_t<decltype(block.mixer())>>)
                block.mixer().export_state(
                    part, state.position(),
                    [&](const char* name, auto shape, const std::vector<T>& values) {
                        sink(std::to_string(i) + "." + name, shape, values);
                    });
        });
    }

    // ---- many streams
    // -------------------------------------------------------------------------------------------

    // Scratch of forward for B sequences of N tokens.
    static constexpr Index workspace_bytes(Index B, Index N, Form form = Form::parallel) noexcept {
        return 2 * arena_bytes<T>(B * N * d_model()) + scratch_bytes(stack, {B, N, form}) +
               kernels::quantised_workspace_bytes(B * N, detail::widest_in_blocks(parameters));
    }

    // Takes N tokens of each of B streams through the stack: tokens [B·N], stream after stream, all
    // in [0, V). Returns rms(x; norm_f) [B·N, d] in the arena. The states advance; positions are
    // the caller's. One read of the weights for all streams; every row has the bits it would have
    // alone. No allocation; never throws.
    MatrixView<T> forward(const token_id* tokens, Streams streams, Index N, Form form,
                          Arena& arena) const noexcept;

    // logits [M, V] = hidden [M, d] · headᵀ.
    void head(MatrixView<const T> hidden, MatrixView<T> logits) const noexcept;

private:
    void bind() noexcept {
        BindPacked<T> binder(memory_.data());
        Structure::visit(weights_, binder);
    }

    WeightMemory memory_;
    Parameters<PackedStorage<T, Weights>> weights_;
};

// Outside of the class, and so not inline: where they are declared `extern template`, nothing of
// these two is compiled again.

template <class Words, class Layers, class Norm, class Drafts, class Weights>
auto LanguageModel<Words, Layers, Norm, Drafts, Weights>::forward(const token_id* tokens,
                                                                  Streams streams, Index N,
                                                                  Form form,
                                                                  Arena& arena) const noexcept
    -> MatrixView<T> {
    const Index rows = streams.count() * N;
    const MatrixView<T> x(arena.take<T>(rows * d_model()), rows, d_model());
    const MatrixView<T> normed(arena.take<T>(rows * d_model()), rows, d_model());
    for (Index r = 0; r < rows; ++r) weights_.embed.copy_row(tokens[r], x.row(r));
    stack.forward(weights_.blocks, streams, N, x, form, arena);
    norm.forward(weights_.norm_f, x, normed);
    return normed;
}

template <class Words, class Layers, class Norm, class Drafts, class Weights>
void LanguageModel<Words, Layers, Norm, Drafts, Weights>::head(
    MatrixView<const T> hidden, MatrixView<T> logits) const noexcept {
    if constexpr (ties_head) kernels::matmul(hidden, weights_.embed, logits);
    else kernels::matmul(hidden, weights_.lm_head, logits);
}

}  // namespace HYDRALM_NAMESPACE
