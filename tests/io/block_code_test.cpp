// Blocks of GGUF's types: golden vectors, and blocks made of known numbers field by field.
#include "hydralm/io/block_code.hpp"

#include <array>
#include <bit>
#include <random>
#include <span>
#include <vector>

#include "hydralm/io/safetensors.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/golden.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

const std::array all{&block_codes::q4_0,  &block_codes::q8_0, &block_codes::q4_k,
                     &block_codes::q5_k,  &block_codes::q6_k, &block_codes::iq4_nl,
                     &block_codes::iq4_xs};

std::vector<float> decoded(const BlockCode& code, const std::vector<std::byte>& block) {
    std::vector<float> values(static_cast<std::size_t>(code.weights),
                              std::numeric_limits<float>::quiet_NaN());
    code.decode(block.data(), values.data());
    return values;
}

// A block of bytes to be filled, and its numbers drawn.
struct Drawn {
    std::vector<std::byte> bytes;
    std::mt19937 generator{7};

    explicit Drawn(const BlockCode& code) : bytes(static_cast<std::size_t>(code.bytes)) {}
    int number(int least, int most) {
        return std::uniform_int_distribution<int>(least, most)(generator);
    }
    // A scale at this byte.
    float scale(std::size_t at) {
        const float value = static_cast<float>(number(-2048, 2048)) * 0x1p-14F;
        const std::uint16_t bits = f16_from(value);
        std::memcpy(bytes.data() + at, &bits, sizeof bits);
        return value;
    }
    // `value` into the bits of a byte from `shift` on.
    void put(std::size_t at, int value, int shift = 0) {
        bytes[at] |= static_cast<std::byte>(value << shift & 255);
    }
};

// Q4_K and Q5_K, whose twelve bytes hold six bits of eight scales and of eight minima.
void check_with_minimum(const BlockCode& code, int bits) {
    Drawn drawn(code);
    const float d = drawn.scale(0), least = drawn.scale(2);
    std::vector<float> expected;
    for (std::size_t part = 0; part < 8; ++part) {
        const int scale = drawn.number(0, 63), minimum = drawn.number(0, 63);
        if (part < 4) {
            drawn.put(4 + part, scale);
            drawn.put(8 + part, minimum);
        } else {
            drawn.put(8 + part, scale & 15);
            drawn.put(8 + part, minimum & 15, 4);
            drawn.put(part, scale >> 4, 6);
            drawn.put(4 + part, minimum >> 4, 6);
        }
        for (std::size_t i = 0; i < 32; ++i) {
            const int q = drawn.number(0, (1 << bits) - 1);
            const std::size_t low = bits == 5 ? 48 : 16;
            drawn.put(low + part / 2 * 32 + i, q & 15, part % 2 == 0 ? 0 : 4);
            if (bits == 5) drawn.put(16 + i, q >> 4, static_cast<int>(part));
            expected.push_back(static_cast<float>(static_cast<double>(d) * scale * q -
                                                  static_cast<double>(least) * minimum));
        }
    }
    check_close(decoded(code, drawn.bytes), expected, 1e-7, std::string(code.name));
}

}  // namespace

TEST_CASE("golden blocks are read bit for bit, in any column and of any alignment",
          "[io][gguf][golden]") {
    const std::string path = HYDRALM_GOLDEN_DIR "/gguf/blocks.safetensors";
    const SafetensorsFile file(path);
    for (const BlockCode* const code : all) {
        INFO(code->name);
        const StoredTensor& raw = file.tensor(std::string(code->name) + ".raw");
        const auto expected = file.tensor(std::string(code->name) + ".values").values<float>();
        const Index rows = raw.rows(), cols = expected.size() / rows;
        REQUIRE(raw.cols() % code->bytes == 0);
        for (const std::size_t off : {0U, 1U, 3U}) {
            std::vector<std::byte> bytes(off + raw.bytes().size());
            std::copy(raw.bytes().begin(), raw.bytes().end(),
                      bytes.begin() + static_cast<std::ptrdiff_t>(off));
            const StoredTensor tensor(std::make_shared<const std::string>("f"),
                                      {"w", {rows, cols}, DType::u8},
                                      std::span<const std::byte>(bytes).subspan(off), code);
            CHECK(tensor.size() == rows * cols);
            CHECK(tensor.cols() == cols);
            CHECK(tensor.type_name() == code->name);
            tensor.expect_shape(std::array{rows, cols});
            tensor.expect_floating();
            CHECK(same_bits(tensor.values<float>(), expected));
            std::vector<double> some(static_cast<std::size_t>(2 * cols), std::nan(""));
            tensor.read_rows(rows - 2, MatrixView<double>(some.data(), 2, cols));
            CHECK(std::equal(some.begin(), some.end(), expected.data() + (rows - 2) * cols));
            check_error([&] { tensor.expect_shape(std::array{rows, cols + 1}); },
                        {"w: expected shape"});
            check_error([&] { tensor.read(std::span(some).first(some.size() - 1)); }, {"w: "});
            check_error(
                [&] { tensor.read_rows(rows - 1, MatrixView<double>(some.data(), 2, cols)); },
                {"w: expected rows"});
            check_error([&] { tensor.values<std::int32_t>(); }, {"w: expected dtype I64 or I32"});
        }
    }
}

