// Compiled twice for one program: -DNAME=baseline for every processor, -DNAME=wide for AVX-512.
#include "answers.hpp"

bool NAME(const char* file);
bool NAME(const char* file) { return !answers(file).empty(); }
