// The layers of all models that are measured, compiled once.
#include "measure.hpp"

template struct hydralm::RuntimeBlock<float, 32, MeasuredChunks>;
template struct hydralm::RuntimeBlock<double, 32, MeasuredChunks>;
