// Parameters: how a module declares its tensors once, and how storage, names and values follow from
// that declaration.
//
// A module has `template <class Storage> struct Parameters` (its tensors in some storage) and
//     template <class P, class V> constexpr void visit(P& parameters, V& visitor) const
// which names every tensor in file order:
//     matrix(field, name, law, out, in, parts = 1)  [out, in], the weights of one matrix product,
//                                                   parts stacked in it
//     fused(fields, name, law, out, in)             [fields·out, in], an array of matrices stacked
//                                                   in one tensor
//     taps(field, name, law, channels, taps)        [channels, 1, taps], a depthwise convolution
//     vector(field, name, law, size)                [size]
//     table(field, name, law, rows, cols)           [rows, cols], kept row-major
// Composites prefix the names of their members with nested(prefix, visit).
//
// The field of a matrix is a Storage::Matrix, kept in the format that the model's weights have, or
// a Storage::Exact, kept in the scalar: its law says any_format, or does not.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hydralm/core/arena.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/layers/law.hpp"
#include "hydralm/weights/formats.hpp"
#include "hydralm/weights/pack_rows.hpp"

namespace HYDRALM_NAMESPACE {

struct ParameterInfo {
    std::array<char, 64> text{};
    std::array<Index, 3> extents{};
    int rank = 0;
    Parts parts{};
    int fields = 1;  // matrices the module keeps it in, packed; 0: kept as plain numbers
    ParameterLaw law{};
    bool of_mlp = false;
    weights::Format format = weights::Format::scalar;  // that the model keeps it in

