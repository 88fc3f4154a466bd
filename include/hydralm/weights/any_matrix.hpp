// AnyMatrix<T>: weights whose format is known when the program runs.
//
// It holds one of the packed matrices of a model of scalar T. A kernel asks once a product
// (with_format) and works on that matrix: the same code as where the format is a type, the same
// bits.
#pragma once

#include <type_traits>
#include <variant>

#include "hydralm/weights/bf16_matrix.hpp"
#include "hydralm/weights/packed_matrix.hpp"
#include "hydralm/weights/quantised_matrix.hpp"

namespace HYDRALM_NAMESPACE::weights {

// A non-owning view. Copying it copies no element; the storage outlives it.
template <Real T>
class AnyMatrix {
    // One line a format. All but the scalar are for models of float.
    using Forms =
        std::conditional_t<std::is_same_v<T, float>,
                           std::variant<PackedMatrix<float>, Bf16Matrix, Q8Matrix, Q4Matrix>,
                           std::variant<PackedMatrix<T>>>;

public:
    using Scalar = T;
    using Element = std::byte;  // of the storage

    // f(matrix), the packed matrix that this one is.
    template <class F>
    decltype(auto) with_format(const F& f) const {
        return std::visit(f, form_);
    }
    // Null where it is of another format.
    template <class Matrix>
    const Matrix* as() const noexcept {
        return std::get_if<Matrix>(&form_);
    }

    // Makes it an empty matrix of this format. False where a model of scalar T has none such.
    bool become(Format format) noexcept {
        return [&]<class... Matrices>(std::type_identity<std::variant<Matrices...>>) {
            return ((Matrices::format == format && (form_ = Matrices(), true)) || ...);
        }(std::type_identity<Forms>{});
    }
    Format format() const noexcept {
        return with_format([]<class M>(const M&) { return M::format; });
    }
    // Of a [rows, cols] in this format, in bytes.
    Index storage_size(Index rows, Index cols) const noexcept {
        return with_format([&]<class M>(const M&) {
            return M::storage_size(rows, cols) * static_cast<Index>(sizeof(typename M::Element));
        });
    }
    // [rows, cols] of this format, over storage that pack has filled.
    AnyMatrix over(const std::byte* storage, Index rows, Index cols) const noexcept {
        return with_format([&]<class M>(const M&) {
            return AnyMatrix(M(reinterpret_cast<const typename M::Element*>(storage), rows, cols));
        });
    }
    // w in this format.
    AnyMatrix pack(MatrixView<const T> w, std::byte* storage) const noexcept {
        return with_format([&]<class M>(const M&) {
            return AnyMatrix(M::pack(w, reinterpret_cast<typename M::Element*>(storage)));
        });
    }

    void unpack(MatrixView<T> out) const noexcept {
        with_format([&](const auto& m) { m.unpack(out); });
    }
    void copy_row(Index r, T* out) const noexcept {
        with_format([&](const auto& m) { m.copy_row(r, out); });
    }
    Index rows() const noexcept {
        return with_format([](const auto& m) { return m.rows(); });
    }
    Index cols() const noexcept {
        return with_format([](const auto& m) { return m.cols(); });
    }

    AnyMatrix() = default;

private:
    template <class Matrix>
    explicit AnyMatrix(const Matrix& matrix) noexcept : form_(matrix) {}

    Forms form_;
};

template <class Matrix>
inline constexpr bool carries_format = false;
template <Real T>
inline constexpr bool carries_format<AnyMatrix<T>> = true;

}  // namespace HYDRALM_NAMESPACE::weights
