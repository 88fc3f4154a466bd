// Ranks: the processes of one run. This class is a run of one process; distributed.hpp has those of
// an MPI job. What they tell each other goes through three virtual functions.
#pragma once

#include <algorithm>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "hydralm/core/types.hpp"

namespace HYDRALM_NAMESPACE {

namespace detail {

// Throws Error for more elements than ranks send each other at once, which MPI counts in 32 bits.
inline void expect_sendable(Index elements) {
    if (elements > std::numeric_limits<std::int32_t>::max())
        raise({.field = "ranks",
               .expected = "at most 2^31 - 1 elements that they send each other at once",
               .found = std::to_string(elements),
               .fix = "use a smaller model or text, or one rank"});
}

}  // namespace detail

// Every rank calls the same functions in the same order, with sizes that agree.
class Ranks {
public:
    Ranks() = default;
    Ranks(const Ranks&) = delete;
    Ranks& operator=(const Ranks&) = delete;
    virtual ~Ranks() = default;

    virtual int rank() const noexcept { return 0; }
    virtual int count() const noexcept { return 1; }

    // What this rank has spent on the others.
    struct Traffic {
        std::int64_t bytes_sent = 0;
        double seconds = 0.0;  // of sending, receiving and waiting
    };
    virtual Traffic traffic() const noexcept { return {}; }

    // all is cut into parts, that of rank r ending at ends[r]; each comes from its rank to all.
    template <class T>
    void share(std::span<T> all, std::span<const Index> ends) {
        if (count() > 1) share_elements(all.data(), sizeof(T), ends);
    }
    // Part r of `to`, which ends at to_ends[r], goes to rank r; part r of `from` comes from it.
    template <class T>
    void exchange(std::span<const T> to, std::span<const Index> to_ends, std::span<T> from,
                  std::span<const Index> from_ends) {
        begin_exchange(to, to_ends, from, from_ends);
        finish();
    }
    // Begins it, and goes on while it is under way: until finish() neither is touched.
    template <class T>
    void begin_exchange(std::span<const T> to, std::span<const Index> to_ends, std::span<T> from,
                        std::span<const Index> from_ends) {
        exchange_elements(to.data(), to_ends, from.data(), from_ends, sizeof(T));
    }
    // Behind it every exchange that was begun is done.
    virtual void finish() {}

    // own goes to a rank, and other comes from one, or from and to nobody. All call it together.
    static constexpr int nobody = -1;
    template <class T>
    void send(std::span<const T> own, int to, std::span<T> other, int from) {
        exchange<T>(own, ends_with(to, std::ssize(own)), other, ends_with(from, std::ssize(other)));
    }

    // What every rank has.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    std::vector<T> gather(const T& own) {
        std::vector<T> all(static_cast<std::size_t>(count()));
        all[static_cast<std::size_t>(rank())] = own;
        share(std::as_writable_bytes(std::span(all)), equal_ends(Index{sizeof(T)}));
        return all;
    }
    std::vector<std::string> gather(const std::string& own) {
        std::vector<Index> ends = gather(std::ssize(own));
        for (std::size_t r = 1; r < ends.size(); ++r) ends[r] += ends[r - 1];
        std::string all(static_cast<std::size_t>(ends.back()), '\0');
        const auto text = [&](std::size_t r) {
            const auto first = static_cast<std::size_t>(r == 0 ? 0 : ends[r - 1]);
            return std::span(all).subspan(first, static_cast<std::size_t>(ends[r]) - first);
        };
        std::copy(own.begin(), own.end(), text(static_cast<std::size_t>(rank())).begin());
        share(std::span(all), ends);
        std::vector<std::string> texts;
        texts.reserve(ends.size());
        for (std::size_t r = 0; r < ends.size(); ++r)
            texts.emplace_back(text(r).begin(), text(r).end());
        return texts;
    }
    bool any(bool own) {
        for (const bool one : gather(static_cast<std::uint8_t>(own)))
            if (one) return true;
        return false;
    }
    // f() on every rank, which asks nothing of the others; the Error of the first that throws one
    // is thrown by all, as is one for std::bad_alloc and for any other std::exception. Of a rank
    // alone it is what f() throws. A byte goes to each of the others.
    template <class F>
    void on_all(const F& f) {
        if (count() == 1) return f();
        std::optional<ErrorDetail> error;
        const auto no_memory = [](const std::bad_alloc&) {
            raise({.field = "memory",
                   .expected = "as much as this rank needs",
                   .found = "less",
                   .fix = "give every rank more memory, or smaller work"});
        };
        const auto refused = [&](const Error& failure) { error = failure.detail(); };
        const auto failed_otherwise = [&](const std::exception& failure) {
            error = ErrorDetail{.field = failure.what()};
        };
        attempt<std::exception>(
            [&] { attempt([&] { attempt<std::bad_alloc>(f, no_memory); }, refused); },
            failed_otherwise);
        const auto failed = gather(static_cast<std::uint8_t>(error.has_value()));
        const auto first = static_cast<std::size_t>(std::ranges::find(failed, 1) - failed.begin());
        if (first == failed.size()) return;
        ErrorDetail all = error.value_or(ErrorDetail{});
        for (std::string* part : {&all.file, &all.field, &all.expected, &all.found, &all.fix})
            *part = gather(*part)[first];
        if (first > 0)
            all.field =
                "rank " + std::to_string(first) + (all.field.empty() ? "" : ": ") + all.field;
        raise(std::move(all));
    }
    // f() on rank 0; the Error it throws is thrown by all.
    template <class F>
    void on_first(const F& f) {
        on_all([&] {
            if (rank() == 0) f();
        });
    }
    // Ends of parts of n elements each.
    std::vector<Index> equal_ends(Index n) const {
        std::vector<Index> ends(static_cast<std::size_t>(count()));
        for (std::size_t r = 0; r < ends.size(); ++r) ends[r] = n * static_cast<Index>(r + 1);
        return ends;
    }

private:
    // Ends of parts of which only that of this rank, if there is one, has n elements.
    std::vector<Index> ends_with(int rank, Index n) const {
        std::vector<Index> ends(static_cast<std::size_t>(count()), 0);
        if (rank != nobody) std::fill(ends.begin() + rank, ends.end(), n);
        return ends;
    }

    // Of elements of 1, 4 or 8 bytes. What exchange_elements begins may end in finish().
    virtual void share_elements(void*, std::size_t, std::span<const Index>) {}
    virtual void exchange_elements(const void*, std::span<const Index>, void*,
                                   std::span<const Index>, std::size_t) {}
};

// A run of this process alone.
inline Ranks& one_rank() noexcept {
    static Ranks ranks;
    return ranks;
}

}  // namespace HYDRALM_NAMESPACE
