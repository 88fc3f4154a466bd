// One text over ranks: each computes a run of its tokens, layer by layer, from what the ranks
// before pass on. Agrees with one rank to rounding; the tests hold small models to 2e-4 of the
// largest logit in float, 1e-10 in double. A selection of retrieval may hang on less.
//
// In every layer a rank computes the state behind its own run first: the last K − 1 or W − 1 inputs
// of the rank before give it what convolutions and windows carry; the delta rule's state moves by
// an affine map, so that what it was before may come later; keys and values of banks depend on
// nothing else. Then the states pass from rank to rank, S ← A S + U, banks go to all later ranks,
// and forward computes the run once more, from the right state.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>

#include "hydralm/kernels/cross_entropy/forward.hpp"
#include "hydralm/model/model_calls.hpp"
#include "hydralm/training/same_ranks.hpp"
#include "hydralm/training/weights_crc.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// What the ranks of one text have in common.
template <class Model>
Json facts_of_text(const Model& model, std::span<const token_id> text,
                   const typename Model::State& state) {
    Json halos = Json::array(), banks = Json::array();
    model.stack.each_layer(
        model.weights().blocks,
        [&](const auto& block, const auto&, const StateExtent&) { halos.push_back(block.halo()); });
    for (const PageBank& bank : state.banks()) {
        const BankPolicy& policy = bank.policy();
        banks.push_back({{"chunk, tokens", bank.layout().chunk_tokens},
                         {"format", name(policy.format)},
                         {"page, bytes", PageBank::page_bytes(bank.layout().kinds[0], policy.format,
                                                              policy.bounded())},
                         {"exact_chunks", policy.exact_chunks},
                         {"pooled_chunks", policy.pooled_chunks},
                         {"open_groups", policy.open_groups},
                         {"sparse.chunks", policy.sparse.chunks},
                         {"sparse.recent", policy.sparse.recent}});
    }
    return {{"program", program_facts()},
            {"text, tokens", text.size()},
            {"text, tokens, CRC-32", crc32(std::as_bytes(text))},
            {"weights, CRC-32", weights_crc(model)},
            {"shape of states", model.shape_of_states()},
            {"state, bytes", state.bytes().size()},
            {"tile of the state", state.tile()},
            {"tokens before a run", halos},
            {"banks", banks}};
}

// Where the runs of all ranks end: equal ones, of whole chunks of every bank, no shorter than any
// window. Throws Error for a model whose layers cannot be cut, and for a text too short.
template <class Model>
std::vector<Index> ends_of_runs(const Model& model, const StreamMemory& state, Index tokens,
                                Index ranks) {
    Index layer = 0, halo = 1, unit = 1;
    model.stack.each_layer(
        model.weights().blocks, [&](const auto& block, const auto&, const StateExtent&) {
            if (!block.cuts())
                raise({.field = "layer " + std::to_string(layer),
                       .expected = "a layer whose state passes from rank to rank",
                       .found = "one of a published model, or your own without halo and advance",
                       .fix = "compute the text on one rank"});
            halo = std::max(halo, block.halo());
            ++layer;
        });
    for (const PageBank& bank : state.banks()) {
        if (!bank.grows())
            raise({.field = "banks",
                   .expected = "banks that keep every token",
                   .found = "banks that drop the past",
                   .fix = "give run_over_ranks states whose memory is not bounded"});
        unit = std::lcm(unit, bank.layout().chunk_tokens);
    }
    if (const Index least = ranks * round_up(halo, unit); tokens < least)
        raise({.field = "text",
               .expected = "at least " + std::to_string(least) + " tokens for " +
                           std::to_string(ranks) + " ranks",
               .found = std::to_string(tokens),
               .fix = "start fewer ranks"});
    std::vector<Index> ends;
    for (Index r = 1; r < ranks; ++r) ends.push_back(tokens / unit * r / ranks * unit);
    ends.push_back(tokens);
    return ends;
}

// The run of one rank. All memory is taken by the constructor.
template <class Model>
class RunOfText {
public:
    using T = typename Model::Scalar;

