// Operands of matrix products that show what reads or writes beside them.
#pragma once

#include <cstring>
#include <limits>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "hydralm/core/matrix_view.hpp"
#include "hydralm/core/random.hpp"

namespace hydralm::test {

// A matrix off the vector alignment whose rows are padded with NaN; a product that reads or writes
// the padding shows.
template <Real T>
struct PaddedMatrix {
    PaddedMatrix(Index rows_, Index cols_)
        : rows(rows_), cols(cols_), values((rows + 1) * (cols + 3) + 1) {
        for (auto& v : values) v = std::numeric_limits<T>::quiet_NaN();
    }
    PaddedMatrix(Index rows_, Index cols_, std::uint64_t seed) : PaddedMatrix(rows_, cols_) {
        Random random(seed);
        for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < cols; ++c) view()(r, c) = static_cast<T>(random.uniform(-1, 1));
    }
    MatrixView<T> view() { return {values.data() + 1, rows, cols, cols + 3}; }
    MatrixView<const T> view() const { return {values.data() + 1, rows, cols, cols + 3}; }
    std::vector<T> elements() const {
        std::vector<T> all;
        for (Index r = 0; r < rows; ++r) all.insert(all.end(), view().row(r), view().row(r) + cols);
        return all;
    }
    Index written_outside() const {
        Index count = 0;
        for (const T v : values) count += v == v;
        for (const T v : elements()) count -= v == v;
        return count;
    }

    Index rows, cols;
    AlignedBuffer<T> values;
};

template <Real T>
bool same_bits(const T* a, const T* b, Index count) {
    return count == 0 || std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(T)) == 0;
}

}  // namespace hydralm::test
