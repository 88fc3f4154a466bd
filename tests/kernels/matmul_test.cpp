// kernels/matmul against its plain loops: shapes around every block size, strided and misaligned
// operands, all epilogues, bits that depend neither on the number of rows nor on the threads.
#include "hydralm/kernels/matmul/matmul.hpp"

#include <limits>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/random.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/padded_matrix.hpp"

using namespace hydralm;
using test::same_bits;

template <Real T>
using Matrix = test::PaddedMatrix<T>;

namespace {

constexpr Index row_counts[] = {0, 1, 2, 3, 5, 6, 7, 12, 13, 23, 64, 65};
constexpr Index widths[] = {1, 3, 4, 15, 16, 17, 33, 100};

template <Real T>
struct Packed {
    explicit Packed(const Matrix<T>& w)
        : storage(weights::PackedMatrix<T>::storage_size(w.rows, w.cols)),
          view(weights::PackedMatrix<T>::pack(w.view(), storage.data())) {}
    AlignedBuffer<T> storage;
    weights::PackedMatrix<T> view;
};

std::string shape(Index rows, Index in, Index out) {
    return "M " + std::to_string(rows) + ", in " + std::to_string(in) + ", out " +
           std::to_string(out) + ", seeds 1, 2, 3";
}

// Relative to the largest output; (in + 1)·ε·Σ|x·w| is the worst case, its square root the rule.
template <Real T>
double bound(Index depth) {
    return 4 * std::sqrt(static_cast<double>(depth + 4)) * std::numeric_limits<T>::epsilon();
}

}  // namespace

TEMPLATE_TEST_CASE("matmul: products and epilogues match the plain loops", "[matmul]", float,
                   double) {
    using T = TestType;
    for (const Index rows : row_counts)
        for (const Index in : widths)
            for (const Index out : widths) {
                const Matrix<T> x(rows, in, 1), w(out, in, 2), old(rows, out, 3), bias(1, out, 4);
                const Packed<T> packed(w);
                Matrix<T> expected(rows, out), y(rows, out), sum(old), biased(rows, out);
                kernels::reference::matmul<T>(x.view(), w.view(), expected.view());
                kernels::matmul(x.view(), packed.view, y.view());
                kernels::matmul(x.view(), packed.view, sum.view(), sum.view() + acc);
                kernels::matmul(x.view(), packed.view, biased.view(),
                                acc + view(bias.view().row(0), out));
                const std::string where = shape(rows, in, out);
                test::check_close(y.elements(), expected.elements(), bound<T>(in), where);
                CHECK(y.written_outside() + sum.written_outside() + biased.written_outside() == 0);
                Index wrong = 0;  // the epilogues add once, to the same sums
                for (Index r = 0; r < rows; ++r)
                    for (Index c = 0; c < out; ++c) {
                        wrong += sum.view()(r, c) != old.view()(r, c) + y.view()(r, c);
                        wrong += biased.view()(r, c) != y.view()(r, c) + bias.view()(0, c);
                    }
                INFO(where);
                CHECK(wrong == 0);
            }
}

TEMPLATE_TEST_CASE("matmul: a contraction longer than a slice, more outputs than a block",
                   "[matmul]", float, double) {
    using T = TestType;
    for (const Index in : {0, 255, 256, 257, 700})
        for (const Index rows : {1, 2, 4, 97, 193}) {
            const Index out = 301;
            const Matrix<T> x(rows, in, 1), w(out, in, 2);
            const Packed<T> packed(w);
            Matrix<T> expected(rows, out), y(rows, out);
            kernels::reference::matmul<T>(x.view(), w.view(), expected.view());
            kernels::matmul(x.view(), packed.view, y.view());
            test::check_close(y.elements(), expected.elements(), bound<T>(in),
                              shape(rows, in, out));
        }
}

TEMPLATE_TEST_CASE("matmul: SwiGLU in one pass", "[matmul]", float, double) {
    using T = TestType;
    for (const Index rows : {0, 1, 2, 7, 13, 65})
        for (const Index in : {1, 17, 300})
            for (const Index h : {1, 3, 16, 33, 100, 301}) {
                const Matrix<T> x(rows, in, 1), w(2 * h, in, 2);
                Matrix<T> gate(h, in), up(h, in), expected(rows, h), hidden(rows, h);
                for (Index r = 0; r < h; ++r) {
                    std::copy_n(w.view().row(r), in, gate.view().row(r));
                    std::copy_n(w.view().row(h + r), in, up.view().row(r));
                }
                const Packed<T> packed_gate(gate), packed_up(up);
                kernels::reference::matmul_swiglu<T>(x.view(), w.view(), expected.view());
                kernels::matmul_swiglu(x.view(), packed_gate.view, packed_up.view, hidden.view());
                test::check_close(hidden.elements(), expected.elements(), 4 * bound<T>(in),
                                  shape(rows, in, 2 * h));
                CHECK(hidden.written_outside() == 0);
            }
}