    RunOfText(const Model& model, typename Model::State& state, Ranks& ranks,
              std::span<const Index> ends)
        : model_(model),
          state_(state),
          ranks_(ranks),
          ends_(ends),
          first_(first_of(ranks.rank())),
          values_((ends[static_cast<std::size_t>(ranks.rank())] - first_) * model.d_model()),
          x_(values_.data(), values_.size() / model.d_model(), model.d_model()) {
        state.reserve_growth(first_ + x_.rows());
        Index map = 0, bytes = 0, inputs = 0, own = 0, other = 0;
        model.stack.each_layer(
            model.weights().blocks, [&](const auto& block, const auto&, const StateExtent& place) {
                const StateExtent extent = block.state_extent();
                map = std::max(map, block.map_size());
                bytes = std::max(bytes, extent.bytes);
                inputs = std::max(inputs, block.halo() * model.d_model());
                for (int r = 0; extent.banks > 0 && r <= rank(); ++r) {
                    Index& most = r < rank() ? other : own;
                    most = std::max(most, pages_of(r, *streams(state.stream(), place).banks(0)));
                }
            });
        map_ = behind_ = AlignedBuffer<T>(map);
        before_ = AlignedBuffer<std::byte>(bytes);
        inputs_ = AlignedBuffer<T>(inputs);
        if (!is_last()) own_pages_ = AlignedBuffer<std::byte>(own);
        other_pages_ = AlignedBuffer<std::byte>(other);
    }

    // f(hidden [n, d] after norm_f, index of its first token), tile by tile.
    template <class F>
    void operator()(std::span<const token_id> text, const F& f) {
        for (Index i = 0; i < x_.rows(); ++i)
            model_.weights().embed.copy_row(text[static_cast<std::size_t>(first_ + i)], x_.row(i));
        model_.stack.each_layer(model_.weights().blocks,
                                [&](const auto& block, const auto& p, const StateExtent& place) {
                                    layer(block, p, place);
                                });
        for_tiles(x_, first_, {}, [&](Streams at, Index n, MatrixView<T> rows, Arena& arena) {
            const auto normed = take_matrix<T>(arena, n, model_.d_model());
            model_.norm.forward(model_.weights().norm_f, rows, normed);
            f(MatrixView<const T>(normed), static_cast<std::size_t>(at.position(0)));
        });
        state_.advance(first_ + x_.rows());
    }

private:
    static constexpr int nobody = Ranks::nobody;

    int rank() const noexcept { return ranks_.rank(); }
    bool is_last() const noexcept { return rank() + 1 == ranks_.count(); }
    Index first_of(int rank) const noexcept {
        return rank == 0 ? 0 : ends_[static_cast<std::size_t>(rank - 1)];
    }
    Streams streams(const Stream& stream, const StateExtent& place) const noexcept {
        return Streams(&stream, 1).at(place);
    }

    // f(streams, n, rows, arena) for rows of tokens from position on, in pieces that end at
    // multiples of the state's tile.
    template <class F>
    void for_tiles(MatrixView<T> rows, std::int64_t position, const StateExtent& place,
                   const F& f) {
        const Index tile = state_.tile();
        for (Index t = 0, n = 0; t < rows.rows(); t += n) {
            n = std::min<Index>(tile - (position + t) % tile, rows.rows() - t);
            Stream stream = state_.stream();
            stream.position = position + t;
            Arena arena(state_.workspace());
            f(streams(stream, place), n, rows.middle_rows(t, n), arena);
        }
    }

    // x, the inputs of a layer, becomes its outputs; its state that behind the run.
    template <class Block, class P>
    void layer(const Block& block, const P& p, const StateExtent& place) {
        const StateExtent own = block.state_extent();
        take_halo(block, p, place);
        if (block.map_size() > 0 || own.banks > 0) {
            pass_state(block, p, place);
            if (own.banks > 0) pass_pages(block, place);
        }
        for_tiles(x_, first_, place, [&](Streams at, Index n, MatrixView<T> rows, Arena& arena) {
            const std::span banks(at.banks(0), static_cast<std::size_t>(own.banks));
            for (const PageBank& bank : banks) bank.expect_reads(n);
            block.forward(p, at, n, rows, Form::parallel, arena);
            for (const PageBank& bank : banks) bank.release_reads();
        });
    }

