// StoredTensor: one tensor of a file, seen through the map, and read by conversion in one pass.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/io/block_code.hpp"
#include "hydralm/io/dtype.hpp"
#include "hydralm/weights/format.hpp"

namespace HYDRALM_NAMESPACE {

// What tensors are read as: float and double from F32, F16, BF16, F64 and blocks; integers from
// I64, I32.
template <class T>
concept StoredScalar = Real<T> || std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t>;

// Bytes of a block of 32 weights, as files have it; 0 for a format that has no blocks.
constexpr Index block_bytes(weights::Format format) noexcept {
    const BlockCode* const code = block_code(format);
    return code == nullptr ? 0 : code->bytes;
}

// A tensor to be written, or one that a model expects (then of any floating dtype or format). In
// the format q8 or q4, a matrix [out, in] is U8 [out, blocks of 32, bytes of a block] in a file.
struct TensorSpec {
    std::string name;
    std::vector<Index> shape;
    DType dtype = DType::f32;
    weights::Format format = weights::Format::scalar;
    bool copied = false;  // written by SafetensorsWriter::copy, of any dtype

    Index size() const noexcept {
        Index n = 1;
        for (const Index extent : shape) n *= extent;
        return n;
    }
    // As the header says it.
    std::vector<Index> stored_shape() const {
        if (block_bytes(format) == 0) return shape;
        return {shape[0], ceil_div(shape[1], weights::block_size), block_bytes(format)};
    }
    Index bytes() const {
        Index n = byte_size(dtype);
        for (const Index extent : stored_shape()) n *= extent;
        return n;
    }
};

// "[3, 4]"; "[]" is a scalar.
inline std::string shape_text(std::span<const Index> shape) {
    std::string text = "[";
    for (const Index extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
    return text + "]";
}

// Valid as long as the file it comes from.
class StoredTensor {
public:
    // file: its name, shared by its tensors. code: of a matrix whose rows are whole blocks, of
    // dtype U8 and the shape that its weights have.
    StoredTensor(std::shared_ptr<const std::string> file, TensorSpec spec,
                 std::span<const std::byte> bytes, const BlockCode* code = nullptr)
        : file_(std::move(file)), spec_(std::move(spec)), bytes_(bytes), code_(code) {}

    const std::string& file() const noexcept { return *file_; }
    const std::string& name() const noexcept { return spec_.name; }
    DType dtype() const noexcept { return spec_.dtype; }
    const std::vector<Index>& shape() const noexcept { return spec_.shape; }
    // Elements; of q8 and q4 (format), bytes.
    Index size() const noexcept {
        const auto bytes = static_cast<Index>(bytes_.size());
        if (of_own_blocks() || code_ == nullptr) return bytes / byte_size(dtype());
        return bytes / code_->bytes * code_->weights;
    }
    // The raw elements, in row-major order, of any alignment.
    std::span<const std::byte> bytes() const noexcept { return bytes_; }

    // As a matrix: the first extent, and the product of the others. A scalar is [1, 1].
    Index rows() const noexcept { return shape().empty() ? 1 : shape()[0]; }
    Index cols() const noexcept { return rows() == 0 ? 0 : size() / rows(); }

    // q8 or q4 where the file says that these bytes are blocks of the library's own; else scalar.
    weights::Format format() const noexcept { return spec_.format; }
    // As the file's format spells what the elements are: F32, U8, Q4_K …
    std::string_view type_name() const noexcept {
        return code_ == nullptr ? hydralm::name(dtype()) : code_->name;
    }
    // What a model of float keeps such a matrix in, unless asked otherwise.
    weights::Format kept() const noexcept {
        if (code_ != nullptr) return code_->kept;
        return dtype() == DType::bf16 ? weights::Format::bf16 : weights::Format::scalar;
    }
    // Of the file's word for it. Throws Error for another dtype or shape than blocks have.
    void become_blocks(weights::Format blocks) {
        if (dtype() != DType::u8 || shape().size() != 3 || shape()[2] != block_bytes(blocks))
            fail("U8 [out, blocks, " + std::to_string(block_bytes(blocks)) + "] for " +
                     std::string(weights::name(blocks)),
                 std::string(hydralm::name(dtype())) + " " + shape_text(shape()),
                 "correct hydra_format, or convert the checkpoint again");
        spec_.format = blocks;
        code_ = block_code(blocks);
    }

    // Throws Error when the shape is another one.
    void expect_shape(std::span<const Index> expected) const {
        if (of_own_blocks()) {
            if (expected.size() == 2 && expected[0] == rows() && holds_columns(expected[1])) return;
        } else if (std::equal(expected.begin(), expected.end(), shape().begin(), shape().end())) {
            return;
        }
        fail("shape " + shape_text(expected), shape_text(shape()),
             "use the checkpoint of this configuration");
    }
    // Throws Error unless read<float> can read it.
    void expect_floating() const {
        if (code_ == nullptr) expect_readable<float>();
    }

    // out[0, size()) = every element; of q8 and q4, as many columns of every row as out has room
    // for. Throws Error when out has another size, the dtype is of another kind, or an integer does
    // not fit. Allocates nothing; large tensors are converted by all threads, to the same bits.
    template <StoredScalar T>
    void read(std::span<T> out) const {
        const auto n = static_cast<Index>(out.size());
        const Index cols = rows() == 0 ? 0 : n / rows();
        const bool blocks = Real<T> && code_ != nullptr;
        if (blocks ? rows() * cols != n : n != size())
            fail(std::to_string(out.size()) + " elements",
                 std::to_string(size()) + " in shape " + shape_text(shape()),
                 "use the checkpoint of this configuration");
        if (!blocks) read_rows(0, MatrixView<T>(out.data(), 1, n), n);
        else if (rows() > 0) read_rows(0, MatrixView<T>(out.data(), rows(), cols));
    }

    // out = rows [first, first + out.rows()) of the [rows(), cols()] matrix. Throws Error as read
    // does, and when the tensor has no such rows.
    template <StoredScalar T>
    void read_rows(Index first, MatrixView<T> out) const {
        const bool fits = of_own_blocks() ? holds_columns(out.cols()) : out.cols() == cols();
        if (first < 0 || out.rows() > rows() - first || !fits) {
            fail("rows [" + std::to_string(first) + ", " + std::to_string(first + out.rows()) +
                     ") of " + std::to_string(out.cols()),
                 "shape " + shape_text(shape()), "use the checkpoint of this configuration");
        }
        if constexpr (Real<T>)
            if (code_ != nullptr) {
                if (out.cols() == 0) return;  // of any number of rows
                parallel_for(
                    out.rows(), [&](Index r) { convert_row(first + r, 0, out.row(r), out.cols()); },
                    out.rows() * out.cols() > piece);
                return;
            }
        read_rows(first, out, cols());
    }

    // The same of a part of one row, of a floating dtype or of blocks: n elements from column on,
    // the first of a block. All of it is there.
    template <Real T>
    void convert_row(Index row, Index column, T* out, Index n) const noexcept {
        if (code_ == nullptr) {
            convert(dtype(), bytes_.data() + (row * cols() + column) * byte_size(dtype()), out, n);
            return;
        }
        const std::byte* from = row_of(row) + column / code_->weights * code_->bytes;
        std::array<float, BlockCode::most_weights> block;
        for (; n > 0; n -= code_->weights, out += code_->weights, from += code_->bytes) {
            code_->decode(from, block.data());
            std::transform(block.begin(), block.begin() + std::min(code_->weights, n), out,
                           [](float x) { return static_cast<T>(x); });
        }
    }
    // The bytes of a row that lies in blocks of a format, or in its elements; else empty.
    std::span<const std::byte> row_as_it_lies(Index row, weights::Format format) const noexcept {
        const bool elements = format == weights::Format::bf16 && dtype() == DType::bf16;
        const bool blocks = code_ != nullptr && code_ == block_code(format);
        if (!elements && !blocks) return {};
        return {row_of(row), bytes_.size() / static_cast<std::size_t>(rows())};
    }

    // Every element, in a buffer of their own; not of q8 and q4.
    template <StoredScalar T>
    AlignedBuffer<T> values() const {
        AlignedBuffer<T> out(size());
        read(out.span());
        return out;
    }

private:
    static constexpr Index piece = 1 << 16;  // elements of one task

    template <StoredScalar T>
    void read_rows(Index first, MatrixView<T> out, Index cols) const {
        expect_readable<T>();
        if (out.rows() == 0 || cols == 0) return;
        const Index pieces = ceil_div(cols, piece);
        const Index width = byte_size(dtype());
        const std::byte* const begin = bytes_.data() + first * cols * width;
        std::atomic<bool> fits{true};
        const auto one_piece = [&](Index i, Index j) {
            const Index column = j * piece;
            const Index n = std::min(piece, cols - column);
            const std::byte* const from = begin + (i * cols + column) * width;
            if constexpr (Real<T>) convert(dtype(), from, out.row(i) + column, n);
            else if (!convert_integers(from, out.row(i) + column, n)) fits = false;
        };
        const Index together = std::max<Index>(1, piece / cols);  // short rows of one task
        parallel_for(
            ceil_div(out.rows(), together) * pieces,
            [&](Index task) {
                const Index row = task / pieces * together;
                for (Index i = row; i < std::min(row + together, out.rows()); ++i)
                    one_piece(i, task % pieces);
            },
            out.rows() * cols > piece);
        if (!fits) fail("integers of 32 bits", "larger ones", "read it as 64-bit integers");
    }

    bool holds_columns(Index cols) const noexcept {
        return shape()[1] == ceil_div(cols, weights::block_size);
    }
    bool of_own_blocks() const noexcept { return format() != weights::Format::scalar; }
    const std::byte* row_of(Index row) const noexcept {
        return bytes_.data() + row * (static_cast<Index>(bytes_.size()) / rows());
    }

    template <StoredScalar T>
    bool convert_integers(const std::byte* from, T* to, Index n) const noexcept {
        bool fit = true;
        const auto narrowed = [&fit](auto x) {
            const T y = static_cast<T>(x);
            fit = fit && y == x;
            return y;
        };
        if (dtype() == DType::i64) detail::convert_elements<std::int64_t>(from, to, n, narrowed);
        else detail::convert_elements<std::int32_t>(from, to, n, narrowed);
        return fit;
    }

    template <StoredScalar T>
    void expect_readable() const {
        if (Real<T> ? is_floating(dtype()) : is_index(dtype())) return;
        fail(Real<T> ? "dtype F32, F16, BF16 or F64" : "dtype I64 or I32",
             std::string(hydralm::name(dtype())), "convert the tensor and write the file again");
    }

    [[noreturn]] void fail(std::string expected, std::string found, std::string fix) const {
        raise({.file = file(),
               .field = name(),
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = std::move(fix)});
    }

    std::shared_ptr<const std::string> file_;
    TensorSpec spec_;
    std::span<const std::byte> bytes_;
    const BlockCode* code_;  // null: elements one by one
};

}  // namespace HYDRALM_NAMESPACE
