// Files one may not read, files and directories one may not write.
#include "hydralm/io/model_file.hpp"
#include "support/files.hpp"
#include "support/unprivileged.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// A directory that other users may enter.
struct OpenDirectory : TemporaryDirectory {
    OpenDirectory() { allow(path(), 0755); }
    static void allow(const std::filesystem::path& path, unsigned mode) {
        std::filesystem::permissions(path, std::filesystem::perms{mode});
    }
};

// Checks what action throws in a process that is not root's.
template <class Action>
void check_refused(const OpenDirectory& directory, const Action& action,
                   const std::string& expected) {
    const std::string text = in_unprivileged_child([&]() -> std::string {
        if (::access(directory.path().c_str(), X_OK) != 0) return "no child: no way to its files";
        action();
        return "done";
    });
    if (text.starts_with("no child")) WARN("not tested: " << text);
    else CHECK(text == expected);
}

}  // namespace

TEST_CASE("a file that may not be read is refused by its name", "[io]") {
    const OpenDirectory directory;
    const auto path = directory / "m.safetensors";
    write_text(path, "x");
    OpenDirectory::allow(path, 0);
    const std::string refusal = "hydralm: " + path.string() +
                                ": expected a readable file, found Permission denied; check the "
                                "path and its permissions";
    check_refused(directory, [&] { const MappedFile file(path); }, refusal);
    check_refused(directory, [&] { const SafetensorsFile file(path); }, refusal);
    check_refused(directory, [&] { const Checkpoint checkpoint(path); }, refusal);
    check_refused(directory, [&] { const StateFile file(path, "{}"); }, refusal);
}

TEST_CASE("nothing is written to a directory that may not be written", "[io]") {
    const OpenDirectory directory;
    OpenDirectory::allow(directory.path(), 0555);
    const auto path = directory / "s.state";
    check_refused(
        directory, [&] { save_state(path, "{}", {}); },
        "hydralm: " + path.string() +
            ": expected a directory that can be written, found Permission denied; create "
            "the directory, or choose one you may write");
    CHECK(directory.names().empty());
}

TEST_CASE("a file that may not be written is not replaced", "[io]") {
    const OpenDirectory directory;
    OpenDirectory::allow(directory.path(), 0777);
    const auto path = directory / "s.state";
    write_text(path, "old");
    OpenDirectory::allow(path, 0444);
    std::filesystem::create_symlink("s.state", directory / "link");
    for (const auto& name : {path, directory / "link"})
        check_refused(
            directory, [&] { const AtomicFile file(name); },
            "hydralm: " + name.string() +
                ": expected a file that may be replaced, found Permission denied; allow "
                "writing to it and its disk, or choose another path");
    CHECK(read_text(path) == "old");
    CHECK(directory.names() == std::vector<std::string>{"link", "s.state"});

    OpenDirectory::allow(path, 0666);
    check_refused(directory, [&] { write_file(path, "new"); }, "done");
}
