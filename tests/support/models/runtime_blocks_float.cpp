// Models of configs read at run time, and the layers of small ones, in float.
#include "support/runtime_blocks.hpp"

template struct hydralm::RuntimeBlock<float, 12, hydralm::test::SmallChunks>;
template struct hydralm::RuntimeBlock<float, 16, hydralm::test::SmallChunks>;
template class hydralm::RuntimeModel<float>;