TEMPLATE_TEST_CASE("matmul: the bits of a row do not depend on the rows beside it", "[matmul]",
                   float, double) {
    using T = TestType;
    const Index in = 333, out = 100, most = 110;
    const Matrix<T> x(most, in, 1), w(out, in, 2);
    const Packed<T> packed(w);
    Matrix<T> alone(most, out), y(most, out), hidden_alone(most, out), hidden(most, out);
    for (Index r = 0; r < most; ++r) {
        kernels::matmul(x.view().middle_rows(r, 1), packed.view, alone.view().middle_rows(r, 1));
        kernels::matmul_swiglu(x.view().middle_rows(r, 1), packed.view, packed.view,
                               hidden_alone.view().middle_rows(r, 1));
    }
    for (Index rows = 1; rows <= most; ++rows) {
        const auto last = x.view().middle_rows(most - rows, rows);
        kernels::matmul(last, packed.view, y.view().middle_rows(most - rows, rows));
        kernels::matmul_swiglu(last, packed.view, packed.view,
                               hidden.view().middle_rows(most - rows, rows));
        Index wrong = 0;
        for (Index r = most - rows; r < most; ++r) {
            wrong += !same_bits(alone.view().row(r), y.view().row(r), out);
            wrong += !same_bits(hidden_alone.view().row(r), hidden.view().row(r), out);
        }
        INFO("rows " << rows);
        CHECK(wrong == 0);
    }
}

TEMPLATE_TEST_CASE("matmul: gradients match the plain loops", "[matmul]", float, double) {
    using T = TestType;
    for (const Index rows : {0, 1, 2, 7, 64, 65, 300, 600})
        for (const Index in : {1, 3, 16, 33, 100, 301})
            for (const Index out : {1, 4, 17, 100, 130}) {
                const Matrix<T> dy(rows, out, 1), x(rows, in, 2), w(out, in, 3);
                Matrix<T> expected(w), dw(w), expected_dx(rows, in), dx(rows, in);
                const std::string where = shape(rows, in, out);
                kernels::reference::matmul_gradient<T>(dy.view(), x.view(), expected.view());
                kernels::matmul_gradient<T>(dy.view(), x.view(), dw.view());
                test::check_close(dw.elements(), expected.elements(), bound<T>(rows), where);
                kernels::reference::matmul_input_gradient<T>(dy.view(), w.view(),
                                                             expected_dx.view());
                AlignedBuffer<T> storage(weights::PackedMatrix<T>::storage_size(in, out));
                kernels::matmul(dy.view(),
                                weights::PackedMatrix<T>::pack_transposed(w.view(), storage.data()),
                                dx.view());
                test::check_close(dx.elements(), expected_dx.elements(), bound<T>(out), where);
                CHECK(dw.written_outside() + dx.written_outside() == 0);
            }
}

TEMPLATE_TEST_CASE("matmul: the same bits for any number of threads", "[matmul]", float, double) {
    using T = TestType;
    const Index in = 301, out = 530;
    const int before = num_threads();
    for (const Index rows : {1, 5, 64, 200}) {
        const Matrix<T> x(rows, in, 1), w(out, in, 2), dy(rows, out, 3);
        const Packed<T> packed(w);
        std::vector<std::vector<T>> y, hidden, dw;
        for (const int threads : {1, 2, 3}) {
            set_num_threads(threads);
            Matrix<T> a(rows, out), b(rows, out), c(w);
            kernels::matmul(x.view(), packed.view, a.view());
            kernels::matmul_swiglu(x.view(), packed.view, packed.view, b.view());
            kernels::matmul_gradient<T>(dy.view(), x.view(), c.view());
            y.push_back(a.elements());
            hidden.push_back(b.elements());
            dw.push_back(c.elements());
        }
        for (const auto* all : {&y, &hidden, &dw}) {
            CHECK((*all)[0] == (*all)[1]);
            CHECK((*all)[0] == (*all)[2]);
        }
    }
    set_num_threads(before);
}

TEMPLATE_TEST_CASE("matmul: packing and unpacking keep every bit", "[matmul]", float, double) {
    using T = TestType;
    using Weights = weights::PackedMatrix<T>;
    STATIC_REQUIRE(Weights::storage_size(0, 5) == 0);
    STATIC_REQUIRE(Weights::storage_size(1, 5) == 5 * Weights::panel_rows);
    for (const Index rows : widths)
        for (const Index cols : widths) {
            const Matrix<T> w(rows, cols, 1);
            AlignedBuffer<T> storage(Weights::storage_size(rows, cols)),
                transposed(Weights::storage_size(cols, rows));
            for (auto* buffer : {&storage, &transposed})
                for (auto& v : *buffer) v = std::numeric_limits<T>::quiet_NaN();
            const Weights packed = Weights::pack(w.view(), storage.data());
            const Weights turned = Weights::pack_transposed(w.view(), transposed.data());
            Matrix<T> back(rows, cols);
            packed.unpack(back.view());
            INFO("rows " << rows << ", cols " << cols);
            CHECK(back.elements() == w.elements());
            std::vector<T> row(static_cast<std::size_t>(cols));
            packed.copy_row(rows - 1, row.data());
            CHECK(same_bits(row.data(), w.view().row(rows - 1), cols));
            CHECK(packed.at(rows / 2, cols / 2) == w.view()(rows / 2, cols / 2));
            Index wrong =
                0;  // the transpose, element by element, and zeros behind the last row of both
            for (Index r = 0; r < rows; ++r)
                for (Index c = 0; c < cols; ++c) wrong += turned.at(c, r) != w.view()(r, c);
            for (Index r = rows; r < round_up(rows, Weights::panel_rows); ++r)
                for (Index c = 0; c < cols; ++c) wrong += packed.at(r, c) != T(0);
            for (Index c = cols; c < round_up(cols, Weights::panel_rows); ++c)
                for (Index r = 0; r < rows; ++r) wrong += turned.at(c, r) != T(0);
            CHECK(wrong == 0);
        }
}
