// Models of configs read at run time, and the layers of small ones, in double.
#include "support/runtime_blocks.hpp"

template struct hydralm::RuntimeBlock<double, 12, hydralm::test::SmallChunks>;
template struct hydralm::RuntimeBlock<double, 16, hydralm::test::SmallChunks>;
template class hydralm::RuntimeModel<double>;
