// State files: round trips, and the refusal of any other file, version, configuration or byte.
#include "hydralm/io/state_file.hpp"

#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

const HydraConfig config{.vocab_size = 256, .d_model = 64, .n_layers = 2, .n_heads = 2};

struct Sample {
    std::vector<float> S = std::vector<float>(100, 1.5F);
    std::vector<std::int64_t> position{1LL << 40};
    std::vector<double> empty;

    void save(const std::filesystem::path& path, const std::string& fingerprint) const {
        const std::vector<StateSection> sections{state_section("blocks.0.S", std::span(S)),
                                                 state_section("position", std::span(position)),
                                                 state_section("empty", std::span(empty))};
        save_state(path, fingerprint, sections);
    }
};

}  // namespace

TEST_CASE("a state is read back, aligned", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const std::string fingerprint = state_fingerprint(config, "float");
    const Sample sample;
    sample.save(path, fingerprint);
    CHECK(directory.names() == std::vector<std::string>{"s.state"});

    const StateFile file(path, fingerprint);
    REQUIRE(file.sections().size() == 3);
    CHECK(file.sections()[1].name == "position");
    for (const StateSection& section : file.sections())
        CHECK(reinterpret_cast<std::uintptr_t>(section.bytes.data()) % 64 == 0);
    std::vector<float> S(100);
    std::vector<std::int64_t> position(1);
    file.read("blocks.0.S", std::span(S));
    file.read("position", std::span(position));
    CHECK(S == sample.S);
    CHECK(position == sample.position);
    CHECK(file.section("empty").empty());
    check_error([&] { file.section("S"); },
                {path.string() + ": S: expected a section of this name, found none"});
    check_error([&] { file.read("blocks.0.S", std::span(position)); },
                {"blocks.0.S: expected 8 bytes, found 400"});

    const std::vector<StateSection> twice{state_section("S", std::span(sample.S)),
                                          state_section("S", std::span(sample.S))};
    check_error([&] { save_state(path, fingerprint, twice); }, {"S: expected each section once"});
    CHECK(StateFile(path, fingerprint).sections().size() == 3);
}

TEST_CASE("a state is written piece by piece, or not at all", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const std::string fingerprint = state_fingerprint(config, "float");
    const std::vector<std::byte> bytes(150, std::byte{9});
    const auto part = [&](std::size_t n) { return std::span(bytes).first(n); };
    const StateWriter::Sizes sizes{{"none", 0}, {"a", 100}, {"nor", 0}, {"b", 50}, {"end", 0}};
    {
        StateWriter writer(path, fingerprint, sizes);
        for (const std::size_t n : {60, 0, 40, 1, 49}) writer.write(part(n));
        writer.commit();
    }
    const auto check_whole = [&] {
        const StateFile file(path, fingerprint);
        REQUIRE(file.sections().size() == 5);
        for (std::size_t i = 0; i < 5; ++i)
            CHECK(file.sections()[i].bytes.size() == sizes[i].second);
        CHECK(std::ranges::equal(file.section("a"), part(100)));
        CHECK(std::ranges::equal(file.section("b"), part(50)));
    };
    check_whole();
    {
        StateWriter writer(path, fingerprint, sizes);
        check_error([&] { writer.write(part(101)); },
                    {"s.state: a: expected 100 bytes, as", "101"});
        writer.write(part(100));
        writer.write(part(49));
        check_error([&] { writer.write(part(2)); }, {"b: expected 50 bytes", "found 51"});
        check_error([&] { writer.commit(); }, {"b: expected 50 bytes", "found 49"});
    }
    {
        StateWriter writer(path, fingerprint, {});
        check_error([&] { writer.write(part(1)); }, {"sections: expected 0 bytes", "found 1"});
    }
    check_whole();
}

TEST_CASE("a blob is read back", "[io]") {
    const TemporaryDirectory directory;
    const std::string fingerprint = state_fingerprint(config, "double");
    std::vector<std::byte> bytes;
    for (int i = 0; i < 1000; ++i) bytes.push_back(static_cast<std::byte>(i * 7));
    save_blob(directory / "b", fingerprint, bytes);
    CHECK(load_blob(directory / "b", fingerprint) == bytes);
    save_blob(directory / "b", fingerprint, {});
    CHECK(load_blob(directory / "b", fingerprint).empty());
}

TEST_CASE("a changed byte anywhere, and any cut, is refused", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const std::string fingerprint = state_fingerprint(config, "float");
    Sample().save(path, fingerprint);
    const std::string whole = read_text(path);
    std::size_t refused = 0;
    const auto check_refused = [&](const std::string& text, std::size_t place, int flips) {
        INFO("byte " << place << " of " << whole.size() << ", flipped " << flips);
        write_text(path, text);
        check_error([&] { StateFile file(path, fingerprint); }, {path.string()});
        ++refused;
    };
    const auto check_flips = [&](std::size_t i, int flips) {
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ flips);
        check_refused(changed, i, flips);
    };
    for (std::size_t i = 0; i < whole.size(); ++i) {
        check_flips(i, 1 << i % 8);
        check_flips(i, 0xFF);
        check_refused(whole.substr(0, i), i, 0);
    }
    for (std::size_t i = 0; i < sizeof(detail::StateHeader); ++i)
        for (int bit = 0; bit < 8; ++bit) check_flips(i, 1 << bit);
    CHECK(refused == 3 * whole.size() + 8 * 24);

    write_text(path, whole.substr(0, whole.size() - 1));
    check_error([&] { StateFile file(path, fingerprint); },
                {"expected " + std::to_string(whole.size()) + " bytes, found " +
                     std::to_string(whole.size() - 1),
                 "cut off"});
    std::string changed = whole;
    changed[whole.size() - 10] ^= 4;
    write_text(path, changed);
    check_error([&] { StateFile file(path, fingerprint); },
                {"checksum: expected the one stored in the file"});
    write_text(path, whole + "x");
    check_error([&] { StateFile file(path, fingerprint); }, {"bytes, found"});
    write_text(path, whole);
    CHECK_NOTHROW(StateFile(path, fingerprint));
}

