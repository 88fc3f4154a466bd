// What a fuzz target is: something of the library that takes any bytes at all.
//
// A target is one file that defines `target`. With target.cpp and libFuzzer it is a fuzzer
// (./run fuzz), with target.cpp and replay.cpp a test of its seeds and of the inputs in corpus/.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hydralm/io/mapped_file.hpp"

namespace hydralm::fuzz {

struct Target {
    // Throws Error where the input is bad. Anything else that leaves it is a find.
    void (*take)(std::string_view input);
    // Good inputs, from which a fuzzer starts; take throws for none of them.
    std::vector<std::string> (*seeds)();
    // Bytes that take may hold at once beside as many as the input has.
    long allowance;
};

extern const Target target;

// Throws when a property that holds for every input does not.
inline void expect(bool good, const char* property) {
    if (!good) throw std::logic_error(property);
}

// A file in memory, for what reads files.
class MemoryFile {
public:
    MemoryFile() : file_(::memfd_create("input", MFD_CLOEXEC)) {
        expect(static_cast<bool>(file_), "a file in memory can be made");
    }
    std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

    // Replaces its content.
    void hold(std::string_view text) {
        const auto size = static_cast<::ssize_t>(text.size());
        expect(::ftruncate(file_.get(), size) == 0 &&
                   ::pwrite(file_.get(), text.data(), text.size(), 0) == size,
               "a file in memory can be written");
    }

private:
    hydralm::detail::Descriptor file_;
};

}  // namespace hydralm::fuzz