    constexpr std::string_view name() const noexcept { return text.data(); }
    constexpr std::span<const Index> shape() const noexcept {
        return {extents.data(), static_cast<std::size_t>(rank)};
    }
    constexpr Index size() const noexcept { return size_from(0); }
    constexpr Index rows() const noexcept { return extents[0]; }
    constexpr Index cols() const noexcept { return rank == 1 ? 1 : size_from(1); }

private:
    constexpr Index size_from(int first) const noexcept {
        Index n = 1;
        for (int i = first; i < rank; ++i) n *= extents[static_cast<std::size_t>(i)];
        return n;
    }
};

// Storage without memory: the fields exist, so that a declaration can be visited at compile time.
struct NoStorage {
    struct Empty {};
    using Matrix = Empty;
    struct Exact {};
    using Vector = Empty;
    using Taps = Empty;
};

// Storage for computing: matrices in panels, in the format of Weights (weights/formats.hpp),
// convolutions tap-major, everything 64-byte aligned in one buffer. Views to read it: StorePacked
// writes the buffer.
template <Real T, class Weights = weights::Float>
struct PackedStorage {
    using Scalar = T;
    using Matrix = typename Weights::template Matrix<T>;
    using Exact = weights::PackedMatrix<T>;
    using Vector = std::span<const T>;
    using Taps = MatrixView<const T>;  // [taps, channels]
};

namespace detail {

template <class Storage>
struct MlpStorage {
    using Type = Storage;
};
template <Real T, class Weights>
struct MlpStorage<PackedStorage<T, Weights>> {
    using Type = PackedStorage<T, weights::MlpWeights<Weights>>;
};

}  // namespace detail

// The storage of an MLP where all else is in Storage; its tensors are visited within_mlp.
template <class Storage>
using MlpStorage = typename detail::MlpStorage<Storage>::Type;

// Storage of gradients and moments: one flat buffer in file order and file layout, without gaps.
template <Real T>
struct FlatStorage {
    using Scalar = T;
    using Matrix = MatrixView<T>;
    using Exact = Matrix;
    using Vector = std::span<T>;
    using Taps = MatrixView<T>;  // [channels, taps]
};

// Storage of the weights of every matrix product once more, transposed, for input gradients:
// dx = dy·W is matmul with Wᵀ packed. Vectors and convolutions need no second form.
template <Real T>
struct TransposedStorage {
    struct Empty {};
    using Scalar = T;
    using Matrix = weights::PackedMatrix<T>;  // [in, out]
    using Exact = Matrix;
    using Vector = Empty;
    using Taps = Empty;
};

// Base of visitors: keeps the prefix, and turns each declaration into a call of Derived::tensor,
// convolution or vector_tensor.
template <class Derived>
class ParameterVisitor {
public:
    template <class M>
    constexpr void matrix(M& m, std::string_view name, const ParameterLaw& law, Index out, Index in,
                          Parts parts = {}) {
        derived().tensor(std::span(&m, 1), info(name, law, parts, 1, {out, in, 1}, 2));
    }
    template <class M>
    constexpr void fused(M& m, std::string_view name, const ParameterLaw& law, Index out,
                         Index in) {
        const int fields = static_cast<int>(m.size());
        derived().tensor(std::span(m.data(), m.size()),
                         info(name, law, fields, fields, {fields * out, in, 1}, 2));
    }
    template <class C>
    constexpr void taps(C& c, std::string_view name, const ParameterLaw& law, Index channels,
                        Index taps) {
        derived().convolution(c, info(name, law, {}, 0, {channels, 1, taps}, 3));
    }
    template <class X>
    constexpr void vector(X& x, std::string_view name, const ParameterLaw& law, Index size) {
        derived().vector_tensor(x, info(name, law, {}, 0, {size, 1, 1}, 1));
    }
    template <class X>
    constexpr void table(X& x, std::string_view name, const ParameterLaw& law, Index rows,
                         Index cols) {
        derived().vector_tensor(x, info(name, law, {}, 0, {rows, cols, 1}, 2));
    }
    // Whoever visits an MLP says so.
    template <class F>
    constexpr void within_mlp(const F& visit) {
        const bool outer = std::exchange(of_mlp_, true);
        visit();
        of_mlp_ = outer;
    }
    template <class F>
    constexpr void nested(std::string_view prefix, const F& visit) {
        const std::size_t outer = length_;
        append(prefix);
        prefix_.at(length_++) = '.';
        visit();
        while (length_ > outer) prefix_[--length_] = '\0';
    }

private:
    friend Derived;
    constexpr ParameterVisitor() = default;
    constexpr Derived& derived() noexcept { return static_cast<Derived&>(*this); }
    constexpr void append(std::string_view part) {
        for (const char c : part) prefix_.at(length_++) = c;
    }
    constexpr ParameterInfo info(std::string_view name, const ParameterLaw& law, Parts parts,
                                 int fields, std::array<Index, 3> extents, int rank) {
        ParameterInfo result{prefix_, extents, rank, parts, fields, law, of_mlp_, {}};
        for (std::size_t i = 0; i < name.size(); ++i) result.text.at(length_ + i) = name[i];
        if (!parts.make(extents[0]))
            raise({.field = result.text.data(),
                   .expected = "parts of " + std::to_string(extents[0]) + " rows in all",
                   .found = std::to_string(parts.count) + " parts of another sum",
                   .fix = "give Parts the rows of the tensor"});
        return result;
    }

