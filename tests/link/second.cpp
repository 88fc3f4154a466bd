#include <hydralm/hydralm.hpp>
#include <hydralm/io.hpp>

int included_in_second();
int included_in_second() { return 1; }
