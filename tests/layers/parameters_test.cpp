// One declaration of a layer's tensors in its three storages: described, packed, flat.
#include "hydralm/layers/parameters.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "hydralm/core/aligned_buffer.hpp"
#include "support/catch.hpp"

namespace {

using namespace hydralm;

// One tensor of every sort; the extents fit no panel.
struct Everything {
    template <class Storage>
    struct Parameters {
        typename Storage::Matrix matrix{};
        std::array<typename Storage::Matrix, 3> fused{};
        typename Storage::Taps taps{};
        typename Storage::Vector vector{};
    };
    template <class P, class V>
    constexpr void visit(P& p, V& v) const {
        v.matrix(p.matrix, "matrix.weight", laws::projection, 6, 5, 3);
        v.nested("outer", [&] {
            v.nested("inner", [&] { v.fused(p.fused, "fused.weight", laws::head, 7, 3); });
            v.taps(p.taps, "taps.weight", laws::convolution, 9, 4);
        });
        v.vector(p.vector, "bias", laws::norm, 11);
    }
};

constexpr auto infos = [] {
    std::array<ParameterInfo, 4> all{};
    std::size_t n = 0;
    describe_parameters(Everything{}, [&](const ParameterInfo& info) { all.at(n++) = info; });
    return all;
}();
static_assert(infos[0].name() == "matrix.weight" && infos[0].rank == 2 &&
              infos[0].parts.count == 3 && infos[0].fields == 1);
static_assert(infos[1].name() == "outer.inner.fused.weight" && infos[1].rows() == 21 &&
              infos[1].parts.count == 3 && infos[1].fields == 3);
static_assert(infos[2].name() == "outer.taps.weight" && infos[2].rank == 3 &&
              infos[2].shape()[1] == 1 && infos[2].size() == 36 &&
              infos[2].law.role == ParameterRole::convolution);
static_assert(infos[3].name() == "bias" && infos[3].rank == 1 && infos[3].size() == 11 &&
              infos[3].cols() == 1);
static_assert(name(laws::projection.group) == "muon");
static_assert(name(laws::residual_projection.group) == "muon");
static_assert(name(laws::embedding.group) == "adamw");
static_assert(name(laws::gate.group) == "adamw" && name(laws::output_gate.group) == "adamw");
// Parts of unequal height: grouped keys have fewer rows than queries.
static_assert(Parts({8, 2, 2}).height(0, 12) == 8 && Parts({8, 2, 2}).height(2, 12) == 2 &&
              Parts(3).height(1, 12) == 4 && Parts().height(0, 12) == 12);

// Numbers whose bits are easily lost: −0, subnormals, infinities, a NaN with a payload; then
// counting.
template <Real T>
T awkward(Index i) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    switch (i) {
        case 0: return -T(0);
        case 1: return std::numeric_limits<T>::denorm_min();
        case 2: return -std::numeric_limits<T>::infinity();
        case 3:
            return std::bit_cast<T>(
                static_cast<Bits>(std::bit_cast<Bits>(std::numeric_limits<T>::quiet_NaN()) | 123));
        default: return static_cast<T>(i);
    }
}

}  // namespace

TEST_CASE("Packed parameters come back bit for bit", "[parameters]") {
    const auto check = []<Real T>(T) {
        Index bytes = 0;
        for (const auto& info : infos) bytes += packed_size<T>(info);
        AlignedBuffer<std::byte> buffer(bytes);
        AlignedBuffer<T> scratch(63);
        Everything::Parameters<PackedStorage<T>> p;
        BindPacked<T> bind(buffer.data());
        Everything{}.visit(p, bind);
        std::vector<T> given, taken;
        const auto fill = [&](const ParameterInfo&, std::span<T> values) {
            for (T& value : values)
                given.push_back(value = awkward<T>(static_cast<Index>(given.size()) % 40));
        };
        StorePacked<T, decltype(fill)> store(buffer.data(), scratch.span(), fill);
        Everything{}.visit(p, store);
        const auto show = [&](const ParameterInfo& info, std::span<const T> values) {
            CHECK(static_cast<Index>(values.size()) == info.size());
            taken.insert(taken.end(), values.begin(), values.end());
        };
        ReadPacked<T, decltype(show)> read(scratch.span(), show);
        Everything{}.visit(std::as_const(p), read);
        REQUIRE(taken.size() == 30 + 63 + 36 + 11);
        REQUIRE(given.size() == taken.size());
        CHECK(std::memcmp(given.data(), taken.data(), given.size() * sizeof(T)) == 0);
        CHECK(p.taps(2, 5) == given[30 + 63 + 5 * 4 + 2]);
        for (const void* begin :
             {static_cast<const void*>(p.taps.data()), static_cast<const void*>(p.vector.data())})
            CHECK(reinterpret_cast<std::uintptr_t>(begin) % alignment == 0);
    };
    check(float{});
    check(double{});
}

TEST_CASE("Flat parameters lie in file order without gaps", "[parameters]") {
    std::vector<float> buffer(30 + 63 + 36 + 11);
    for (std::size_t i = 0; i < buffer.size(); ++i) buffer[i] = static_cast<float>(i);
    Everything::Parameters<FlatStorage<float>> p;
    BindFlat<float> bind(buffer.data());
    Everything{}.visit(p, bind);
    CHECK(p.matrix(2, 3) == 13.0F);
    CHECK(p.fused[0](0, 0) == 30.0F);
    CHECK(p.fused[2](1, 1) == 30.0F + 42 + 4);
    CHECK(p.taps.rows() == 9);
    CHECK(p.taps(1, 2) == 93.0F + 6);
    CHECK(p.vector.size() == 11);
    CHECK(&p.vector.back() == &buffer.back());
}
