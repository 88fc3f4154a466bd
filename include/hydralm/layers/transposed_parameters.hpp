// Filling TransposedStorage, the weights of every matrix product once more, transposed.
#pragma once

#include <span>
#include <utility>

#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {

// Elements a tensor occupies in TransposedStorage<T>, padding and alignment included.
template <Real T>
constexpr Index transposed_size(const ParameterInfo& info) noexcept {
    constexpr Index unit = static_cast<Index>(alignment / sizeof(T));
    if (info.fields == 0) return 0;
    return info.fields *
           round_up(weights::PackedMatrix<T>::storage_size(info.cols(), info.rows() / info.fields),
                    unit);
}

// Points every matrix of TransposedStorage<T> into one buffer, in file order.
template <Real T>
class BindTransposed : public ParameterVisitor<BindTransposed<T>> {
public:
    explicit BindTransposed(T* buffer) noexcept : next_(buffer) {}
    void tensor(std::span<weights::PackedMatrix<T>> parts, const ParameterInfo& info) noexcept {
        const Index step = transposed_size<T>(info) / info.fields;
        for (auto& part : parts)
            part = {std::exchange(next_, next_ + step), info.cols(), info.rows() / info.fields};
    }
    template <class Empty>
    void convolution(Empty&, const ParameterInfo&) noexcept {}
    template <class Empty>
    void vector_tensor(Empty&, const ParameterInfo&) noexcept {}

private:
    T* next_;
};

// Writes one tensor, given row-major, to where BindTransposed put it; returns where the next one
// begins.
template <Real T>
T* store_transposed(const ParameterInfo& info, std::span<const T> values, T* next) noexcept {
    if (info.fields == 0) return next;
    const Index rows = info.rows() / info.fields, step = transposed_size<T>(info) / info.fields;
    const MatrixView<const T> w(values.data(), info.rows(), info.cols());
    for (Index i = 0; i < info.fields; ++i)
        weights::PackedMatrix<T>::pack_transposed(w.middle_rows(i * rows, rows),
                                                  std::exchange(next, next + step));
    return next;
}

}  // namespace HYDRALM_NAMESPACE
