// The loss of multi-token prediction and its gradient: mean over the modules of their mean
// cross-entropy.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "hydralm/model/mtp.hpp"
#include "hydralm/training/head_loss.hpp"

namespace HYDRALM_NAMESPACE {

// Arena that mtp_gradient takes for B·N rows, and gives back.
template <class Model>
Index mtp_workspace_bytes(const Model& model, Index rows) noexcept {
    using T = typename Model::Scalar;
    if constexpr (!predicts_more<Model>) {
        return 0;
    } else {
        if (model.mtp_depth == 0) return 0;
        const auto& module = model.mtp_module;
        const Index row = arena_bytes<T>(rows * model.d_model());
        return model.mtp_depth * (2 * row + tape_bytes(module, rows, 1)) + 4 * row +
               2 * arena_bytes<token_id>(rows) +
               std::max({training_scratch_bytes(module, rows, 1),
                         head_loss_workspace_bytes(model, rows), model.norm.backward_bytes(rows)});
    }
}

// hidden [B·N, d]: the stack's output after the final norm, of B sequences of N tokens; tokens and
// labels [B·N] as the main loss has them: module i at row t reads token t+i+1 and is scored on
// labels[t+i+1], where the sequence has one. Adds the gradient of weight times the loss to dhidden
// [B·N, d] and to gradients. Returns the loss: mean_i of the mean of −ln p over the scored rows.
// No allocation.
template <class Model, class Transposed, class Flat>
double mtp_gradient(const Model& model, const Transposed& transposed,
                    MatrixView<const typename Model::Scalar> hidden,
                    std::span<const token_id> tokens, std::span<const token_id> labels, Index N,
                    double weight, MatrixView<typename Model::Scalar> dhidden, Flat& gradients,
                    Arena& scratch) noexcept {
    using T = typename Model::Scalar;
    constexpr std::size_t most = max_mtp_depth;
    const auto depth = static_cast<std::size_t>(model.mtp_depth);
    const auto& module = model.mtp_module;
    const Arena::Scope scope(scratch);
    const auto& p = model.weights();
    const Index rows = hidden.rows(), d = model.d_model();
    const auto take = [&] { return take_matrix<T>(scratch, rows, d); };
    const std::span<token_id> next(scratch.take<token_id>(rows), static_cast<std::size_t>(rows)),
        wanted(scratch.take<token_id>(rows), static_cast<std::size_t>(rows));
    // Row r ↦ r + ahead in its sequence: its token and label, or padding and none behind the end.
    const auto shift = [&](Index ahead) {
        for (Index r = 0; r < rows; ++r) {
            const bool inside = r % N + ahead < N;
            const auto from = static_cast<std::size_t>(inside ? r + ahead : 0);
            next[static_cast<std::size_t>(r)] = inside ? tokens[from] : 0;
            wanted[static_cast<std::size_t>(r)] = inside ? labels[from] : kernels::ignore_index;
        }
    };

    std::array<MatrixView<const T>, most + 1> h{hidden};
    std::array<MatrixView<T>, most> embedded;
    std::array<typename std::decay_t<decltype(module)>::Tape, most> tapes{};
    for (std::size_t i = 0; i < depth; ++i) {
        embedded[i] = take();
        const auto out = take();
        shift(static_cast<Index>(i) + 1);
        for (Index r = 0; r < rows; ++r)
            p.embed.copy_row(next[static_cast<std::size_t>(r)], embedded[i].row(r));
        tapes[i] = take_tape(module, scratch, rows, 1);
        module.forward(p.mtp[i], h[i], embedded[i], out, scratch, tapes[i]);
        h[i + 1] = out;
    }

    const auto normed = take(), dlogits = take(), dh = take(), dembedded = take();
    for (Index r = 0; r < rows; ++r) std::fill_n(dh.row(r), d, T(0));
    double loss = 0.0;
    for (std::size_t i = depth; i-- > 0;) {
        shift(static_cast<Index>(i) + 1);
        const Index counted = std::max<Index>(1, kernels::count_labels(wanted));
        model.norm.forward(p.norm_f, h[i + 1], normed);
        const auto sum =
            head_loss_backward(model, transposed, normed, wanted,
                               weight / (static_cast<double>(depth) * static_cast<double>(counted)),
                               dlogits, gradients, scratch);
        loss += sum.mean() / static_cast<double>(depth);
        model.norm.backward(p.norm_f, h[i + 1], dlogits, dh, gradients.norm_f, scratch, dh);
        module.backward(p.mtp[i], transposed.mtp[i], tapes[i], h[i], embedded[i], dh, dh, dembedded,
                        gradients.mtp[i], scratch);
        for (Index r = 0; r < rows; ++r) {
            T* const row = gradients.embed.row(next[static_cast<std::size_t>(r)]);
            if (r % N + static_cast<Index>(i) + 1 < N) out(d, row) += in(dembedded.row(r));
        }
    }
    out(dhidden) += in(dh);
    return loss;
}

}  // namespace HYDRALM_NAMESPACE
