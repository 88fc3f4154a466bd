// SumBehindLayers: the sum of a gradient over ranks, begun while the way back goes on.
//
// Behind a layer the gradient of its parameters, and of all that come after them in file order, is
// final: it joins the sum of this rank's batches, and goes to the ranks that own it, while the
// layers before it are computed. Each element takes the same way through the same tree as without:
// the same bits.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hydralm/layers/parameters.hpp"
#include "hydralm/model/layer_watch.hpp"
#include "hydralm/training/parameter_share.hpp"

namespace HYDRALM_NAMESPACE {

// Fewer parameters wait for those of the next layer: a message has its price.
inline constexpr Index least_bucket = Index{1} << 14;

// Of the last batch of one step. All that it is given outlives it. What is summed has its memory in
// ParameterShare; beside it a message takes some numbers a rank, without which the process ends
// (LayerWatch).
template <Real T>
class SumBehindLayers final : public LayerWatch {
public:
    // gradient: of all of the model's parameters, in file order.
    template <class Model>
    SumBehindLayers(const Model& model, std::span<T> gradient, PairwiseSum<T>& batches,
                    ParameterShare<T>& ranks)
        : gradient_(gradient), batches_(batches), ranks_(ranks), end_(std::ssize(gradient)) {
        Index first = 0;
        for (const ParameterInfo& info : model.parameters) {
            if (is_layer(info.name(), std::ssize(layers_))) layers_.push_back(first);
            first += info.size();
        }
    }

    void after(Index layer) noexcept override {
        if (layer < std::ssize(layers_))
            begin(layers_[static_cast<std::size_t>(layer)], least_bucket);
    }
    // Behind the way back.
    void begin_rest() { begin(0, 1); }

private:
    // Whether it is the name of a tensor of a layer: blocks.7.…
    static bool is_layer(std::string_view name, Index layer) {
        return name.starts_with("blocks." + std::to_string(layer) + ".");
    }
    // Of what is not begun, all from `first` on, unless it is less than `least`.
    void begin(Index first, Index least) {
        if (end_ - first < least) return;
        batches_.add_part(first, gradient_.subspan(static_cast<std::size_t>(first),
                                                   static_cast<std::size_t>(end_ - first)));
        ranks_.begin_sum(gradient_, first, end_);
        end_ = first;
    }

    std::span<T> gradient_;
    PairwiseSum<T>& batches_;
    ParameterShare<T>& ranks_;
    std::vector<Index> layers_;  // where the parameters of each begin
    Index end_;                  // of those whose sum is not begun
};

}  // namespace HYDRALM_NAMESPACE
