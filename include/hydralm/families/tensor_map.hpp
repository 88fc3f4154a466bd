// TensorMap: of which rows of which tensors of a published checkpoint the parameters of a model are
// made.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "hydralm/io/checkpoint.hpp"
#include "hydralm/io/stored_rows.hpp"
#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE::families {

// Of a tensor that has `rows` of them: rows [first, first + count), and as many from every stride
// on, `times` in all; and the same from every shift on, `groups` times.
struct TensorRows {
    std::string tensor;
    Index rows = 0;
    Index first = 0;
    Index count = 0;
    Index times = 1;
    Index stride = 0;
    Index groups = 1;
    Index shift = 0;
};
inline TensorRows whole(std::string tensor, Index rows) {
    return {std::move(tensor), rows, 0, rows};
}

// Columns of a matrix in another order than the parameter's: block i·stride + j of `width` columns
// is the parameter's j·times + i, i < times, j < stride. times = 1: in the same.
struct TensorColumns {
    Index width = 0;
    Index times = 1;
    Index stride = 0;

    // row, of the file, becomes the parameter's. spare: as long.
    template <class T>
    void reorder(T* row, std::span<T> spare) const noexcept {
        std::copy_n(row, spare.size(), spare.data());
        for (Index i = 0; i < times; ++i)
            for (Index j = 0; j < stride; ++j)
                std::copy_n(spare.data() + (i * stride + j) * width, width,
                            row + (j * times + i) * width);
    }
    // Whether blocks of weights stay together.
    bool keeps_blocks() const noexcept { return times == 1 || width % weights::block_size == 0; }
};

// The rows of a parameter, one part behind the other, each element of(x) with `plus` added; without
// parts, every element is plus.
struct TensorSource {
    std::vector<TensorRows> parts;
    double plus = 0.0;
    double (*of)(double x) = nullptr;  // null: x
    TensorColumns columns{};
};

class TensorMap {
public:
    // name: of the model's parameter.
    void put(std::string name, std::vector<TensorRows> parts, double plus = 0.0) {
        put_source(std::move(name), {std::move(parts), plus});
    }
    void put_source(std::string name, TensorSource source) {
        sources_[std::move(name)] = std::move(source);
    }
    // The SwiGLU of block i: prefix + gate_proj, up_proj and down_proj.
    void put_mlp(const std::string& block, const std::string& prefix, Index d_model, Index hidden) {
        put(block + "mlp.w_fused.weight",
            {whole(prefix + "gate_proj.weight", hidden), whole(prefix + "up_proj.weight", hidden)});
        put(block + "mlp.w_down.weight", {whole(prefix + "down_proj.weight", d_model)});
    }
    // Tensors whose names begin so are none of the model's.
    void skip(std::string prefix) { skipped_.push_back(std::move(prefix)); }
    // A tensor that may be there, and says what another one says.
    void repeat(std::string name) { repeated_.insert(std::move(name)); }
    bool repeats(std::string_view name) const { return repeated_.contains(name); }

    const TensorSource& source(const ParameterInfo& info) const {
        const auto found = sources_.find(info.name());
        if (found == sources_.end())
            raise({.field = std::string(info.name()),
                   .expected = "a source for every parameter",
                   .found = "none",
                   .fix = "the family's file must name it"});
        return found->second;
    }

    // Throws Error unless the checkpoint has every tensor, in its shape and of a floating dtype,
    // and none that is neither read nor skipped.
    void expect(const Checkpoint& checkpoint, std::span<const ParameterInfo> parameters) const {
        std::set<std::string_view> read;
        for (const ParameterInfo& info : parameters) {
            const TensorSource& from = source(info);
            Index rows = 0;
            for (const TensorRows& part : from.parts) {
                const StoredTensor& tensor = checkpoint.tensor(part.tensor);
                std::vector<Index> shape(info.shape().begin(), info.shape().end());
                shape[0] = part.rows;
                if (shape.size() == 3 && tensor.shape().size() == 2)
                    shape.erase(shape.begin() + 1);  // of a depthwise convolution, 1
                tensor.expect_shape(shape);
                tensor.expect_floating();
                read.insert(tensor.name());
                rows += part.groups * part.times * part.count;
                const Index end = part.first + (part.groups - 1) * part.shift +
                                  (part.times - 1) * part.stride + part.count;
                if (end > part.rows)
                    raise({.file = checkpoint.name(),
                           .field = part.tensor,
                           .expected = "rows up to " + std::to_string(end),
                           .found = std::to_string(part.rows),
                           .fix = "the family's file must name rows that there are"});
            }
            if (rows != info.rows() && !from.parts.empty())
                raise({.file = checkpoint.name(),
                       .field = from.parts.front().tensor,
                       .expected = std::to_string(info.rows()) + " rows in all of its parts",
                       .found = std::to_string(rows),
                       .fix = "use the checkpoint of this configuration"});
        }
        std::vector<std::string_view> unknown;
        for (const StoredTensor* tensor : checkpoint.tensors())
            if (!read.contains(tensor->name()) && !skips(tensor->name()) &&
                !repeats(tensor->name()))
                unknown.push_back(tensor->name());
        if (!unknown.empty())
            raise({.file = checkpoint.name(),
                   .field = std::string(unknown.front()),
                   .expected = "only tensors that config.json speaks of",
                   .found = hydralm::detail::listed(unknown) + " more",
                   .fix = "give the config.json of this checkpoint"});
    }

