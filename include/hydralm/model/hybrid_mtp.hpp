// HybridMtp: the module of multi-token prediction of a published hybrid, one block with attention
// of its own: from the hidden state of a token and the token that follows it to the hidden state
// whose logits, under the model's head, are for the token after that.
//
//   u_t = proj [norm_e(embed[token_{t+1}]); norm_h(h_t)],  h'_t = norm(block(u)_t),  the block's
//   attention at position t; h the model's output after its final norm
//
// Source: DeepSeek-V3 (arXiv 2412.19437) §2.2, as Qwen3.5 has it.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "hydralm/layers/rms_norm.hpp"
#include "hydralm/layers/swiglu.hpp"
#include "hydralm/model/block.hpp"
#include "hydralm/model/hybrid_shape.hpp"
#include "hydralm/model/weight_memory.hpp"
#include "hydralm/state/stream_memory.hpp"

namespace HYDRALM_NAMESPACE {

// T: scalar of weights, activations and state. Movable, not copyable.
template <Real T>
class HybridMtp {
    using Norm = RmsNorm<T, RuntimeNormShape>;
    using BlockType = Block<GroupedAttention<T>, SwiGLU<T, RuntimeMlpShape>, Norm>;

public:
    using Scalar = T;

    // All parameters zero. shape has such a module (mtp). accept(parameters) may throw before
    // memory for them is taken.
    template <class Accept>
    HybridMtp(const HybridShape& shape, const Accept& accept)
        : d_(shape.d_model),
          norm_({shape.d_model, shape.epsilon}),
          block_(GroupedAttention<T>(*shape.mtp),
                 SwiGLU<T, RuntimeMlpShape>({shape.d_model, shape.hidden}), norm_) {
        Index bytes = 0;
        describe_parameters(*this, [&](const ParameterInfo& info) {
            parameters.push_back(info);
            largest_ = std::max(largest_, info.size());
            bytes += packed_size<T>(info);
        });
        accept(std::span<const ParameterInfo>(parameters));
        memory_ = WeightMemory(bytes);
        BindPacked<T> bind(memory_.data());
        visit(weights_, bind);
    }

    std::vector<ParameterInfo> parameters;  // in file order: name, shape, law
    Index d_model() const noexcept { return d_; }

    template <class Storage>
    struct Parameters {
        typename Norm::template Parameters<Storage> norm_e{}, norm_h{};  // [d]
        typename Storage::Matrix proj{};                                 // [d, 2d], embedding first
        typename BlockType::template Parameters<Storage> block{};
        typename Norm::template Parameters<Storage> norm{};  // [d]
    };
    template <class P, class V>
    void visit(P& p, V& v) const {
        v.nested("norm_e", [&] { norm_.visit(p.norm_e, v); });
        v.nested("norm_h", [&] { norm_.visit(p.norm_h, v); });
        v.matrix(p.proj, "proj.weight", laws::projection, d_, 2 * d_);
        v.nested("block", [&] { block_.visit(p.block, v); });
        v.nested("norm", [&] { norm_.visit(p.norm, v); });
    }

    // f(info, values) fills every tensor, row-major, in file order.
    template <class F>
    void set_parameters(const F& f) {
        std::byte* const memory = memory_.to_write();
        ZeroPages<T> scratch(largest_);
        StorePacked<T, const F> store(memory, scratch.span(), f);
        visit(weights_, store);
    }

    // The memory of a stream before its first token.
    StreamMemory new_memory(const BankPolicy& policy = {}) const {
        StateParts parts;
        add_state(block_, parts, policy);
        return {std::move(parts), policy.state};
    }

    struct Scratch {
        MatrixView<T> both;  // [B·N, 2d]
        MatrixView<T> x;     // [B·N, d]
    };
    template <class V>
    void visit_scratch(Scratch& s, V& v, const Call& call) const {
        v.matrix(s.both, call.rows(), 2 * d_);
        v.matrix(s.x, call.rows(), d_);
        v.within(scratch_bytes(block_, call));
    }

    // out = h' of N tokens of each of B streams; h, embedded, out [B·N, d]; out may be h. arena:
    // scratch_bytes(*this, {B, N, form}), given back. No allocation; never throws.
    void forward(MatrixView<const T> h, MatrixView<const T> embedded, Streams streams, Index N,
                 MatrixView<T> out, Form form, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Scratch s = take_scratch(*this, arena, {streams.count(), N, form});
        norm_.forward(weights_.norm_e, embedded, s.both.middle_cols(0, d_));
        norm_.forward(weights_.norm_h, h, s.both.middle_cols(d_, d_));
        kernels::matmul(s.both, weights_.proj, s.x);
        block_.forward(weights_.block, streams, N, s.x, form, arena);
        norm_.forward(weights_.norm, MatrixView<const T>(s.x), out);
    }

private:
    Index d_, largest_ = 0;
    Norm norm_;
    BlockType block_;
    WeightMemory memory_{0};
    Parameters<PackedStorage<T>> weights_{};
};

}  // namespace HYDRALM_NAMESPACE
