// kernels/matmul with weights of 8 and 4 bits: every bit is that of the plain loops, on every leaf
// this machine can run, for shapes around every block and tile size, strided and misaligned
// operands and any number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/kernels/matmul/matmul.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/padded_matrix.hpp"
#include "support/small_stack.hpp"

using namespace hydralm;
using test::frames_are_plain;
using test::same_bits;
using Matrix = test::PaddedMatrix<float>;
using weights::Q4Block;
using weights::Q8Block;

namespace {

template <class Block>
std::vector<Block> quantised(MatrixView<const float> w) {
    std::vector<Block> blocks;
    for (Index r = 0; r < w.rows(); ++r)
        for (Index c = 0; c < w.cols(); c += 32)
            blocks.push_back(Block::quantise(w.row(r) + c, std::min<Index>(32, w.cols() - c)));
    return blocks;
}

// A matrix in blocks, and packed.
template <class Block>
struct Packed {
    using Weights = weights::QuantisedMatrix<Block>;
    Packed(std::vector<Block> b, Index rows, Index cols)
        : blocks(std::move(b)),
          storage(Weights::storage_size(rows, cols)),
          view(Weights::pack_blocks(blocks.data(), rows, cols, storage.data())) {}
    explicit Packed(const Matrix& w) : Packed(quantised<Block>(w.view()), w.rows, w.cols) {}
    MatrixView<const Block> rows_of_blocks() const {
        return {blocks.data(), view.rows(), Weights::blocks_of(view.cols())};
    }
    std::vector<Block> blocks;
    AlignedBuffer<std::uint8_t> storage;
    Weights view;
};

std::string shape(Index rows, Index in, Index out) {
    return "M " + std::to_string(rows) + ", in " + std::to_string(in) + ", out " +
           std::to_string(out) + ", seeds 1, 2, 3";
}

template <class Block>
void check_product(const Matrix& x, const Packed<Block>& w) {
    const Index rows = x.rows, in = x.cols, out = w.view.rows();
    Matrix expected(rows, out);
    kernels::reference::matmul_quantised<Block>(x.view(), w.rows_of_blocks(), expected.view());
    const Index enough = kernels::quantised_workspace_bytes(rows, in);
    AlignedBuffer<std::byte> memory(enough);
    for (const auto& leaf : simd::byte_dot_leaves) {
        if (!leaf.available()) continue;
        for (const Index given : {Index{0}, enough}) {  // what does not fit is done in parts
            Arena arena(memory.span().first(static_cast<std::size_t>(given)));
            Matrix y(rows, out);
            kernels::detail::multiply_by(leaf, x.view(), std::array{&w.view}, y.view(), acc,
                                         &arena);
            Index wrong = 0;
            for (Index r = 0; r < rows; ++r)
                wrong += !same_bits(y.view().row(r), expected.view().row(r), out);
            INFO(leaf.name << ", " << shape(rows, in, out) << ", arena " << given);
            CHECK(wrong == 0);
            CHECK(y.written_outside() == 0);
            CHECK(arena.used() == 0);
            if (enough == 0) break;
        }
    }
}

template <class Block>
void check_shape(Index rows, Index in, Index out) {
    check_product<Block>(Matrix(rows, in, 1), Packed<Block>(Matrix(out, in, 2)));
}

}  // namespace

TEST_CASE("quantised matmul: the leaves of this machine", "[matmul][quantised]") {
    std::string names;
    for (const auto& leaf : simd::byte_dot_leaves)
        names += std::string(leaf.name) + (leaf.available() ? " runs\n" : " skipped\n");
    WARN(names << "in use: " << simd::byte_dot_leaf().name);
    const auto first = std::ranges::find_if(simd::byte_dot_leaves,
                                            [](const auto& leaf) { return leaf.available(); });
    CHECK(std::string(simd::byte_dot_leaf().name) == first->name);
    CHECK(simd::byte_dot_leaves.back().available());
}

TEMPLATE_TEST_CASE("quantised matmul: every bit is that of the plain loops", "[matmul][quantised]",
                   Q8Block, Q4Block) {
    for (const Index rows : {0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 16, 17})
        for (const Index in : {0, 1, 31, 32, 33, 64, 65, 96, 127})
            for (const Index out : {1, 15, 16, 17, 33, 65}) check_shape<TestType>(rows, in, out);
}

