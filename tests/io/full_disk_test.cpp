// A state is saved over another on a disk that is really full.
#include <sys/mount.h>

#include "hydralm/io/state_file.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// A disk of 64 KiB in memory, where this process may mount one.
class SmallDisk {
public:
    SmallDisk()
        : mounted_(::mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=64k") == 0) {}
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    ~SmallDisk() {
        if (mounted_) ::umount2(directory_.path().c_str(), MNT_DETACH);
    }
    explicit operator bool() const { return mounted_; }
    const TemporaryDirectory& directory() const { return directory_; }

private:
    TemporaryDirectory directory_;
    bool mounted_;
};

}  // namespace

TEST_CASE("on a full disk the old state stays whole and nothing half-written is left", "[io]") {
    const SmallDisk disk;
    if (!disk) {
        WARN("not tested: this user may not mount a small disk");
        return;
    }
    const auto path = disk.directory() / "s.state";
    constexpr std::string_view fingerprint = "{}";
    const auto save = [&](std::size_t n, double value) {
        const std::vector<double> values(n, value);
        const StateSection section = state_section("values", std::span(values));
        save_state(path, fingerprint, std::span(&section, 1));
    };
    const auto check_whole = [&](double value) {
        std::vector<double> values(3000);
        StateFile(path, fingerprint).read("values", std::span(values));
        CHECK(values == std::vector<double>(3000, value));
        CHECK(disk.directory().names() == std::vector<std::string>{"s.state"});
    };
    save(3000, 1);
    for (const std::size_t n : {6000U, 1U << 20})  // room for either, not for both; for none
        check_error([&] { save(n, 2); },
                    {path.string() + ": expected to write the file, found No space left on device",
                     "free some space", "nothing was replaced"});
    check_whole(1);
    save(3000, 3);  // and then goes on
    check_whole(3);
}
