// Matrices packed as they are read: the bits of reading all values and packing them.
#include "hydralm/io/stored_rows.hpp"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "hydralm/core/parallel.hpp"
#include "hydralm/core/random.hpp"
#include "support/catch.hpp"

using namespace hydralm;
using namespace hydralm::weights;

namespace {

// Tensors of random bytes: of elements, few of them not finite, or of blocks with scales of all
// kinds, some in no form that quantising gives, few not finite.
struct Tensors {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<StoredTensor> list;

    void add(Random& random, Index rows, Index cols, DType dtype, const BlockCode* code) {
        const auto size = code != nullptr ? rows * (cols / code->weights) * code->bytes
                                          : rows * cols * byte_size(dtype);
        auto& memory = bytes.emplace_back(static_cast<std::size_t>(size) + 1);
        for (std::byte& b : memory) b = static_cast<std::byte>(random.below(256));
        list.emplace_back(std::make_shared<const std::string>("memory"),
                          TensorSpec{"w", {rows, cols}, code != nullptr ? DType::u8 : dtype},
                          std::span<const std::byte>(memory).subspan(1), code);
    }
    // The last one's elements become finite. Of dtype bf16.
    void make_finite() {
        for (std::size_t high = 2; high < bytes.back().size(); high += 2)
            bytes.back()[high] &= ~std::byte{0x40};  // of the exponent
    }
};

template <class Matrix>
void check_packed(const StoredRows<typename Matrix::Scalar>& source, const Tensors& tensors,
                  Index first, Index rows, Index cols) {
    using T = typename Matrix::Scalar;
    std::vector<T> values;
    for (const StoredTensor& tensor : tensors.list) {
        const auto read = tensor.values<T>();
        values.insert(values.end(), read.begin(), read.end());
    }
    const auto size = static_cast<std::size_t>(Matrix::storage_size(rows, cols));
    AlignedBuffer<typename Matrix::Element> expected(static_cast<Index>(size)),
        found(static_cast<Index>(size) + 1);
    std::memset(found.data(), 0xa5, (size + 1) * sizeof(typename Matrix::Element));
    const auto untouched = found[static_cast<Index>(size)];
    Matrix::pack(MatrixView<const T>(values.data() + first * cols, rows, cols), expected.data());
    const auto packed = pack_rows(Matrix(), source, first, rows, cols, found.data());
    INFO(tensors.list.front().type_name()
         << " in " << name(Matrix::format) << ", rows " << rows << ", cols " << cols);
    CHECK(std::memcmp(found.data(), expected.data(), size * sizeof(typename Matrix::Element)) == 0);
    CHECK(found[static_cast<Index>(size)] == untouched);
    CHECK(packed.rows() == rows);
    CHECK(packed.cols() == cols);
}

}  // namespace

TEST_CASE("rows of stored tensors are packed as their values are", "[io]") {
    Random random(5);
    const auto check = [&](DType dtype, const BlockCode* code, Index cols, bool finite = false) {
        for (const Index rows : {1, 16, 33, 70}) {
            Tensors tensors;
            tensors.add(random, 3, cols, dtype, code);
            if (finite) tensors.make_finite();
            tensors.add(random, rows, cols, dtype, code);
            if (finite) tensors.make_finite();
            StoredRows<float> source(cols);
            StoredRows<double> wide(cols);
            const auto add = [&](auto& to) {  // the second tensor in two runs
                to.add(tensors.list[0], 0, 3);
                to.add(tensors.list[1], 0, rows / 2);
                to.add(tensors.list[1], rows / 2, rows - rows / 2);
            };
            add(source);
            add(wide);
            check_packed<PackedMatrix<float>>(source, tensors, 2, rows, cols);
            check_packed<PackedMatrix<double>>(wide, tensors, 2, rows, cols);
            check_packed<Bf16Matrix>(source, tensors, 2, rows, cols);
            check_packed<Q8Matrix>(source, tensors, 2, rows, cols);
            check_packed<Q4Matrix>(source, tensors, 2, rows, cols);
            if (finite) CHECK(source.finite());
            for (Index r = 0; finite && r < 3 + rows; ++r)  // and so without being converted
                REQUIRE(source.as_it_lies(r, Format::bf16) != nullptr);
        }
    };
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64})
        for (const Index cols : {1, 31, 96, 301}) check(dtype, nullptr, cols);
    for (const Index cols : {1, 31, 96, 301}) check(DType::bf16, nullptr, cols, true);
    using namespace block_codes;
    for (const BlockCode* const code : {&q8_0, &iq4_nl, &q4_0})
        for (const Index cols : {32, 288, 544}) check(DType::u8, code, cols);
    for (const BlockCode* const code : {&q6_k, &iq4_xs}) check(DType::u8, code, 512);
}