    std::array<char, 64> prefix_{};
    std::size_t length_ = 0;
    bool of_mlp_ = false;
};

// Calls f(info) for every tensor.
template <class F>
class DescribeParameters : public ParameterVisitor<DescribeParameters<F>> {
public:
    constexpr explicit DescribeParameters(F f) : f_(f) {}
    template <class M>
    constexpr void tensor(std::span<M>, const ParameterInfo& info) {
        f_(info);
    }
    template <class C>
    constexpr void convolution(C&, const ParameterInfo& info) {
        f_(info);
    }
    template <class X>
    constexpr void vector_tensor(X&, const ParameterInfo& info) {
        f_(info);
    }

private:
    F f_;
};

template <class Module, class F>
constexpr void describe_parameters(const Module& module, F f) {
    typename Module::template Parameters<NoStorage> none;
    DescribeParameters<F> visitor(f);
    module.visit(none, visitor);
}

// What a policy (weights/formats.hpp) keeps a tensor in, in a model of scalar T.
template <Real T, class Weights>
constexpr weights::Format format_of(const ParameterInfo& info) noexcept {
    if (!info.law.any_format) return weights::Format::scalar;
    return info.of_mlp ? weights::MlpWeights<Weights>::template Matrix<T>::format
                       : Weights::template Matrix<T>::format;
}

namespace detail {

// Every parameter of a structure in file order, in the formats of Weights.
template <class Structure, Real T, class Weights>
inline constexpr auto parameter_table = [] {
    constexpr std::size_t count = [] {
        std::size_t n = 0;
        describe_parameters(Structure{}, [&](const ParameterInfo&) { ++n; });
        return n;
    }();
    std::array<ParameterInfo, count> infos{};
    std::size_t n = 0;
    describe_parameters(Structure{}, [&](const ParameterInfo& info) {
        infos[n] = info;
        infos[n++].format = format_of<T, Weights>(info);
    });
    return infos;
}();

}  // namespace detail

namespace detail {

// Whether the fields of a structure's matrices are what their laws allow.
struct FormatsFit : ParameterVisitor<FormatsFit> {
    bool fit = true;
    template <class M>
    constexpr void tensor(std::span<M>, const ParameterInfo& info) {
        fit = fit && info.law.any_format != std::is_same_v<M, NoStorage::Exact>;
    }
    template <class C>
    constexpr void convolution(C&, const ParameterInfo&) {}
    template <class X>
    constexpr void vector_tensor(X&, const ParameterInfo&) {}
};
template <class Structure>
inline constexpr bool formats_fit = [] {
    typename Structure::template Parameters<NoStorage> none;
    FormatsFit visitor;
    Structure::visit(none, visitor);
    return visitor.fit;
}();

constexpr bool in_blocks(weights::Format format) noexcept {
    return format == weights::Format::q8 || format == weights::Format::q4;
}
// Whether a matrix may be as wide as this one in a format.
constexpr bool columns_fit(const ParameterInfo& info, weights::Format format) noexcept {
    return !in_blocks(format) || info.cols() <= weights::Q8Matrix::most_cols;
}
// Columns of the widest matrix of 8 or 4 bits; 0 where there is none.
constexpr Index widest_in_blocks(std::span<const ParameterInfo> infos) noexcept {
    Index widest = 0;
    for (const auto& info : infos)
        if (in_blocks(info.format)) widest = std::max(widest, info.cols());
    return widest;
}

// Bytes of one packed matrix of this one's format, padding and alignment included.
template <class Matrix>
constexpr Index packed_bytes(const Matrix& matrix, Index rows, Index cols) noexcept {
    return round_up(
        matrix.storage_size(rows, cols) * static_cast<Index>(sizeof(typename Matrix::Element)),
        alignment);
}

}  // namespace detail

// Bytes a tensor occupies in PackedStorage<T, Weights>, padding and alignment included.
template <Real T, class Weights = weights::Float>
constexpr Index packed_size(const ParameterInfo& info) noexcept {
    if (info.fields == 0) return round_up(info.size() * static_cast<Index>(sizeof(T)), alignment);
    const auto bytes = [&info]<class Matrix>(const Matrix& matrix) {
        return info.fields * detail::packed_bytes(matrix, info.rows() / info.fields, info.cols());
    };
    using Storage = PackedStorage<T, Weights>;
    if (!info.law.any_format) return bytes(typename Storage::Exact());
    return info.of_mlp ? bytes(typename MlpStorage<Storage>::Matrix())
                       : bytes(typename Storage::Matrix());
}

// Gives the matrices of PackedStorage<T, weights::Any> the formats of infos, which are those of the
// tensors visited, in order, and counts the bytes of all. Throws Error where a model of scalar T
// has no such format, or the format no such matrix.
template <Real T>
class TakeFormats : public ParameterVisitor<TakeFormats<T>> {
public:
    explicit TakeFormats(std::span<const ParameterInfo> infos) noexcept : infos_(infos) {}
    Index bytes() const noexcept { return bytes_; }

