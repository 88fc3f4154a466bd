#include <cstdio>
#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

int main() {
    constexpr hydralm::HydraConfig config = hydralm::presets::small;
    std::printf("%d layers\n", static_cast<int>(config.n_layers));
    return 0;
}
