// kernels/matmul with bf16 weights: every bit is that of the plain loops, for shapes around every
// block size, strided and misaligned operands, any number of rows beside a row and any number of
// threads.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/padded_matrix.hpp"

using namespace hydralm;
using test::same_bits;
using Matrix = test::PaddedMatrix<float>;
using weights::Bf16Matrix;

namespace {

struct Packed {
    explicit Packed(const Matrix& w)
        : storage(Bf16Matrix::storage_size(w.rows, w.cols)),
          view(Bf16Matrix::pack(w.view(), storage.data())) {}
    AlignedBuffer<Bf16Matrix::Element> storage;
    Bf16Matrix view;
};

std::string shape(Index rows, Index in, Index out) {
    return "M " + std::to_string(rows) + ", in " + std::to_string(in) + ", out " +
           std::to_string(out) + ", seeds 1, 2, 3";
}

// Rows of a and b that differ in any bit.
Index different_rows(const Matrix& a, const Matrix& b) {
    Index count = 0;
    for (Index r = 0; r < a.rows; ++r)
        count += !same_bits(a.view().row(r), b.view().row(r), a.cols);
    return count;
}

void check_product(Index rows, Index in, Index out) {
    const Matrix x(rows, in, 1), w(out, in, 2), old(rows, out, 3), bias(1, out, 4);
    const Packed packed(w);
    Matrix expected(rows, out), y(rows, out), sum(old), biased(rows, out);
    kernels::reference::matmul_bf16(x.view(), w.view(), expected.view());
    kernels::matmul(x.view(), packed.view, y.view());
    kernels::matmul(x.view(), packed.view, sum.view(), sum.view() + acc);
    kernels::matmul(x.view(), packed.view, biased.view(), acc + view(bias.view().row(0), out));
    INFO(shape(rows, in, out));
    CHECK(different_rows(y, expected) == 0);
    CHECK(y.written_outside() + sum.written_outside() + biased.written_outside() == 0);
    Index wrong = 0;
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < out; ++c) {
            wrong += sum.view()(r, c) != old.view()(r, c) + expected.view()(r, c);
            wrong += biased.view()(r, c) != expected.view()(r, c) + bias.view()(0, c);
        }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("bf16 matmul: every bit is that of the plain loops", "[matmul][bf16]") {
    for (const Index rows : {0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 17, 65})
        for (const Index in : {1, 2, 17, 31, 32, 33, 64, 95, 96})
            for (const Index out : {1, 3, 16, 17, 33, 100}) check_product(rows, in, out);
}

TEST_CASE("bf16 matmul: a contraction longer than a slice, more outputs than a block",
          "[matmul][bf16]") {
    for (const Index in : {0, 255, 256, 257, 700})
        for (const Index rows : {1, 2, 4, 97, 193}) check_product(rows, in, 530);
}

TEST_CASE("bf16 matmul: SwiGLU meets the sums of the two products", "[matmul][bf16]") {
    for (const Index rows : {0, 1, 2, 7, 13, 65})
        for (const Index in : {1, 17, 300})
            for (const Index h : {1, 3, 16, 33, 301}) {
                const Matrix x(rows, in, 1), gate(h, in, 2), up(h, in, 3);
                const Packed packed_gate(gate), packed_up(up);
                Matrix g(rows, h), u(rows, h), hidden(rows, h), expected(rows, h);
                kernels::reference::matmul_bf16(x.view(), gate.view(), g.view());
                kernels::reference::matmul_bf16(x.view(), up.view(), u.view());
                for (Index r = 0; r < rows; ++r)
                    for (Index c = 0; c < h; ++c)
                        expected.view()(r, c) =
                            g.view()(r, c) / (1 + std::exp(-g.view()(r, c))) * u.view()(r, c);
                kernels::matmul(x.view(), packed_gate.view, packed_up.view, hidden.view(),
                                silu(acc) * acc2);
                test::check_close(hidden.elements(), expected.elements(), 1e-6,
                                  shape(rows, in, 2 * h));
                CHECK(hidden.written_outside() == 0);
            }
}

TEST_CASE("bf16 matmul: the bits of a row depend neither on rows beside it nor on threads",
          "[matmul][bf16]") {
    const Index in = 333, out = 600, most = 80;
    const Matrix x(most, in, 1), w(out, in, 2);
    const Packed packed(w);
    Matrix alone(most, out), y(most, out), hidden_alone(most, out), hidden(most, out);
    for (Index r = 0; r < most; ++r) {
        kernels::matmul(x.view().middle_rows(r, 1), packed.view, alone.view().middle_rows(r, 1));
        kernels::matmul(x.view().middle_rows(r, 1), packed.view, packed.view,
                        hidden_alone.view().middle_rows(r, 1), silu(acc) * acc2);
    }
    const int before = num_threads();
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        for (Index rows = 1; rows <= most; ++rows) {
            kernels::matmul(x.view().middle_rows(0, rows), packed.view,
                            y.view().middle_rows(0, rows));
            kernels::matmul(x.view().middle_rows(0, rows), packed.view, packed.view,
                            hidden.view().middle_rows(0, rows), silu(acc) * acc2);
            Index wrong = 0;
            for (Index r = 0; r < rows; ++r) {
                wrong += !same_bits(alone.view().row(r), y.view().row(r), out);
                wrong += !same_bits(hidden_alone.view().row(r), hidden.view().row(r), out);
            }
            INFO("rows " << rows << ", threads " << threads);
            CHECK(wrong == 0);
        }
    }
    set_num_threads(before);
}

