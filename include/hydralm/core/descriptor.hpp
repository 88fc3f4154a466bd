// File descriptors that close themselves, and what the system says of its errors.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "hydralm/core/abi.hpp"

namespace HYDRALM_NAMESPACE::detail {

class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int number) noexcept : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    int get() const noexcept { return number_; }
    explicit operator bool() const noexcept { return number_ >= 0; }

private:
    int number_ = -1;
};

// What the system says of an errno, and the limits of it that bring the error about.
inline std::string system_error_text(int error) {
    std::string text = std::system_category().message(error);
    if (error == EMFILE) return text + " (RLIMIT_NOFILE, ulimit -n)";
    if (error == ENFILE) return text + " (fs.file-max)";
    if (error == ENOMEM) return text + " (vm.max_map_count, or RLIMIT_AS, ulimit -v)";
    return text;
}

}  // namespace HYDRALM_NAMESPACE::detail