    // A matrix whose rows are those of tensors as they are; null for another parameter. As expect:
    // the checkpoint has it.
    template <Real T>
    std::unique_ptr<StoredRows<T>> rows(const Checkpoint& checkpoint,
                                        const ParameterInfo& info) const {
        const TensorSource& from = source(info);
        if (from.parts.empty() || from.columns.times > 1 || from.of != nullptr || from.plus != 0.0)
            return nullptr;
        auto rows = std::make_unique<StoredRows<T>>(info.cols());
        for (const TensorRows& part : from.parts)
            for (Index g = 0; g < part.groups; ++g)
                for (Index i = 0; i < part.times; ++i)
                    rows->add(checkpoint.tensor(part.tensor),
                              part.first + g * part.shift + i * part.stride, part.count);
        return rows;
    }
    // values = the parameter. As expect: the checkpoint has it.
    template <Real T>
    void read(const Checkpoint& checkpoint, const ParameterInfo& info, std::span<T> values) const {
        const TensorSource& from = source(info);
        const MatrixView<T> all(values.data(), info.rows(), info.cols());
        Index row = 0;
        for (const TensorRows& part : from.parts) {
            const StoredTensor& tensor = checkpoint.tensor(part.tensor);
            for (Index g = 0; g < part.groups; ++g)
                for (Index i = 0; i < part.times; ++i, row += part.count)
                    tensor.read_rows(part.first + g * part.shift + i * part.stride,
                                     all.middle_rows(row, part.count));
        }
        if (from.columns.times > 1) {
            std::vector<T> spare(static_cast<std::size_t>(all.cols()));
            for (Index r = 0; r < all.rows(); ++r)
                from.columns.reorder(all.row(r), std::span(spare));
        }
        if (from.of != nullptr)
            for (T& value : values) value = static_cast<T>(from.of(static_cast<double>(value)));
        if (from.parts.empty()) std::fill(values.begin(), values.end(), static_cast<T>(from.plus));
        else if (from.plus != 0.0)
            for (T& value : values) value += static_cast<T>(from.plus);
    }

    // The way back from read: values go to the rows they are from. rows_of(part) are those of all
    // of the part's tensor. Throws Error for a parameter that no tensor says and that is not what
    // it is without. The columns of the tensors are in the parameter's order, and their elements
    // not under another function.
    template <Real T, class F>
    void write(const ParameterInfo& info, std::span<const T> values, const F& rows_of) const {
        const TensorSource& to = source(info);
        const auto plus = static_cast<T>(to.plus);
        if (to.parts.empty() &&
            !std::ranges::all_of(values, [&](T value) { return value == plus; }))
            raise({.field = std::string(info.name()),
                   .expected = "values of " + std::to_string(to.plus) + ", which no tensor says",
                   .found = "others",
                   .fix = "leave it as it is in training (TrainerOptions::frozen)"});
        const T* from = values.data();
        for (const TensorRows& part : to.parts) {
            const MatrixView<T> tensor = rows_of(part);
            for (Index g = 0; g < part.groups; ++g)
                for (Index i = 0; i < part.times; ++i)
                    for (Index r = 0; r < part.count; ++r, from += info.cols())
                        std::transform(
                            from, from + info.cols(),
                            tensor.row(part.first + g * part.shift + i * part.stride + r),
                            [plus](T x) { return x - plus; });
        }
    }

private:
    bool skips(std::string_view name) const {
        return std::ranges::any_of(skipped_,
                                   [&](const auto& prefix) { return name.starts_with(prefix); });
    }

    std::map<std::string, TensorSource, std::less<>> sources_;
    std::vector<std::string> skipped_;
    std::set<std::string, std::less<>> repeated_;
};

}  // namespace HYDRALM_NAMESPACE::families