    void tensor(std::span<weights::AnyMatrix<T>> parts, const ParameterInfo& info) {
        const weights::Format format = infos_[next_++].format;
        for (auto& part : parts) {
            if (!part.become(format))
                raise({.field = std::string(info.name()),
                       .expected = "weights of double, the model's scalar",
                       .found = std::string(weights::name(format)),
                       .fix = "make the model's scalar float, or leave the format out"});
            if (!detail::columns_fit(info, format))
                raise({.field = std::string(info.name()),
                       .expected = "at most " + std::to_string(weights::Q8Matrix::most_cols) +
                                   " columns of " + std::string(weights::name(format)),
                       .found = std::to_string(info.cols()),
                       .fix = "keep it in bf16 or float"});
            bytes_ += detail::packed_bytes(part, info.rows() / info.fields, info.cols());
        }
    }
    void tensor(std::span<weights::PackedMatrix<T>>, const ParameterInfo& info) noexcept {
        count(info);
    }
    template <class C>
    void convolution(C&, const ParameterInfo& info) noexcept {
        count(info);
    }
    template <class X>
    void vector_tensor(X&, const ParameterInfo& info) noexcept {
        count(info);
    }

private:
    void count(const ParameterInfo& info) noexcept {
        ++next_;
        bytes_ += packed_size<T>(info);
    }

    std::span<const ParameterInfo> infos_;
    std::size_t next_ = 0;
    Index bytes_ = 0;
};

// Points every tensor of PackedStorage<T, Weights> into one buffer, in file order.
template <Real T>
class BindPacked : public ParameterVisitor<BindPacked<T>> {
public:
    explicit BindPacked(const std::byte* buffer) noexcept : next_(buffer) {}
    template <class Matrix>
    void tensor(std::span<Matrix> parts, const ParameterInfo& info) noexcept {
        using Element = typename Matrix::Element;
        const Index rows = info.rows() / info.fields, cols = info.cols();
        for (auto& part : parts) {
            const auto* const memory = take<Element>(detail::packed_bytes(part, rows, cols));
            if constexpr (weights::carries_format<Matrix>) part = part.over(memory, rows, cols);
            else part = {memory, rows, cols};
        }
    }
    void convolution(MatrixView<const T>& taps, const ParameterInfo& info) noexcept {
        taps = MatrixView<const T>(take<T>(packed_size<T>(info)), info.extents[2], info.extents[0]);
    }
    void vector_tensor(std::span<const T>& x, const ParameterInfo& info) noexcept {
        x = {take<T>(packed_size<T>(info)), static_cast<std::size_t>(info.size())};
    }

private:
    template <class Element>
    const Element* take(Index bytes) noexcept {
        return reinterpret_cast<const Element*>(std::exchange(next_, next_ + bytes));
    }

