// Layers of small configs read at run time, in double.
#include "support/runtime_blocks.hpp"

template struct hydralm::RuntimeBlock<double, 12, hydralm::test::SmallChunks>;
template struct hydralm::RuntimeBlock<double, 16, hydralm::test::SmallChunks>;
