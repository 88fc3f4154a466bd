#include <cstdio>
#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

int included_in_second();

int main() {
    std::printf("%d passed, 0 failed\n", included_in_second());
    return 0;
}
