// A mixer that is not the library's: linear attention with one learned decay per head.
//
//   [q; k; v] = qkv_proj x,  γ = σ(decay),  S_t = γ S_{t−1} + k_tᵀ v_t,  o_t = q_t S_t / √D,
//   y = o_proj o
//
// One header in a user's project; docs/your-own-mixer.md goes through it. Source: Sun et al.,
// Retentive Network (arXiv 2307.08621) §2.1, with the decay learned and without rotation.
#pragma once

#include <hydralm/core/parallel.hpp>
#include <hydralm/kernels/matmul/backward.hpp>
#include <hydralm/layers/module.hpp>

#include <cmath>

namespace my {

using namespace hydralm;

template <Real T, Index Width, Index Heads>
class DecayedAttention {
    static constexpr Index D = Width / Heads;
    using Row = Eigen::Map<Eigen::Matrix<T, 1, D>>;
    using Square = Eigen::Map<Eigen::Matrix<T, D, D, Eigen::RowMajor>>;

public:
    using Scalar = T;
    constexpr Index d_model() const noexcept { return Width; }
    template <class V>
    constexpr void describe(V& v) const {
        v.module("decayed_attention");
        v.option("d_model", Width);
        v.option("n_heads", Heads);
    }

    // Tensors, with the law of each: decays begin at σ(3) = 0.95.
    template <class Storage>
    struct Parameters {
        typename Storage::Matrix qkv_proj{};
        typename Storage::Vector decay{};
        typename Storage::Matrix o_proj{};
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.qkv_proj, "qkv_proj.weight", laws::projection, 3 * Width, Width, 3);
        v.vector(p.decay, "decay", laws::constant(ParameterRole::decay_bias, 3.0), Heads);
        v.matrix(p.o_proj, "o_proj.weight", laws::residual_projection, Width, Width);
    }

    // What a stream carries on.
    struct State {
        T* S;  // [Heads, D, D], rows are keys
    };
    template <class S, class V>
    constexpr void visit_state(S& s, V& v) const {
        v.array(s.S, Heads * D * D);
    }

    // What a call needs, what it leaves for backward, and what it leaves for rollback.
    struct Scratch {
        MatrixView<T> qkv, o;  // [B·N, 3·Width], [B·N, Width]
    };
    template <class V>
    constexpr void visit_scratch(Scratch& s, V& v, const Call& call) const {
        if (call.recorded) return;  // the tape has them
        v.matrix(s.qkv, call.rows(), 3 * Width);
        v.matrix(s.o, call.rows(), Width);
    }
    struct Tape {
        MatrixView<T> qkv, o;
        T* before;  // [B, Heads, D, D], the states before the call
    };
    template <class V>
    constexpr void visit_tape(Tape& t, V& v, const Call& call) const {
        v.matrix(t.qkv, call.rows(), 3 * Width);
        v.matrix(t.o, call.rows(), Width);
        v.array(t.before, call.streams * Heads * D * D);
    }
    struct History {
        State before;
        T* gamma;           // [Heads]
        MatrixView<T> qkv;  // [N, 3·Width]
    };
    template <class V>
    constexpr void visit_history(History& h, V& v, Index N) const {
        visit_state(h.before, v);
        v.array(h.gamma, Heads);
        v.matrix(h.qkv, N, 3 * Width);
    }

