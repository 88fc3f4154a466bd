// A process is killed while it saves a state over another, again and again: the file is whole.
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <thread>

#include "hydralm/core/random.hpp"
#include "hydralm/io/state_file.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

constexpr std::string_view fingerprint = R"({"kind":"killed"})";

// A state of generation g: every value is g, in a section that takes many writes to the disk.
void save_generation(const std::filesystem::path& path, std::uint64_t g) {
    const std::vector<std::uint64_t> values(1 << 17, g);
    const StateSection section = state_section("values", std::span(values));
    save_state(path, fingerprint, std::span(&section, 1));
}

// The generation of a whole file.
std::uint64_t generation(const std::filesystem::path& path) {
    std::vector<std::uint64_t> values(1 << 17);
    StateFile(path, fingerprint).read("values", std::span(values));
    for (const std::uint64_t value : values)
        if (value != values[0]) FAIL("generations " << values[0] << " and " << value << " in one");
    return values[0];
}

[[noreturn]] void save_for_ever(const std::filesystem::path& path, std::uint64_t g) {
    try {
        for (;;) save_generation(path, ++g);
    } catch (...) {
    }
    ::_exit(1);
}

}  // namespace

TEST_CASE("a process that is killed while it saves leaves a whole state", "[io]") {
    const char* const asked = std::getenv("HYDRALM_TEST_KILLS");
    const int kills = asked == nullptr ? 20 : std::max(1, std::atoi(asked));
    const TemporaryDirectory directory;
    const auto path = directory / "s.state";
    const auto begin = std::chrono::steady_clock::now();
    save_generation(path, 0);
    const double one_save =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    Random random(static_cast<std::uint64_t>(::getpid()), 0);
    std::uint64_t last = 0, saved = 0;
    int cut_short = 0;  // a save was under way
    for (int kill = 0; kill < kills; ++kill) {
        const ::pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) save_for_ever(path, last);
        std::this_thread::sleep_for(std::chrono::duration<double>(random.uniform(0, 4 * one_save)));
        REQUIRE(::kill(child, SIGKILL) == 0);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(WIFSIGNALED(status));  // it did not end by itself

        const std::uint64_t now = generation(path);
        INFO("kill " << kill);
        CHECK(now >= last);
        saved += now - last;
        last = now;
        for (const std::string& name : directory.names()) {
            if (name == "s.state") continue;
            CHECK(name.ends_with(".tmp"));  // what a killed process could not remove
            std::filesystem::remove(directory / name);
            ++cut_short;
        }
    }
    INFO(kills << " kills, " << cut_short << " within a save, " << saved << " saves");
    CHECK(saved > 0);
    CHECK(cut_short > 0);
}
