// The processes of an MPI job.
#include <unistd.h>

#include <array>
#include <hydralm/core/parallel.hpp>
#include <hydralm/training/distributed.hpp>

#include "ranks.hpp"

namespace {

hydralm::MpiRanks* started = nullptr;

// Ranks of one machine share its cores, where the user does not say otherwise.
void share_cores(const hydralm::MpiRanks& ranks) {
    if (std::getenv("HYDRALM_NUM_THREADS") != nullptr || ranks.count() == 1) return;
    const long cores = ::sysconf(_SC_NPROCESSORS_ONLN) / ranks.neighbours();
    const auto allowed = static_cast<long>(std::thread::hardware_concurrency());
    hydralm::set_num_threads(static_cast<int>(std::clamp(cores, 1L, std::max(1L, allowed))));
}

// How long ranks wait for each other: ten minutes, or the seconds of HYDRALM_RANK_PATIENCE.
std::chrono::seconds patience() {
    const char* text = std::getenv("HYDRALM_RANK_PATIENCE");
    const int seconds = text == nullptr ? 0 : std::atoi(text);
    return std::chrono::seconds(seconds > 0 ? seconds : 600);
}

// By what OpenMPI, MPICH's kin and Slurm tell the processes they start.
bool launched() {
    return std::ranges::any_of(
        std::array{"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"},
        [](const char* name) { return std::getenv(name) != nullptr; });
}

}  // namespace

hydralm::Ranks& program_ranks() {
    if (!launched()) return hydralm::one_rank();
    static hydralm::MpiRanks ranks(patience());
    if (started == nullptr) share_cores(ranks);
    started = &ranks;
    return ranks;
}
bool speaks() { return started == nullptr || started->rank() == 0; }
void say_error(const char* line) {
    if (started != nullptr && started->count() > 1) started->fail(line);
    std::fprintf(stderr, "%s\n", line);
}