TEST_CASE("another kind of file and another version are refused", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const std::string fingerprint = state_fingerprint(config, "float");
    write_text(path, "This is a text of more than twenty-eight bytes.");
    check_error([&] { StateFile file(path, fingerprint); },
                {"expected a state file of HydraLM, found another kind of file"});
    check_error([&] { StateFile file(directory / "none", fingerprint); },
                {"expected a readable file"});
    Sample().save(path, fingerprint);
    const auto version = detail::StateHeader{}.version;
    const auto check_version = [&](std::uint32_t other, const std::string& fix) {
        std::string changed = read_text(path);
        std::memcpy(changed.data() + offsetof(detail::StateHeader, version), &other, sizeof(other));
        write_text(path, changed);
        check_error([&] { StateFile file(path, fingerprint); },
                    {"version: expected " + std::to_string(version) + ", found " +
                         std::to_string(other) + "; ",
                     fix});
    };
    const std::string anew = ", or make the file anew: a state by feeding its text, a fact bank";
    check_version(version - 1,
                  "the older HydraLM that wrote it (CHANGELOG.md names the versions)" + anew);
    check_version(version + 1, "use the newer HydraLM that wrote it" + anew);
}

TEST_CASE("sections of one name, and of a name that is not read, are refused", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const std::array sections{StateSection{"blob", {}}, StateSection{"bloc", {}}};
    save_state(path, "{}", sections);
    CHECK(StateFile(path, "{}").sections().size() == 2);
    check_error([&] { load_blob(path, "{}"); },
                {path.string() + ": bloc: expected only sections that are read, found an unknown"});

    std::string file = read_text(path);  // with a second "blob", and its checksum
    file[file.find("bloc") + 3] = 'b';
    const std::size_t end = file.size() - 4;
    const std::uint32_t crc = crc32(std::as_bytes(std::span(file).first(end)));
    std::memcpy(file.data() + end, &crc, sizeof(crc));
    write_text(path, file);
    check_error([&] { StateFile(path, "{}"); },
                {path.string() + ": blob: expected each section once, found this one twice"});
}

TEST_CASE("the state of another model is refused by the fields that differ", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    Sample().save(path, state_fingerprint(config, "float"));
    check_error([&] { StateFile file(path, state_fingerprint(config, "double")); },
                {"config: scalar: expected \"double\", found \"float\";"});
    HydraConfig other = config;
    other.d_model = 128;
    other.dn_norm_qk = false;
    check_error(
        [&] { StateFile file(path, state_fingerprint(other, "float")); },
        {"d_model: expected 128, found 64", "dn_norm_qk: expected false, found true",
         "head_dim: expected 64, found 32", "a state continues only in the model that made it"});
    check_error([&] { StateFile file(path, R"({"scalar":"float"})"); },
                {"d_model: expected nothing, found 64"});
    check_error([&] { StateFile file(path, R"({"kind":"bank"})"); },
                {"kind: expected \"bank\", found nothing"});

    // What no state depends on may differ, and layers may be named or scheduled.
    HydraConfig same = resolved(config);
    same.initializer_range = 1;
    same.max_position_embeddings = 7;
    same.swa_every = 1;
    CHECK_NOTHROW(StateFile(path, state_fingerprint(same, "float")));
}

TEST_CASE("a state of an earlier version continues", "[io]") {
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    // As it was written before dn_negative_eigenvalues, when every field was, with a chunk of its
    // own.
    const std::string whole =
        R"({"vocab_size":32000,"pad_token_id":0,"d_model":64,"n_layers":2,"n_heads":2,"head_dim":32,)"
        R"("mlp_mult":2.6666666666666665,"mlp_multiple_of":64,"dn_short_conv_kernel":4,)"
        R"("dn_use_gate":true,"dn_chunk_size":16,"dn_norm_qk":true,"swa_window":512,)"
        R"("swa_rope_base":10000.0,"layer_types":["deltanet","deltanet"],"swa_every":4,)"
        R"("retrieval_every":0,"retrieval_chunk_size":128,"retrieval_top_k":8,"mtp_depth":0,)"
        R"("mtp_loss_weight":0.1,"rms_eps":1e-05,"tie_embeddings":true,"initializer_range":0.02,)"
        R"("max_position_embeddings":1048576,"scalar":"float"})";
    HydraConfig same{.d_model = 64, .n_layers = 2, .n_heads = 2};
    Sample().save(path, whole);
    for (const int chunk : {16, 64}) {
        same.dn_chunk_size = chunk;
        CHECK_NOTHROW(StateFile(path, state_fingerprint(same, "float")));
    }

    // A field that the file lacks has its default.
    same.dn_negative_eigenvalues = true;
    check_error([&] { StateFile(path, state_fingerprint(same, "float")); },
                {"config: dn_negative_eigenvalues: expected true, found false;"});

    // Fields that make no model are refused as those of a config are.
    Sample().save(path, R"({"n_heads":0,"scalar":"float"})");
    check_error([&] { StateFile(path, state_fingerprint(same, "float")); },
                {path.string() + ": n_heads: found 0; must be in [1, 2^24]"});
}
