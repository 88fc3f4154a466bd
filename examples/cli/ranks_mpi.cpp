// The processes of an MPI job.
#include <unistd.h>
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

}  // namespace

hydralm::Ranks& program_ranks() {
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
