// Without arguments: takes every seed. With DIRECTORY: the files in it too; the last line counts
// them all. With --seeds DIRECTORY: writes the seeds there.
#include <cstdint>
#include <cstdio>
#include <exception>

#include "support/temporary_directory.hpp"
#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
    using namespace hydralm;
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const auto seeds = fuzz::target.seeds();
    if (arguments.size() == 2 && arguments[0] == "--seeds") {
        std::filesystem::create_directories(arguments[1]);
        for (std::size_t i = 0; i < seeds.size(); ++i)
            test::write_text(std::filesystem::path(arguments[1]) / ("seed-" + std::to_string(i)),
                             seeds[i]);
        return 0;
    }
    const auto take = [](const std::string& input) {
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    };
    int passed = 0, failed = 0;
    for (const std::string& seed : seeds) {
        take(seed);
        try {
            fuzz::target.take(seed);
            ++passed;
        } catch (const std::exception& error) {
            std::printf("seed %d is refused: %s\n", passed + failed, error.what());
            ++failed;
        }
    }
    for (const std::string& directory : arguments) {
        for (const auto& entry : std::filesystem::directory_iterator(directory)) {
            std::fprintf(stderr, "%s\n", entry.path().c_str());
            take(test::read_text(entry.path()));
            ++passed;
        }
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 ? 1 : 0;
}