    const std::byte* next_;
};

// Points every tensor of FlatStorage<T> into one buffer, in file order.
template <Real T>
class BindFlat : public ParameterVisitor<BindFlat<T>> {
public:
    explicit BindFlat(T* buffer) noexcept : next_(buffer) {}
    void tensor(std::span<MatrixView<T>> parts, const ParameterInfo& info) noexcept {
        const Index rows = info.rows() / info.fields;
        for (auto& part : parts)
            part =
                MatrixView<T>(std::exchange(next_, next_ + rows * info.cols()), rows, info.cols());
    }
    void convolution(MatrixView<T>& taps, const ParameterInfo& info) noexcept {
        taps = MatrixView<T>(std::exchange(next_, next_ + info.size()), info.extents[0],
                             info.extents[2]);
    }
    void vector_tensor(std::span<T>& x, const ParameterInfo& info) noexcept {
        x = {std::exchange(next_, next_ + info.size()), static_cast<std::size_t>(info.size())};
    }

private:
    T* next_;
};

// Whether f.rows(info) gives a matrix to be read by rows, or null.
template <class F, class T>
concept GivesRows = requires(const F& f, const ParameterInfo& info) {
    { f.rows(info) } -> std::same_as<const weights::RowSource<T>*>;
};

// Fills PackedStorage<T, Weights> from file layout: f(info, values) writes every tensor, row-major,
// to a scratch span of info.size() elements, and the tensor takes it, rounded to the format of its
// field; but a matrix for which f gives rows is read by all threads, without scratch. buffer is
// what BindPacked was given; scratch holds the largest tensor.
template <Real T, class F>
class StorePacked : public ParameterVisitor<StorePacked<T, F>> {
public:
    StorePacked(std::byte* buffer, std::span<T> scratch, F& f)
        : next_(buffer), scratch_(scratch), f_(f) {}
    template <class Matrix>
    void tensor(std::span<Matrix> parts, const ParameterInfo& info) {
        const Index rows = info.rows() / info.fields, cols = info.cols();
        const auto store = [&](const auto& pack) {
            Index first = 0;
            for (Matrix& part : parts) {
                part = pack(part, first, reinterpret_cast<typename Matrix::Element*>(next_));
                next_ += detail::packed_bytes(part, rows, cols);
                first += rows;
            }
        };
        if constexpr (GivesRows<F, T>)
            if (const auto* const source = f_.rows(info)) {
                store([&](const Matrix& part, Index first, auto* to) {
                    return weights::pack_rows(part, *source, first, rows, cols, to);
                });
                return;
            }
        const MatrixView<const T> values(filled(info), info.rows(), cols);
        store([&](const Matrix& part, Index first, auto* to) {
            return part.pack(values.middle_rows(first, rows), to);
        });
    }
    void convolution(MatrixView<const T>&, const ParameterInfo& info) {
        const MatrixView<const T> values(filled(info), info.rows(), info.cols());
        MatrixView<T>(take(info), info.cols(), info.rows()).eigen() = values.eigen().transpose();
    }
    void vector_tensor(std::span<const T>&, const ParameterInfo& info) {
        const T* const values = filled(info);
        std::copy_n(values, info.size(), take(info));
    }

private:
    T* take(const ParameterInfo& info) noexcept {
        return reinterpret_cast<T*>(std::exchange(next_, next_ + packed_size<T>(info)));
    }
    const T* filled(const ParameterInfo& info) {
        f_(info, scratch_.first(static_cast<std::size_t>(info.size())));
        return scratch_.data();
    }

    std::byte* next_;
    std::span<T> scratch_;
    F& f_;
};

// Shows PackedStorage<T, Weights> in file layout: f(info, values) is given every tensor, row-major,
// bit for bit what it is computed with. scratch holds the largest tensor.
template <Real T, class F>
class ReadPacked : public ParameterVisitor<ReadPacked<T, F>> {
public:
    ReadPacked(std::span<T> scratch, F& f) : scratch_(scratch), f_(f) {}
    template <class Matrix>
    void tensor(std::span<const Matrix> parts, const ParameterInfo& info) {
        const Index rows = info.rows() / info.fields;
        T* out = scratch_.data();
        for (const auto& part : parts)
            part.unpack({std::exchange(out, out + rows * info.cols()), rows, info.cols()});
        show(info);
    }
    void convolution(const MatrixView<const T>& taps, const ParameterInfo& info) {
        MatrixView<T>(scratch_.data(), info.rows(), info.cols()).eigen() = taps.eigen().transpose();
        show(info);
    }
    void vector_tensor(const std::span<const T>& x, const ParameterInfo& info) {
        std::copy_n(x.data(), x.size(), scratch_.data());
        show(info);
    }

private:
    void show(const ParameterInfo& info) {
        f_(info, std::span<const T>(scratch_.first(static_cast<std::size_t>(info.size()))));
    }

    std::span<T> scratch_;
    F& f_;
};

}  // namespace HYDRALM_NAMESPACE