TEMPLATE_TEST_CASE("quantised matmul: more inputs than a slice, more rows than fit",
                   "[matmul][quantised]", Q8Block, Q4Block) {
    for (const Index in : {511, 512, 513, 1100})
        for (const Index rows : {1, 5, 14}) check_shape<TestType>(rows, in, 70);
    check_shape<TestType>(205, 40, 20);   // 96 rows at a time
    check_shape<TestType>(205, 600, 20);  // without an arena 84
    check_shape<TestType>(5, 57'344, 3);  // 3, or 1
}

TEMPLATE_TEST_CASE("quantised matmul: blocks of zeros, the ends of the range, tiny and huge rows",
                   "[matmul][quantised]", Q8Block, Q4Block) {
    Matrix x(17, 96, 1), w(17, 96, 2);
    for (Index r = 0; r < 17; ++r)
        for (Index c = 0; c < 96; ++c) {
            const float sign = (r + c) % 2 == 0 ? 1.0F : -1.0F;
            auto& xv = x.view()(r, c);
            auto& wv = w.view()(r, c);
            if (r % 8 == 1 && c / 32 == 1) xv = 0;
            if (r % 8 == 2) xv = 0;
            if (r % 8 == 3) xv = sign * 127;     // ±127 everywhere
            if (r % 8 == 4) xv = sign * 1e-44F;  // counts as 0
            if (r % 8 == 5) xv *= 1e-36F;
            if (r % 8 == 6) xv *= 1e30F;
            if (r % 8 == 7) xv = static_cast<float>(c % 32) + 0.5F;  // ties
            if (r % 5 == 1) wv = 0;
            if (r % 5 == 2) wv = sign * 127;
            if (r % 5 == 3) wv *= 1e-5F;  // a subnormal scale
            if (r % 5 == 4) wv *= 1e5F;
        }
    x.view()(7, 31) = 127;
    check_product(x, Packed<TestType>(w));
}

TEST_CASE("quantised matmul: every byte of a foreign file", "[matmul][quantised]") {
    std::vector<Q8Block> eight(17 * 3);
    std::vector<Q4Block> four(17 * 3);
    Random random(3);
    for (auto& block : eight) {
        block.scale_bits = f16_from(static_cast<float>(random.uniform(-1, 1)));
        for (auto& v : block.values) v = static_cast<std::int8_t>(random.uniform(-128, 128));
        block.values[5] = -128;
    }
    for (auto& block : four) {
        block.scale_bits = f16_from(static_cast<float>(random.uniform(-1, 1)));
        for (auto& v : block.nibbles) v = static_cast<std::uint8_t>(random.uniform(0, 256));
    }
    const Matrix x(11, 96, 1);
    check_product(x, Packed<Q8Block>(eight, 17, 96));
    check_product(x, Packed<Q4Block>(four, 17, 96));
}

TEMPLATE_TEST_CASE("quantised matmul: a NaN or an infinity makes its row NaN, and no other",
                   "[matmul][quantised]", Q8Block, Q4Block) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Matrix x(3, 70, 1), w(17, 70, 2), in_w(17, 70, 2);
        x.view()(1, 40) = bad;
        in_w.view()(16, 69) = -bad;
        const Packed<TestType> packed(w), packed_bad(in_w);
        for (const auto& leaf : simd::byte_dot_leaves) {
            if (!leaf.available()) continue;
            Matrix y(3, 17), z(3, 17);
            kernels::detail::multiply_by(leaf, x.view(), std::array{&packed.view}, y.view(), acc);
            kernels::detail::multiply_by(leaf, x.view(), std::array{&packed_bad.view}, z.view(),
                                         acc);
            Index wrong = 0;
            for (Index r = 0; r < 3; ++r)
                for (Index o = 0; o < 17; ++o) {
                    wrong += std::isnan(y.view()(r, o)) != (r == 1);
                    wrong += std::isnan(z.view()(r, o)) != (r == 1 || o == 16);
                }
            INFO(leaf.name << ", " << bad);
            CHECK(wrong == 0);
        }
    }
}