TEST_CASE("bf16 matmul: values are rounded as bf16_from rounds them, NaN and infinity too",
          "[matmul][bf16]") {
    const float inf = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const float v : {0.0F, -0.0F, 1.00390625F, 1.01171875F, -1.00390625F, 0x1.fffffep127F,
                          -inf, nan, -nan, 0x1p-149F, 0x1.01p-133F, 3.14159265F})
        for (const Index at : {0, 5, 36}) {
            Matrix x(1, 37, 1), w(1, 37, 2);
            for (Index i = 0; i < 37; ++i) x.view()(0, i) = w.view()(0, i) = 0;
            x.view()(0, at) = v;
            w.view()(0, at) = 1;
            const Packed packed(w), packed_x(x);
            Matrix y(1, 1);
            kernels::matmul(x.view(), packed.view, y.view());
            const float expected = float_from_bf16(bf16_from(v));
            INFO(v << " at " << at);
            CHECK((y.view()(0, 0) == expected || (v != v && y.view()(0, 0) != y.view()(0, 0))));
            const float stored = packed_x.view.at(0, at);
            CHECK(same_bits(&stored, &expected, 1));
        }
}

TEST_CASE("bf16 weights: packing rounds once, unpacking shows what was kept", "[matmul][bf16]") {
    STATIC_REQUIRE(Bf16Matrix::storage_size(0, 5) == 0);
    STATIC_REQUIRE(Bf16Matrix::storage_size(1, 5) == 32 * Bf16Matrix::panel_rows);
    for (const Index rows : {1, 3, 16, 17, 33, 100})
        for (const Index cols : {1, 3, 31, 32, 33, 100}) {
            const Matrix w(rows, cols, 1);
            const Packed packed(w);
            Matrix back(rows, cols);
            packed.view.unpack(back.view());
            std::vector<float> row(static_cast<std::size_t>(cols));
            packed.view.copy_row(rows - 1, row.data());
            INFO("rows " << rows << ", cols " << cols);
            CHECK(same_bits(row.data(), back.view().row(rows - 1), cols));
            Index wrong = 0, padding = 0;
            for (Index r = 0; r < rows; ++r)
                for (Index c = 0; c < cols; ++c)
                    wrong += back.view()(r, c) != float_from_bf16(bf16_from(w.view()(r, c)));
            for (const auto bits : packed.storage) padding += bits == 0;
            CHECK(wrong == 0);
            CHECK(padding >= Bf16Matrix::storage_size(rows, cols) - rows * cols);
            const Packed again(back);
            CHECK(std::equal(again.storage.begin(), again.storage.end(), packed.storage.begin()));
        }
}
