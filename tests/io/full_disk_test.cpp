// A state is saved over another on a disk that is really full.
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "hydralm/io/state_file.hpp"
#include "support/files.hpp"

using namespace hydralm;
using namespace hydralm::test;

namespace {

// A disk of 16 pages in memory, where this process may mount one; it ends with the process.
class SmallDisk {
public:
    SmallDisk()
        : mounted_(::unshare(CLONE_NEWNS) == 0 &&
                   ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                   ::mount("tmpfs", directory_.path().c_str(), "tmpfs", 0,
                           ("size=" + std::to_string(16 * page)).c_str()) == 0) {}
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    ~SmallDisk() {
        if (mounted_) ::umount2(directory_.path().c_str(), MNT_DETACH);
    }
    explicit operator bool() const { return mounted_; }
    const TemporaryDirectory& directory() const { return directory_; }
    static inline const long page = ::sysconf(_SC_PAGESIZE);

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
    const auto few = static_cast<std::size_t>(SmallDisk::page) * 3 / 4;  // 6 of the pages
    const auto save = [&](std::size_t n, double value) {
        const std::vector<double> values(n, value);
        const StateSection section = state_section("values", std::span(values));
        save_state(path, fingerprint, std::span(&section, 1));
    };
    const auto check_whole = [&](double value) {
        std::vector<double> values(few);
        StateFile(path, fingerprint).read("values", std::span(values));
        CHECK(values == std::vector<double>(few, value));
        CHECK(disk.directory().names() == std::vector<std::string>{"s.state"});
    };
    save(few, 1);
    for (const std::size_t n : {2 * few, 200 * few})  // room for either, not for both; for none
        check_error([&] { save(n, 2); },
                    {path.string() + ": expected to write the file, found No space left on device",
                     "free some space", "nothing was replaced"});
    check_whole(1);
    save(few, 3);  // and then goes on
    check_whole(3);
}