    // The state advances over the run and is taken back, but for the banks; what passes on by maps
    // comes from the rank before, and what it becomes behind the run goes to the next.
    template <class Block, class P>
    void pass_state(const Block& block, const P& p, const StateExtent& place) {
        const Stream stream = state_.stream();
        const std::span bytes(stream.bytes + place.bytes,
                              static_cast<std::size_t>(block.state_extent().bytes));
        const std::span S(block.mapped(streams(stream, place)),
                          static_cast<std::size_t>(block.map_size()));
        const std::span behind = behind_.span().first(S.size());
        std::ranges::fill(S, T(0));  // what the halo left is not the past
        if (!is_last()) {
            std::ranges::copy(bytes, before_.data());
            block.identity(map_.data());
            T* const moved = rank() > 0 ? map_.data() : nullptr;  // before the first token S is 0
            for_tiles(x_, first_, place,
                      [&](Streams at, Index n, MatrixView<T> rows, Arena& arena) {
                          block.advance(p, at, n, rows, moved, arena);
                      });
            std::ranges::copy(S, behind.data());
            std::copy_n(before_.data(), bytes.size(), bytes.data());
        }
        for (int r = 1; r < ranks_.count() && block.map_size() > 0; ++r) {  // from r − 1 to r
            ranks_.send<T>(behind, rank() == r - 1 ? r : nobody, S, rank() == r ? r - 1 : nobody);
            if (rank() == r && !is_last()) block.carry(map_.data(), S.data(), behind.data());
        }
    }

    // What convolutions and windows carry into the run, from the last inputs of the rank before.
    template <class Block, class P>
    void take_halo(const Block& block, const P& p, const StateExtent& place) {
        const Index rows = block.halo(), d = model_.d_model();
        if (rows == 0) return;
        const std::span inputs = inputs_.span().first(static_cast<std::size_t>(rows * d));
        const std::span<const T> own(x_.row(x_.rows() - rows), static_cast<std::size_t>(rows * d));
        ranks_.send<T>(own, is_last() ? nobody : rank() + 1, inputs,
                       rank() == 0 ? nobody : rank() - 1);
        if (rank() == 0) return;
        for_tiles({inputs.data(), rows, d}, first_ - rows, place,
                  [&](Streams at, Index n, MatrixView<T> halo, Arena& arena) {
                      block.advance(p, at, n, halo, nullptr, arena);
                  });
    }

    // Bytes of the chunk pages of a rank's run.
    Index pages_of(int of, const PageBank& bank) const noexcept {
        const PageLayout& layout = bank.layout();
        return (first_of(of + 1) / layout.chunk_tokens - first_of(of) / layout.chunk_tokens) *
               PageBank::page_bytes(layout.kinds[0], bank.policy().format, false);
    }
    // The chunk pages of every rank's run go to all ranks behind it.
    template <class Block>
    void pass_pages(const Block& block, const StateExtent& place) {
        const Stream stream = state_.stream();
        const PageBank& bank = *streams(stream, place).banks(0);
        const PageLayout& layout = bank.layout();
        const Index bytes = PageBank::page_bytes(layout.kinds[0], bank.policy().format, false);
        // f(bytes of a page, its place among those of the rank)
        const auto for_pages = [&](int of, const auto& f) {
            const Index begin = first_of(of) / layout.chunk_tokens,
                        end = first_of(of + 1) / layout.chunk_tokens;
            for (Index c = begin; c < end; ++c) {
                bank.expect_page();
                f(bank.pages(0).page(c), (c - begin) * bytes);
            }
        };
        if (!is_last())
            for_pages(rank(), [&](const std::byte* page, Index at) {
                std::copy_n(page, bytes, own_pages_.data() + at);
            });
        // A page is a multiple of 64 bytes.
        const auto words = [&](AlignedBuffer<std::byte>& pages, int of) {
            const Index size = of == nobody ? 0 : pages_of(of, bank);
            return std::span(reinterpret_cast<std::uint64_t*>(pages.data()),
                             static_cast<std::size_t>(size) / sizeof(std::uint64_t));
        };
        for (int step = 1; step < ranks_.count(); ++step) {
            const int to = rank() + step < ranks_.count() ? rank() + step : nobody,
                      from = std::max(rank() - step, nobody);
            ranks_.send<std::uint64_t>(words(own_pages_, to == nobody ? nobody : rank()), to,
                                       words(other_pages_, from), from);
            if (from == nobody) continue;
            for_pages(from, [&](std::byte* page, Index at) {
                std::copy_n(other_pages_.data() + at, bytes, page);
            });
        }
        Arena arena(state_.workspace());
        block.receive(streams(stream, place), 0, first_ / layout.chunk_tokens, arena);
        bank.release_reads();
    }