TEST_CASE("rows of stored tensors are packed by several threads as by one", "[io][threads]") {
    Random random(6);
    constexpr Index rows = 411, cols = 288;  // more than one thread is given
    static_assert(rows * cols > 100'000);
    const auto check = [&](DType dtype, const BlockCode* code, bool finite = false) {
        Tensors tensors;
        tensors.add(random, rows, cols, dtype, code);
        if (finite) tensors.make_finite();
        StoredRows<float> source(cols);
        source.add(tensors.list[0], 0, rows);
        check_packed<PackedMatrix<float>>(source, tensors, 0, rows, cols);
        check_packed<Bf16Matrix>(source, tensors, 0, rows, cols);
        check_packed<Q8Matrix>(source, tensors, 0, rows, cols);
        check_packed<Q4Matrix>(source, tensors, 0, rows, cols);
        CHECK(source.finite() == finite);  // of random bytes some are not
    };
    const int before = num_threads();
    set_num_threads(4);
    check(DType::bf16, nullptr);
    check(DType::bf16, nullptr, true);
    check(DType::u8, &block_codes::q8_0);
    check(DType::u8, &block_codes::iq4_nl);
    set_num_threads(before);
}

TEST_CASE("rows of stored tensors say whether all that was read is finite", "[io]") {
    const auto finite = []<class Matrix = Q8Matrix>(const StoredTensor& tensor, Index cols,
                                                    Matrix = {}) {
        StoredRows<float> source(cols);
        source.add(tensor, 0, tensor.rows());
        AlignedBuffer<typename Matrix::Element> storage(Matrix::storage_size(tensor.rows(), cols));
        pack_rows(Matrix(), source, 0, tensor.rows(), cols, storage.data());
        return source.finite();
    };
    const auto tensor = [](const auto& data, DType dtype, const BlockCode* code) {
        return StoredTensor(std::make_shared<const std::string>("memory"), {"w", {2, 32}, dtype},
                            std::as_bytes(std::span(data)), code);
    };
    std::vector<float> values(64, 1.5F);
    CHECK(finite(tensor(values, DType::f32, nullptr), 32));
    values[40] = std::numeric_limits<float>::infinity();
    CHECK_FALSE(finite(tensor(values, DType::f32, nullptr), 32));
    std::vector<std::uint16_t> halves(64, 0x3f80);
    CHECK(finite(tensor(halves, DType::bf16, nullptr), 32, Bf16Matrix()));
    for (const int bits : {0x7f80, 0xff80, 0x7fc0, 0xffff}) {
        halves[63] = static_cast<std::uint16_t>(bits);
        CHECK_FALSE(finite(tensor(halves, DType::bf16, nullptr), 32, Bf16Matrix()));
    }
    std::vector<Q8Block> blocks(2, Q8Block{.scale_bits = 0x3c00});
    CHECK(finite(tensor(blocks, DType::u8, &block_codes::q8_0), 32));
    blocks[1].scale_bits = 0x7e00;
    CHECK_FALSE(finite(tensor(blocks, DType::u8, &block_codes::q8_0), 32));
}
