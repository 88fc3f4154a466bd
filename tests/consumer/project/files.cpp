// What needs files: JSON and checksums.
#include <hydralm/io.hpp>

#include <cstddef>
#include <filesystem>
#include <vector>

int main() {
    const std::vector<std::byte> bytes(100, std::byte{7});
    hydralm::save_blob("consumer.state", "{}", bytes);
    const bool same = hydralm::load_blob("consumer.state", "{}") == bytes;
    std::filesystem::remove("consumer.state");
    return same ? 0 : 1;
}