    const Model& model_;
    typename Model::State& state_;
    Ranks& ranks_;
    std::span<const Index> ends_;
    Index first_;
    AlignedBuffer<T> values_;
    MatrixView<T> x_;  // [tokens of the run, d], before the layer that is computed
    // Of the layer that is computed: its map and its state behind the run; its state before it, to
    // be taken back; inputs before the run; pages of this run, and of another rank's.
    AlignedBuffer<T> map_, behind_;
    AlignedBuffer<std::byte> before_;
    AlignedBuffer<T> inputs_;
    AlignedBuffer<std::byte> own_pages_, other_pages_;
};

}  // namespace detail

// Feeds text [N], the whole of it given to every rank, to a new state: f(hidden [n, d] after
// norm_f, index of its first token in text) for the tokens of this rank's run, tile by tile in
// order. Behind it the state is that after the tokens of this rank and all before: on the last
// rank, that of the text. On one rank it is model.run(text, state, Form::parallel, f).
//
// All ranks call it together, with states of one policy. A rank takes N / ranks tokens, at chunks
// of every bank (of the state's layers) and no fewer than the longest window − 1. It sends, in a
// layer of Gated DeltaNet, H D² numbers and (K − 1) d for the convolution, whatever the length; in
// one of windows (W − 1) d; in one of retrieval or of attention to the whole past, the keys and
// values of its run to each rank behind it. Memory: N / ranks · d numbers, and, where banks are,
// the pages of a layer of two runs, the rank's and another's. Cost: forward, on all but the last
// rank advance (layers/module.hpp) before it, and the CRC-32 of the text and of all weights.
//
// Throws Error, the same on every rank, as model.run does, for a state that has begun, a text too
// short, a layer that cannot be cut, a bounded bank, memory that a rank has not got, and for ranks
// that differ in program, text, weights, states or tile; the states are unchanged then. What f
// throws is its rank's own: behind all that ranks send, so that none waits for it, and with a state
// that is unfit for use until reset().
template <class Model, class F>
void run_over_ranks(const Model& model, std::span<const token_id> text,
                    typename Model::State& state, Ranks& ranks, const F& f) {
    if (ranks.count() == 1) return model.run(text, state, Form::parallel, f);
    detail::expect_same(ranks, [&] {
        model.expect_weights();
        model.expect_own(state);
        if (state.position() != 0)
            raise({.field = "position",
                   .expected = "0",
                   .found = std::to_string(state.position()),
                   .fix = "give every rank a new state"});
        return detail::facts_of_text(model, text, state);
    });
    std::vector<Index> ends;
    std::optional<detail::RunOfText<Model>> run;
    ranks.on_all([&] {
        model.check(text);
        ends = detail::ends_of_runs(model, state, std::ssize(text), ranks.count());
        run.emplace(model, state, ranks, ends);
    });
    (*run)(text, f);
}

// −Σ ln p(token | all before it) of text and how many terms it has, the same on every rank: that of
// Scorer, to rounding. Otherwise as run_over_ranks. Memory beside it: logits of one tile.
template <class Model>
kernels::LossSum score_over_ranks(const Model& model, std::span<const token_id> text,
                                  typename Model::State& state, Ranks& ranks) {
    using T = typename Model::Scalar;
    const Index V = model.vocab_size();
    AlignedBuffer<T> values;
    std::vector<double> losses;
    ranks.on_all([&] {
        values = AlignedBuffer<T>(state.tile() * V);
        losses.resize(static_cast<std::size_t>(state.tile()));
    });
    kernels::LossSum own, all;
    const auto add = [](kernels::LossSum& sum, const kernels::LossSum& part) {
        sum.sum += part.sum;
        sum.count += part.count;
    };
    run_over_ranks(model, text, state, ranks, [&](MatrixView<const T> hidden, std::size_t first) {
        const MatrixView<T> logits(values.data(), hidden.rows(), V);
        model.head(hidden, logits);
        const auto next = text.subspan(first + 1);
        const auto labels =
            next.first(std::min(next.size(), static_cast<std::size_t>(hidden.rows())));
        add(own, kernels::cross_entropy(logits.middle_rows(0, std::ssize(labels)), labels,
                                        std::span(losses).first(labels.size())));
    });
    for (const kernels::LossSum& part : ranks.gather(own)) add(all, part);
    return all;
}

}  // namespace HYDRALM_NAMESPACE
