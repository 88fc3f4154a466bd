// SafetensorsWriter: writes a safetensors file tensor by tensor, whole or not at all, without
// holding it in memory.
#pragma once

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "hydralm/io/atomic_file.hpp"
#include "hydralm/io/safetensors.hpp"

namespace HYDRALM_NAMESPACE {

// Names, dtypes (F32, F64, BF16, I64, or U8 in the format q8 or q4) and shapes are given first;
// values follow in the same order, in pieces of any size; commit() makes the file appear. Header
// and data are in the order given; the data begin at a multiple of 64 bytes.
//     SafetensorsWriter writer("m.safetensors", {{"w", {2, 3}, DType::bf16}}, {{"format", "pt"}});
//     writer.write("w", std::span<const float>(w));
//     writer.commit();
class SafetensorsWriter {
public:
    // Throws Error for a name given twice or reserved, a dtype that is not written, a negative
    // extent, text that is not UTF-8, and all that AtomicFile refuses.
    SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                      const Metadata& metadata = {})
        : file_(path), tensors_(std::move(tensors)) {
        write_header(metadata);
        skip_finished();
    }

    // The next values of `tensor`, which must be the first one not complete; converted to its dtype
    // (F64 → F32 and BF16 round to nearest even) or quantised, whole rows at a time. T: float or
    // double for a floating dtype, std::int64_t or std::int32_t for I64. Throws Error when the
    // tensor is not next, gets too many values or values of another kind, or the disk is full.
    template <StoredScalar T>
    void write(std::string_view tensor, std::span<const T> values) {
        if (values.empty()) return;
        const Index n = static_cast<Index>(values.size());
        if (next_ == tensors_.size() || tensors_[next_].name != tensor) {
            fail(std::string(tensor),
                 next_ == tensors_.size() ? "no more values" : "values of " + tensors_[next_].name,
                 "values of " + std::string(tensor),
                 "write tensors in the order they were declared in");
        }
        const TensorSpec& spec = tensors_[next_];
        if (spec.copied || Real<T> != (is_floating(spec.dtype) || block_bytes(spec.format) != 0)) {
            fail(spec.name, "values for " + std::string(hydralm::name(spec.dtype)),
                 Real<T> ? "floating-point ones" : "integers", "declare the dtype of the values");
        }
        if (n > spec.size() - done_) {
            fail(spec.name, std::to_string(spec.size()) + " values", std::to_string(done_ + n),
                 "declare the shape of the values");
        }
        if constexpr (Real<T>) {
            if (spec.format == weights::Format::q8) put_blocks<weights::Q8Block>(spec, values);
            if (spec.format == weights::Format::q4) put_blocks<weights::Q4Block>(spec, values);
        }
        switch (spec.dtype) {
            case DType::u8: break;
            case DType::f32: put<float>(values, [](T x) { return static_cast<float>(x); }); break;
            case DType::f64: put<double>(values, [](T x) { return static_cast<double>(x); }); break;
            case DType::bf16:
                if constexpr (Real<T>) put<std::uint16_t>(values, [](T x) { return bf16_from(x); });
                break;
            default:
                put<std::int64_t>(values, [](T x) { return static_cast<std::int64_t>(x); });
                break;
        }
        done_ += n;
        skip_finished();
    }
    template <StoredScalar T>
    void write(std::string_view tensor, std::span<T> values) {
        write(tensor, std::span<const T>(values));
    }
    // The next tensor, which was declared as copied, byte for byte. Throws Error when it is not
    // next or has another size, or the disk is full.
    void copy(const StoredTensor& tensor) {
        if (tensor.bytes().empty()) return;
        const bool next = next_ < tensors_.size() && tensors_[next_].name == tensor.name() &&
                          tensors_[next_].copied;
        if (!next || tensors_[next_].bytes() != static_cast<Index>(tensor.bytes().size()))
            fail(tensor.name(), "the tensor that was declared as copied", "another",
                 "write tensors in the order they were declared in");
        file_.write(tensor.bytes());
        done_ = tensors_[next_].size();
        skip_finished();
    }

    // Throws Error when a tensor is not complete, or the disk fails.
    void commit() {
        if (next_ < tensors_.size()) {
            const TensorSpec& spec = tensors_[next_];
            fail(spec.name, std::to_string(spec.size()) + " values", std::to_string(done_),
                 "write every tensor before commit()");
        }
        file_.commit();
    }

private:
    void write_header(const Metadata& metadata) {
        std::set<std::string_view> names;
        for (const TensorSpec& spec : tensors_) {
            check(spec);
            if (!names.insert(spec.name).second)
                fail(spec.name, "each name once", "this one twice", "rename one of the two");
        }
        for (const auto& [key, value] : metadata) {
            expect_utf8(key);
            expect_utf8(value);
        }
        std::string text = header_text(metadata);
        text.append(static_cast<std::size_t>(round_up(static_cast<Index>(text.size()) + 8, 64)) -
                        8 - text.size(),
                    ' ');
        const std::uint64_t length = text.size();
        file_.write(std::as_bytes(std::span(&length, 1)));
        file_.write(text);
    }