TEMPLATE_TEST_CASE("quantised matmul: epilogues, two products, any number of threads",
                   "[matmul][quantised]", Q8Block, Q4Block) {
    const Index in = 130, out = 150;
    const int before = num_threads();
    for (const Index rows : {1, 8, 25}) {
        const Matrix x(rows, in, 1), g(out, in, 2), u(out, in, 3), old(rows, out, 4);
        const Packed<TestType> gate(g), up(u);
        Matrix a(rows, out), b(rows, out);
        kernels::reference::matmul_quantised<TestType>(x.view(), gate.rows_of_blocks(), a.view());
        kernels::reference::matmul_quantised<TestType>(x.view(), up.rows_of_blocks(), b.view());
        for (const int threads : {1, 2, 3}) {
            set_num_threads(threads);
            Matrix sum(old), both(rows, out), hidden(rows, out);
            kernels::matmul(x.view(), gate.view, sum.view(), sum.view() + acc);
            kernels::matmul(x.view(), gate.view, up.view, both.view(), acc - acc2);
            kernels::matmul_swiglu(x.view(), gate.view, up.view, hidden.view());
            Index wrong = 0;
            double worst = 0;
            for (Index r = 0; r < rows; ++r)
                for (Index o = 0; o < out; ++o) {
                    wrong += sum.view()(r, o) != old.view()(r, o) + a.view()(r, o);
                    wrong += both.view()(r, o) != a.view()(r, o) - b.view()(r, o);
                    const double gated = static_cast<double>(a.view()(r, o));
                    const double expected = gated / (1 + std::exp(-gated)) * b.view()(r, o);
                    worst = std::fmax(worst, std::abs(hidden.view()(r, o) - expected));
                }
            INFO(shape(rows, in, out) << ", threads " << threads);
            CHECK(wrong == 0);
            CHECK(worst < 1e-4);
            CHECK(sum.written_outside() + both.written_outside() + hidden.written_outside() == 0);
        }
    }
    set_num_threads(before);
}

