// The processes of the program: those of an MPI job where it was built with -Dmpi=enabled (then
// ranks_mpi.cpp is linked), or this one (ranks_alone.cpp).
#pragma once

#include <hydralm/training/ranks.hpp>

// Starts MPI when it is first asked for, in a process that a launcher of MPI started.
hydralm::Ranks& program_ranks();
// Whether this process prints progress and results.
bool speaks();
// Prints the line of an error that ends the program, and ends the other processes.
void say_error(const char* line);
