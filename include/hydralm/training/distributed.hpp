// MpiRanks: the processes of an MPI job as the ranks of one run. For those who ask: nothing else of
// the library names MPI, whose C interface (3.0) is all that is used.
//
// What is received depends on nobody's order, so results have the bits of one process. A rank that
// waits longer than its patience for another asks who is there, and ends the job naming those that
// did not answer; one that is killed ends the job through MPI's launcher.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "hydralm/training/ranks.hpp"

namespace HYDRALM_NAMESPACE {

// One object a process, in the thread that made it.
class MpiRanks final : public Ranks {
public:
    using Seconds = std::chrono::duration<double>;

    // Starts MPI unless it has been started, and ends it if it started it. Patience: how long ranks
    // wait for each other. A rank that computes answers nobody, so it is at least as long as one
    // computes between two messages, and as rank 0 takes to write a checkpoint.
    explicit MpiRanks(Seconds patience = std::chrono::minutes(10)) : patience_(patience) {
        int running = 0, got = 0;
        MPI_Initialized(&running);
        if (running == 0) MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &got);
        owner_ = running == 0;
        MPI_Comm_dup(MPI_COMM_WORLD, &run_);
        MPI_Comm_dup(MPI_COMM_WORLD, &calls_);
        MPI_Comm_rank(run_, &rank_);
        MPI_Comm_size(run_, &count_);
    }
    ~MpiRanks() override {
        MPI_Comm_free(&run_);
        MPI_Comm_free(&calls_);
        if (owner_) MPI_Finalize();
    }

    int rank() const noexcept override { return rank_; }
    int count() const noexcept override { return count_; }
    // Ranks of this machine, this one included.
    int neighbours() const {
        MPI_Comm machine = MPI_COMM_NULL;
        int n = 0;
        MPI_Comm_split_type(run_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine);
        MPI_Comm_size(machine, &n);
        MPI_Comm_free(&machine);
        return n;
    }

    Traffic traffic() const noexcept override { return traffic_; }

    // Ends the job for an error, of which text is the line: all ranks that fail alike leave
    // together, rank 0 having said it; one that fails alone, or otherwise than others, says its
    // own, with its rank, and ends them.
    [[noreturn]] void fail(const std::string& text) {
        const auto others = call(text_mark(text), std::chrono::seconds(5));
        const bool alike = std::ranges::count(others, text_mark(text)) == count_;
        if (!alike) abort(text);
        if (rank_ == 0) std::fprintf(stderr, "%s\n", text.c_str());
        std::fflush(nullptr);
        MPI_Barrier(calls_);
        MPI_Finalize();
        std::_Exit(1);
    }

private:
    using Clock = std::chrono::steady_clock;

    // One that is under way, with what MPI reads until it is done.
    struct Exchange {
        MPI_Request request = MPI_REQUEST_NULL;
        std::vector<int> to_counts, to_offsets, from_counts, from_offsets;
    };