TEMPLATE_TEST_CASE("quantised matmul: a row fits the stack of a step, many that of a prefill",
                   "[matmul][quantised][stack]", Q8Block, Q4Block) {
    if constexpr (frames_are_plain)
        for (const auto& [rows, in, most] :
             {std::array{Index{1}, Index{20'480}, test::stack_of_step},
              std::array{Index{250}, Index{600}, test::stack_of_prefill},
              std::array{Index{1}, Index{57'344}, test::stack_of_prefill}}) {
            const Matrix x(rows, in, 1), w(33, in, 2);
            const Packed<TestType> packed(w);
            Matrix y(rows, 33);
            INFO(shape(rows, in, 33));
            CHECK(test::stack_bytes([&] {  // without an arena
                      kernels::matmul_swiglu(x.view(), packed.view, packed.view, y.view());
                  }) <= most);
        }
}

TEMPLATE_TEST_CASE("quantised weights: what is packed is unpacked bit for bit",
                   "[matmul][quantised]", Q8Block, Q4Block) {
    using Weights = weights::QuantisedMatrix<TestType>;
    STATIC_REQUIRE(Weights::storage_size(0, 5) == 0);
    STATIC_REQUIRE(Weights::storage_size(1, 5) == Weights::pair_bytes);
    for (const Index rows : {1, 3, 16, 17, 33})
        for (const Index cols : {1, 31, 32, 33, 64, 65, 100}) {
            const Matrix w(rows, cols, 1);
            const Packed<TestType> packed(w);
            Matrix back(rows, cols);
            packed.view.unpack(back.view());
            Index wrong = 0;
            const Index blocks = Weights::blocks_of(cols);
            for (Index r = 0; r < rows; ++r) {
                for (Index b = 0; b < blocks; ++b) {
                    const TestType block = packed.view.block(r, b);
                    wrong += std::memcmp(&block,
                                         &packed.blocks[static_cast<std::size_t>(r * blocks + b)],
                                         sizeof block) != 0;
                }
                for (Index c = 0; c < cols; ++c) {
                    const auto& block =
                        packed.blocks[static_cast<std::size_t>(r * blocks + c / 32)];
                    const float expected = block.scale() * static_cast<float>(block.value(c % 32));
                    wrong += back.view()(r, c) != expected || packed.view.at(r, c) != expected;
                }
            }
            AlignedBuffer<std::uint8_t> storage(Weights::storage_size(rows, cols));
            Weights::pack(w.view(), storage.data());
            INFO("rows " << rows << ", cols " << cols);
            CHECK(wrong == 0);
            CHECK(same_bits(storage.span(), packed.storage.span()));
            CHECK(back.written_outside() == 0);
        }
}

TEST_CASE("quantised weights: errors of a block are those of its law", "[quantised]") {
    Random random(1);
    double squares = 0, error8 = 0, error4 = 0, plain4 = 0;
    for (int n = 0; n < 500; ++n) {
        std::array<float, 32> w;
        float most = 0;
        for (float& v : w) v = static_cast<float>(random.normal());
        for (const float v : w)
            if (std::abs(v) > std::abs(most)) most = v;
        const auto eight = Q8Block::quantise(w.data(), 32);
        const auto four = Q4Block::quantise(w.data(), 32);
        const float scale = -most / 127;
        for (Index i = 0; i < 32; ++i) {
            const double v = w[static_cast<std::size_t>(i)];
            const double e8 = v - static_cast<double>(eight.scale()) * eight.value(i);
            const double e4 = v - static_cast<double>(four.scale()) * four.value(i);
            double nearest = 1e9;  // by the plain scale, the largest weight at the table's end
            for (const int entry : Q4Block::table)
                nearest = std::fmin(nearest, std::abs(v - static_cast<double>(scale) * entry));
            CHECK(std::abs(e8) <= 0.5005 * static_cast<double>(eight.scale()) + 1e-3 * std::abs(v));
            squares += v * v;
            error8 += e8 * e8;
            error4 += e4 * e4;
            plain4 += nearest * nearest;
        }
    }
    CHECK(std::sqrt(error8 / squares) < 0.0060);
    CHECK(std::sqrt(error4 / squares) < 0.075);
    CHECK(error4 < 0.85 * plain4);
}

// A block, its weights, and what is made of them.
template <class Block>
std::array<float, 32> values_of(const Block& block) {
    std::array<float, 32> w;
    for (Index i = 0; i < 32; ++i)
        w[static_cast<std::size_t>(i)] = block.scale() * static_cast<float>(block.value(i));
    return w;
}

TEMPLATE_TEST_CASE("quantised weights: what was quantised once stays as it is", "[quantised]",
                   Q8Block, Q4Block) {
    Random random(2);
    Index wrong = 0, kept = 0;
    for (int n = 0; n < 3000; ++n) {
        std::array<float, 32> w;
        const double size = std::exp(random.uniform(-20, 12));
        for (float& v : w) v = static_cast<float>(size * random.normal());
        if (n % 5 == 1) w.fill(w[0]);
        if (n % 5 == 2) w.fill(0);
        if (n % 5 == 3)
            for (std::size_t i = 0; i < 32; ++i) w[i] = i % 3 == 0 ? -8 * w[0] : 5 * w[0];
        if (n % 5 == 4)  // of another's making
            w = values_of(
                TestType{.scale_bits = f16_from(static_cast<float>(std::min(size, 1e4)))});
        const Index count = n % 7 == 0 ? 1 + n % 31 : 32;
        const auto once = TestType::quantise(w.data(), count);
        const auto twice = TestType::quantise(values_of(once).data(), count);
        wrong += std::memcmp(&once, &twice, sizeof once) != 0;
        kept += values_of(once) == w;
    }
    CHECK(wrong == 0);
    CHECK(kept >= 1000);  // the zeros, and those of another's making
}

TEST_CASE("quantised weights: every block of a foreign file keeps its values", "[quantised]") {
    Random random(3);
    Index wrong = 0;
    for (int n = 0; n < 300; ++n) {
        Q8Block eight{.scale_bits = f16_from(static_cast<float>(random.uniform(-1, 1)))};
        Q4Block four{.scale_bits = f16_from(static_cast<float>(random.uniform(-1, 1)))};
        for (auto& v : eight.values) v = static_cast<std::int8_t>(random.uniform(-127, 128));
        for (auto& v : four.nibbles) v = static_cast<std::uint8_t>(random.uniform(0, 256));
        const auto w8 = values_of(eight), w4 = values_of(four);
        wrong += values_of(Q8Block::quantise(w8.data(), 32)) != w8;
        wrong += values_of(Q4Block::quantise(w4.data(), 32)) != w4;
    }
    CHECK(wrong == 0);
}
