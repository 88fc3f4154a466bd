// Ranks that are threads of this process. What an exchange moves is moved when it ends, and until
// then its destination is no number: whoever touches either of the two meanwhile is seen.
#pragma once

#include <algorithm>
#include <barrier>
#include <thread>
#include <vector>

#include "hydralm/training/ranks.hpp"

namespace hydralm::test {

// What the ranks of one run have in common.
struct Meeting {
    explicit Meeting(int ranks) : barrier(ranks), memory(static_cast<std::size_t>(ranks)) {}

    std::barrier<> barrier;
    struct Memory {
        const std::byte* data = nullptr;
        std::span<const Index> ends;
    };
    std::vector<Memory> memory;  // what each shows the others
};

class ThreadRank final : public Ranks {
public:
    ThreadRank(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
    int rank() const noexcept override { return rank_; }
    int count() const noexcept override { return static_cast<int>(meeting_.memory.size()); }
    Traffic traffic() const noexcept override { return traffic_; }

private:
    static Index first_of(std::span<const Index> ends, std::size_t part) {
        return part == 0 ? 0 : ends[part - 1];
    }
    void note(Index elements, std::size_t size) {
        traffic_.bytes_sent += elements * static_cast<Index>(size);
    }
    void show(const void* data, std::span<const Index> ends) {
        meeting_.memory[static_cast<std::size_t>(rank_)] = {static_cast<const std::byte*>(data),
                                                            ends};
        meeting_.barrier.arrive_and_wait();
    }
    void share_elements(void* all, std::size_t size, std::span<const Index> ends) override {
        show(all, ends);
        const auto own = static_cast<std::size_t>(rank_);
        note((ends[own] - first_of(ends, own)) * (count() - 1), size);
        for (std::size_t r = 0; r < ends.size(); ++r) {
            const Index first = first_of(ends, r) * static_cast<Index>(size),
                        last = ends[r] * static_cast<Index>(size);
            if (static_cast<int>(r) != rank_)
                std::copy(meeting_.memory[r].data + first, meeting_.memory[r].data + last,
                          static_cast<std::byte*>(all) + first);
        }
        meeting_.barrier.arrive_and_wait();
    }
    void exchange_elements(const void* to, std::span<const Index> to_ends, void* from,
                           std::span<const Index> from_ends, std::size_t size) override {
        const auto me = static_cast<std::size_t>(rank_);
        note(to_ends.back() - (to_ends[me] - first_of(to_ends, me)), size);
        const auto bytes = [size](std::span<const Index> ends) {
            std::vector<Index> all(ends.begin(), ends.end());
            for (Index& end : all) end *= static_cast<Index>(size);
            return all;
        };
        begun_.push_back({to, bytes(to_ends), static_cast<std::byte*>(from), bytes(from_ends)});
        std::fill_n(begun_.back().from, begun_.back().from_ends.back(), std::byte{0xff});
    }
    void finish() override {
        const auto me = static_cast<std::size_t>(rank_);
        for (const Exchange& one : begun_) {
            show(one.to, one.to_ends);
            for (std::size_t r = 0; r < one.from_ends.size(); ++r) {
                const auto& [data, ends] = meeting_.memory[r];
                std::copy(data + first_of(ends, me), data + ends[me],
                          one.from + first_of(one.from_ends, r));
            }
            meeting_.barrier.arrive_and_wait();
        }
        begun_.clear();
    }

    // One that is under way; its parts end at bytes.
    struct Exchange {
        const void* to;
        std::vector<Index> to_ends;
        std::byte* from;
        std::vector<Index> from_ends;
    };

    Meeting& meeting_;
    int rank_;
    Traffic traffic_;
    std::vector<Exchange> begun_;
};

// f(Ranks&) on each of so many ranks.
template <class F>
void on_ranks(int count, const F& f) {
    Meeting meeting(count);
    std::vector<std::thread> threads;
    for (int r = 0; r < count; ++r)
        threads.emplace_back([&, r] {
            ThreadRank rank(meeting, r);
            f(rank);
        });
    for (auto& thread : threads) thread.join();
}

}  // namespace hydralm::test
