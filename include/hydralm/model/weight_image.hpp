// weight_image: the weights of a model as they lie in the memory of one that is compiled for
// vectors of any width: what EmbeddedWeights holds.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/layers/parameters.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

// Appends tensors in file order, where and as BindPacked finds them on such a target.
template <Index vector_bytes>
class WeightImage {
public:
    // values: row-major.
    void add(const ParameterInfo& info, std::span<const float> values) {
        const MatrixView<const float> all(values.data(), info.rows(), info.cols());
        const Index rows = info.fields == 0 ? 0 : info.rows() / info.fields;
        for (Index i = 0; i < info.fields; ++i)
            add_matrix(all.middle_rows(i * rows, rows), info.format);
        if (info.fields > 0) return;
        float* const to = take<float>(info.size());
        if (info.rank < 3) std::copy_n(values.data(), info.size(), to);
        else MatrixView<float>(to, info.cols(), info.rows()).eigen() = all.eigen().transpose();
    }
    std::vector<std::byte> bytes;

private:
    static constexpr Index panel = 2 * vector_bytes / Index{sizeof(float)};

    void add_matrix(MatrixView<const float> w, weights::Format format) {
        switch (format) {
            case weights::Format::scalar: add_panels<weights::PackedMatrix<float>>(w); break;
            case weights::Format::bf16: add_panels<weights::Bf16Matrix>(w); break;
            case weights::Format::q8: add_blocks<weights::Q8Matrix>(w); break;
            case weights::Format::q4: add_blocks<weights::Q4Matrix>(w); break;
        }
    }
    template <class Matrix>
    void add_panels(MatrixView<const float> w) {
        Matrix::template pack_panels<panel>(
            w, take<typename Matrix::Element>(Matrix::storage_size(w.rows(), w.cols(), panel)));
    }
    template <class Matrix>
    void add_blocks(MatrixView<const float> w) {
        Matrix::pack(w, take<std::uint8_t>(Matrix::storage_size(w.rows(), w.cols())));
    }
    // Room for so many, zeros; to be filled before the next.
    template <class T>
    T* take(Index count) {
        const std::size_t begin = bytes.size();
        const Index size = round_up(count * static_cast<Index>(sizeof(T)), alignment);
        bytes.resize(begin + static_cast<std::size_t>(size));
        return reinterpret_cast<T*>(bytes.data() + begin);
    }
};

template <Index vector_bytes, class Model>
std::vector<std::byte> image_for(const Model& model) {
    WeightImage<vector_bytes> image;
    auto info = std::begin(model.parameters);
    model.get_parameters(
        [&](const ParameterInfo&, std::span<const float> values) { image.add(*info++, values); });
    return std::move(image.bytes);
}

}  // namespace detail

// Bit for bit the weight_bytes of the model itself where vector_bytes is simd::vector_bytes. Model:
// of float. vector_bytes: 16, 32 or 64, else throws Error. Allocates.
template <class Model>
std::vector<std::byte> weight_image(const Model& model, Index vector_bytes) {
    static_assert(std::is_same_v<typename Model::Scalar, float>,
                  "hydralm: weight_image: must be of a model of float; make its scalar float");
    switch (vector_bytes) {
        case 16: return detail::image_for<16>(model);
        case 32: return detail::image_for<32>(model);
        case 64: return detail::image_for<64>(model);
        default:
            raise({.field = "vector_bytes",
                   .expected = "16, 32 or 64",
                   .found = std::to_string(vector_bytes),
                   .fix = "give what the target's vectors have: 16 with SSE or NEON, 32 with AVX, "
                          "64 with AVX-512"});
    }
}

}  // namespace HYDRALM_NAMESPACE