TEST_CASE("blocks made field by field have the values of their formulas", "[io][gguf]") {
    check_with_minimum(block_codes::q4_k, 4);
    check_with_minimum(block_codes::q5_k, 5);

    Drawn six(block_codes::q6_k);
    const float d6 = six.scale(208);
    std::vector<float> expected;
    std::array<int, 16> scales{};
    for (std::size_t i = 0; i < 16; ++i) {
        scales[i] = six.number(-128, 127);
        six.put(192 + i, scales[i] & 255);
    }
    for (std::size_t i = 0; i < 256; ++i) {
        const int q = six.number(0, 63);
        const std::size_t half = i / 128, within = i % 128;
        six.put(half * 64 + within % 64, q & 15, within < 64 ? 0 : 4);
        six.put(128 + half * 32 + within % 32, q >> 4, static_cast<int>(within / 32 * 2));
        expected.push_back(static_cast<float>(static_cast<double>(d6) * scales[i / 16] * (q - 32)));
    }
    check_close(decoded(block_codes::q6_k, six.bytes), expected, 1e-7, "Q6_K");

    Drawn table(block_codes::iq4_xs);
    const float dx = table.scale(0);
    expected.clear();
    for (std::size_t part = 0; part < 8; ++part) {
        const int scale = table.number(0, 63);
        table.put(2 + part / 4, scale >> 4, static_cast<int>(part % 4 * 2));
        table.put(4 + part / 2, scale & 15, static_cast<int>(part % 2 * 4));
        for (std::size_t i = 0; i < 32; ++i) {
            const int index = table.number(0, 15);
            table.put(8 + part * 16 + i % 16, index, i < 16 ? 0 : 4);
            expected.push_back(
                static_cast<float>(static_cast<double>(dx) * (scale - 32) *
                                   weights::Q4Block::table[static_cast<std::size_t>(index)]));
        }
    }
    check_close(decoded(block_codes::iq4_xs, table.bytes), expected, 1e-7, "IQ4_XS");

    Drawn four(block_codes::q4_0);
    const float d4 = four.scale(0);
    expected.clear();
    for (std::size_t i = 0; i < 32; ++i) {
        const int q = four.number(0, 15);
        four.put(2 + i % 16, q, i < 16 ? 0 : 4);
        expected.push_back(d4 * static_cast<float>(q - 8));
    }
    CHECK(decoded(block_codes::q4_0, four.bytes) == expected);
}

TEST_CASE("Q8_0, Q4_0 and IQ4_NL lose nothing in the format they are kept in", "[io][gguf]") {
    const SafetensorsFile file(HYDRALM_GOLDEN_DIR "/gguf/blocks.safetensors");
    for (const BlockCode* const code :
         {&block_codes::q8_0, &block_codes::q4_0, &block_codes::iq4_nl}) {
        const auto values = file.tensor(std::string(code->name) + ".values").values<float>();
        std::vector<float> kept(static_cast<std::size_t>(values.size()));
        for (Index i = 0; i < values.size(); i += 32) {
            const auto keep = [&](const auto& block) {
                for (Index j = 0; j < 32; ++j)
                    kept[static_cast<std::size_t>(i + j)] =
                        block.scale() * static_cast<float>(block.value(j));
            };
            if (code->kept == weights::Format::q8)
                keep(weights::Q8Block::quantise(values.data() + i, 32));
            else keep(weights::Q4Block::quantise(values.data() + i, 32));
        }
        INFO(code->name);
        CHECK(difference(kept, values).relative_to_max == 0);
        CHECK((code == &block_codes::q4_0) == (block_code(code->kept) != code));
    }
    CHECK(block_code(weights::Format::scalar) == nullptr);
    CHECK(block_code(weights::Format::bf16) == nullptr);
}