    // Prefill, batches, steps and training.
    template <class P, class R = NoTape>
    void forward(const P& p, Streams streams, Index N, MatrixView<const T> x, MatrixView<T> y,
                 Form form, Write write, Arena& arena, const R& tape = {}) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count();
        const Scratch s = take_scratch(*this, arena, {B, N, form, records<R>});
        MatrixView<T> qkv = s.qkv, o = s.o;
        if constexpr (records<R>) {
            qkv = tape.qkv, o = tape.o;
            for (Index b = 0; b < B; ++b)
                std::copy_n(bind_state(*this, streams, b).S, Heads * D * D,
                            tape.before + b * Heads * D * D);
        } else if (streams.history() != nullptr) {
            const History history = take_history(*this, *streams.history(), N);
            std::copy_n(bind_state(*this, streams, 0).S, Heads * D * D, history.before.S);
            for (Index h = 0; h < Heads; ++h) history.gamma[h] = gamma(p, h);
            qkv = history.qkv;
        }
        kernels::matmul(x, p.qkv_proj, qkv);
        parallel_for(B * Heads, [&](Index task) {
            const Index b = task / Heads, h = task % Heads;
            Square S = head(bind_state(*this, streams, b).S, h);
            for (Index n = b * N; n < (b + 1) * N; ++n) {
                update(S, gamma(p, h), row(qkv, 1, h, n), row(qkv, 2, h, n));
                Row(o.row(n) + h * D) = row(qkv, 0, h, n) * S / std::sqrt(static_cast<T>(D));
            }
        });
        project(o, p.o_proj, y, write);
    }

    // The updates of the tokens that stay once more, from the state before.
    void rollback(const State& state, std::int64_t, Index N, Index kept,
                  Arena& memory) const noexcept {
        const History history = take_history(*this, memory, N);
        std::copy_n(history.before.S, Heads * D * D, state.S);
        for (Index h = 0; h < Heads; ++h)
            for (Index n = 0; n < kept; ++n)
                update(head(state.S, h), history.gamma[h], row(history.qkv, 1, h, n),
                       row(history.qkv, 2, h, n));
    }

    // dS runs backwards; the states it meets are computed again, forwards.
    struct BackwardScratch {
        MatrixView<T> dqkv, dout;
        T* states;  // [B, Heads, N + 1, D, D]
        T* dgamma;  // [B, Heads]
    };
    template <class V>
    constexpr void visit_backward_scratch(BackwardScratch& s, V& v, const Call& call) const {
        v.matrix(s.dqkv, call.rows(), 3 * Width);
        v.matrix(s.dout, call.rows(), Width);
        v.array(s.states, call.streams * Heads * (call.tokens + 1) * D * D);
        v.array(s.dgamma, call.streams * Heads);
    }
    template <class P, class Q, class G>
    void backward(const P& p, const Q& transposed, const Tape& tape, Streams streams, Index N,
                  MatrixView<const T> x, MatrixView<const T> dy, MatrixView<T> dx, G& gradients,
                  Streams dstates, Arena& arena) const noexcept {
        const Arena::Scope scope(arena);
        const Index B = streams.count();
        const BackwardScratch s = take_backward_scratch(*this, arena, B, N);
        kernels::matmul_gradient(dy, tape.o, gradients.o_proj);
        kernels::matmul(dy, transposed.o_proj, s.dout);
        parallel_for(B * Heads, [&](Index task) {
            s.dgamma[task] = backward_head(gamma(p, task % Heads), tape, s, N, task / Heads,
                                           task % Heads, bind_state(*this, dstates, task / Heads));
        });
        for (Index task = 0; task < B * Heads; ++task) {  // in order: the same bits on any threads
            const T g = gamma(p, task % Heads);
            gradients.decay[static_cast<std::size_t>(task % Heads)] +=
                s.dgamma[task] * g * (T(1) - g);
        }
        kernels::matmul_gradient(s.dqkv, x, gradients.qkv_proj);
        kernels::matmul(s.dqkv, transposed.qkv_proj, dx);
    }

private:
    static Square head(T* states, Index h) noexcept { return Square(states + h * D * D); }
    // Row n of q, k or v (part 0, 1, 2) of head h.
    static Row row(MatrixView<T> qkv, Index part, Index h, Index n) noexcept {
        return Row(qkv.row(n) + part * Width + h * D);
    }
    template <class P>
    static T gamma(const P& p, Index h) noexcept {
        return T(1) / (T(1) + std::exp(-p.decay[static_cast<std::size_t>(h)]));
    }
    static void update(Square S, T g, const Row& k, const Row& v) noexcept {
        for (Index i = 0; i < D; ++i) S.row(i) = g * S.row(i) + k(i) * v;
    }

    // dq, dk, dv of head h of stream b; the gradient of γ.
    T backward_head(T g, const Tape& tape, const BackwardScratch& s, Index N, Index b, Index h,
                    const State& dstate) const noexcept {
        const MatrixView<T> qkv = tape.qkv.middle_rows(b * N, N),
                            dqkv = s.dqkv.middle_rows(b * N, N),
                            dout = s.dout.middle_rows(b * N, N);
        T* const states = s.states + (b * Heads + h) * (N + 1) * D * D;
        std::copy_n(tape.before + (b * Heads + h) * D * D, D * D, states);
        for (Index n = 0; n < N; ++n) {
            std::copy_n(states + n * D * D, D * D, states + (n + 1) * D * D);
            update(head(states, n + 1), g, row(qkv, 1, h, n), row(qkv, 2, h, n));
        }
        Square dS = head(dstate.S, h);
        const T scale = T(1) / std::sqrt(static_cast<T>(D));
        T dgamma(0);
        for (Index n = N; n-- > 0;) {
            const Square S = head(states, n + 1), past = head(states, n);
            const Row q = row(qkv, 0, h, n), k = row(qkv, 1, h, n), v = row(qkv, 2, h, n),
                      out(dout.row(n) + h * D);
            Row dq = row(dqkv, 0, h, n), dk = row(dqkv, 1, h, n), dv = row(dqkv, 2, h, n);
            dq = scale * out * S.transpose();
            dS += scale * q.transpose() * out;
            dk = v * dS.transpose();
            dv = k * dS;
            dgamma += dS.cwiseProduct(past).sum();
            dS *= g;
        }
        return dgamma;
    }
};

}  // namespace my