    void share_elements(void* all, std::size_t size, std::span<const Index> ends) override {
        const auto begin = Clock::now();
        std::vector<int> counts, offsets;
        cut(ends, counts, offsets);
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, counts.data(), offsets.data(),
                        element(size), run_, &request);
        wait(request);
        note(begin, static_cast<std::int64_t>(size) * counts[static_cast<std::size_t>(rank_)] *
                        (count_ - 1));
    }

    void exchange_elements(const void* to, std::span<const Index> to_ends, void* from,
                           std::span<const Index> from_ends, std::size_t size) override {
        const auto begin = Clock::now();
        Exchange& one = exchanges_.emplace_back();
        cut(to_ends, one.to_counts, one.to_offsets);
        cut(from_ends, one.from_counts, one.from_offsets);
        MPI_Ialltoallv(to, one.to_counts.data(), one.to_offsets.data(), element(size), from,
                       one.from_counts.data(), one.from_offsets.data(), element(size), run_,
                       &one.request);
        const Index sent = to_ends.back() - one.to_counts[static_cast<std::size_t>(rank_)];
        note(begin, static_cast<std::int64_t>(size) * sent);
    }
    void finish() override {
        const auto begin = Clock::now();
        for (Exchange& one : exchanges_) wait(one.request);
        exchanges_.clear();
        note(begin, 0);
    }
    void note(Clock::time_point begin, std::int64_t bytes) noexcept {
        traffic_.bytes_sent += bytes;
        traffic_.seconds += Seconds(Clock::now() - begin).count();
    }

    // Counts and offsets as MPI takes them.
    static void cut(std::span<const Index> ends, std::vector<int>& counts,
                    std::vector<int>& offsets) {
        if (!ends.empty()) detail::expect_sendable(ends.back());
        Index first = 0;
        for (const Index end : ends) {
            offsets.push_back(static_cast<int>(first));
            counts.push_back(static_cast<int>(end - first));
            first = end;
        }
    }
    static MPI_Datatype element(std::size_t size) noexcept {
        return size == 1 ? MPI_BYTE : size == 4 ? MPI_UINT32_T : MPI_UINT64_T;
    }

    // Ends the job when the others do not come.
    void wait(MPI_Request& request) {
        const auto begin = Clock::now();
        for (int done = 0, tries = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), done == 0;
             ++tries) {
            if (tries < 1000) continue;
            std::this_thread::yield();
            if (Clock::now() - begin > patience_) name_the_missing();
        }
    }
    [[noreturn]] void name_the_missing() {
        std::string missing;
        const auto words = call(waiting, std::chrono::seconds(5));
        for (std::size_t r = 0; r < words.size(); ++r)
            if (words[r] == nothing) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
        abort(Error({.field = "rank " + missing,
                     .expected = "an answer within " +
                                 std::to_string(static_cast<long>(patience_.count())) + " seconds",
                     .found = "none",
                     .fix = "look after its machine, then resume the run"})
                  .what());
    }
    [[noreturn]] void abort(const std::string& text) const {
        std::fprintf(stderr, "rank %d: %s\n", rank_, text.c_str());
        std::fflush(nullptr);
        MPI_Abort(MPI_COMM_WORLD, 1);
        std::abort();
    }

    // What a rank says of itself when something is wrong.
    static constexpr std::uint64_t nothing = 0, waiting = 1;
    static std::uint64_t text_mark(const std::string& text) noexcept {
        std::uint64_t mark = 14695981039346656037ULL;  // FNV-1a
        for (const char c : text) mark = (mark ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
        return mark | 2;
    }
    // Says a word to all, and returns those that came from each within the time.
    std::vector<std::uint64_t> call(std::uint64_t own, Seconds time) {
        const auto n = static_cast<std::size_t>(count_);
        const int tag = own == waiting ? 1 : 2;
        own_word_ = own;
        words_.assign(n, nothing);
        std::vector<MPI_Request> requests(2 * n, MPI_REQUEST_NULL);
        for (std::size_t r = 0; r < n; ++r) {
            MPI_Isend(&own_word_, 1, MPI_UINT64_T, static_cast<int>(r), tag, calls_, &requests[r]);
            MPI_Irecv(&words_[r], 1, MPI_UINT64_T, static_cast<int>(r), tag, calls_,
                      &requests[n + r]);
        }
        const auto begin = Clock::now();
        int all = 0;
        while (all == 0 && Clock::now() - begin < time) {
            MPI_Testall(static_cast<int>(2 * n), requests.data(), &all, MPI_STATUSES_IGNORE);
            std::this_thread::yield();
        }
        return words_;
    }

    Seconds patience_;
    Traffic traffic_;
    std::vector<Exchange> exchanges_;
    MPI_Comm run_ = MPI_COMM_NULL, calls_ = MPI_COMM_NULL;
    int rank_ = 0, count_ = 1;
    bool owner_ = false;
    std::uint64_t own_word_ = nothing;
    std::vector<std::uint64_t> words_;  // outlives what is not received
};

}  // namespace HYDRALM_NAMESPACE
