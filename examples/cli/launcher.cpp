// hydralm of a build for many machines (-Dcpu=dispatch): becomes the program beside it that is
// built for the widest instruction set that this machine has, or for the one that HYDRALM_CPU
// names.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

namespace {

struct Level {
    const char* name;  // as compilers call it
    bool here;         // this machine has it
};

// The widest first.
std::array<Level, 3> levels() {
    __builtin_cpu_init();
    return {{{"x86-64-v4", __builtin_cpu_supports("x86-64-v4") != 0},
             {"x86-64-v3", __builtin_cpu_supports("x86-64-v3") != 0},
             {"x86-64", true}}};
}

int refuse(const std::string& message) {
    std::fprintf(stderr, "hydralm: %s\n", message.c_str());
    return 2;
}

}  // namespace

int main(int, char** arguments) {
    const char* const wanted = std::getenv("HYDRALM_CPU");
    std::string names;
    const Level* chosen = nullptr;
    const auto known = levels();
    for (const Level& level : known) {
        if (!level.here) continue;
        names += (names.empty() ? "" : ", ") + std::string(level.name);
        if (chosen == nullptr && (wanted == nullptr || wanted == std::string_view(level.name)))
            chosen = &level;
    }
    if (chosen == nullptr)
        return refuse("HYDRALM_CPU: expected what this machine has of " + names + ", found '" +
                      wanted + "'");
    std::error_code failed;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
    if (failed) return refuse("/proc/self/exe: " + failed.message());
    const std::string program = self.string() + "-" + chosen->name;
    execv(program.c_str(), arguments);
    return refuse(program + ": " + std::strerror(errno));
}