    void expect_utf8(std::string_view text) const {
        if (!detail::is_utf8(text))
            fail("header", "names and metadata in UTF-8", detail::one_line(text, 80),
                 "correct the text");
    }

    void check(const TensorSpec& spec) const {
        const DType d = spec.dtype;
        if (spec.name == "__metadata__")
            fail(spec.name, "another name", "the reserved one", "rename the tensor");
        const bool of_blocks = block_bytes(spec.format) != 0;
        const bool writes =
            of_blocks ? d == DType::u8 && spec.shape.size() == 2
                      : d == DType::f32 || d == DType::f64 || d == DType::bf16 || d == DType::i64;
        if (!writes && !spec.copied)
            fail(spec.name, "dtype F32, F64, BF16, I64 or a matrix of blocks",
                 std::string(hydralm::name(d)), "choose one of them");
        if (std::any_of(spec.shape.begin(), spec.shape.end(), [](Index n) { return n < 0; }))
            fail(spec.name, "extents of at least 0", shape_text(spec.shape), "correct the shape");
        expect_utf8(spec.name);
    }

    // Written by hand, because the order of the keys is the order of the file.
    std::string header_text(const Metadata& metadata) const {
        std::string text = "{";
        if (!metadata.empty()) text += "\"__metadata__\":" + detail::Json(metadata).dump();
        Index end = 0;
        for (const TensorSpec& spec : tensors_) {
            const Index begin = end;
            end += spec.bytes();
            if (text.size() > 1) text += ',';
            text += detail::quoted(spec.name) +
                    ":{\"dtype\":" + detail::quoted(hydralm::name(spec.dtype)) +
                    ",\"shape\":" + detail::Json(spec.stored_shape()).dump() +
                    ",\"data_offsets\":" + detail::Json({begin, end}).dump() + "}";
        }
        return text + "}";
    }

    template <class To, StoredScalar T, class F>
    void put(std::span<const T> values, F convert_one) {
        if constexpr (std::same_as<To, T>) {
            file_.write(std::as_bytes(values));
        } else {
            std::array<To, 8192> converted;
            while (!values.empty()) {
                const auto part = values.first(std::min(values.size(), converted.size()));
                std::transform(part.begin(), part.end(), converted.begin(), convert_one);
                file_.write(std::as_bytes(std::span(converted).first(part.size())));
                values = values.subspan(part.size());
            }
        }
    }

    // Whole rows, a stretch of them at a time by all threads.
    template <class Block, Real T>
    void put_blocks(const TensorSpec& spec, std::span<const T> values) {
        const Index cols = spec.shape[1], blocks = ceil_div(cols, weights::block_size);
        const Index rows = static_cast<Index>(values.size()) / cols;
        if (rows * cols != static_cast<Index>(values.size()))
            fail(spec.name, "whole rows of " + std::to_string(cols),
                 std::to_string(values.size()) + " values", "write as many rows as you like");
        const Index stretch = std::max<Index>(1, 65'536 / cols);
        std::vector<Block> made(static_cast<std::size_t>(std::min(stretch, rows) * blocks));
        for (Index first = 0; first < rows; first += stretch) {
            const Index count = std::min(stretch, rows - first);
            parallel_for(count, [&](Index r) {
                constexpr Index width = 32 * weights::block_size;
                std::array<float, static_cast<std::size_t>(width)> w;
                const T* const row = values.data() + (first + r) * cols;
                Block* out = made.data() + r * blocks;
                for (Index from = 0; from < cols; from += width) {
                    const Index n = std::min(width, cols - from), whole = n / weights::block_size,
                                rest = n % weights::block_size;
                    std::transform(row + from, row + from + n, w.begin(),
                                   [](T x) { return static_cast<float>(x); });
                    Block::quantise(w.data(), weights::block_size, whole, weights::block_size, out);
                    out += whole;
                    if (rest > 0) *out = Block::quantise(w.data() + n - rest, rest);
                }
            });
            file_.write(
                std::as_bytes(std::span(made).first(static_cast<std::size_t>(count * blocks))));
        }
    }

    void skip_finished() {
        while (next_ < tensors_.size() && done_ == tensors_[next_].size()) {
            ++next_;
            done_ = 0;
        }
    }

    [[noreturn]] void fail(const std::string& tensor, std::string expected, std::string found,
                           const char* fix) const {
        raise({.file = file_.name(),
               .field = tensor,
               .expected = std::move(expected),
               .found = std::move(found),
               .fix = fix});
    }

    AtomicFile file_;
    std::vector<TensorSpec> tensors_;
    std::size_t next_ = 0;  // the tensor being written
    Index done_ = 0;        // values of it already written
};

}  // namespace HYDRALM_NAMESPACE
