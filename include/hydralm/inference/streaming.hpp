// StreamingEngine: an endless source of tokens through a model, in constant memory.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <span>

#include "hydralm/inference/score.hpp"

namespace HYDRALM_NAMESPACE {

// Bytes of this process resident in memory now; 0 where the system does not say (it is Linux's
// /proc that does). Takes no memory to find out.
inline std::int64_t resident_bytes() noexcept {
    std::array<char, 128> text{};
    const int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    const auto size = ::read(file, text.data(), text.size() - 1);
    ::close(file);
    long long total = 0, resident = 0;  // pages
    if (size <= 0 || std::sscanf(text.data(), "%lld %lld", &total, &resident) != 2) return 0;
    return resident * ::sysconf(_SC_PAGESIZE);
}

// The most that ever were; 0 where the system does not say.
inline std::int64_t peak_resident_bytes() noexcept {
    rusage usage{};
    if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return std::int64_t{usage.ru_maxrss} * 1024;  // Linux's unit
}

struct StreamReport {
    std::int64_t tokens = 0;
    double seconds = 0.0;
    double tokens_per_second = 0.0;
    Index state_bytes = 0;
    std::int64_t resident_bytes_first = 0;  // after the second chunk
    std::int64_t resident_bytes_peak = 0;   // the most seen after any chunk from the second on
    double bits_per_token = 0.0;            // mean −log₂ p of every token but the first
};

// Feeds a stream chunk by chunk and keeps account. The model must outlive the engine.
template <class Model>
class StreamingEngine {
public:
    explicit StreamingEngine(const Model&& model) = delete;
    // policy: how the stream keeps the past.
    explicit StreamingEngine(const Model& model, const BankPolicy& policy = {})
        : state_(model.new_state(Model::prefill_tile, policy)), scorer_(model) {}

    // Feeds one chunk of tokens, of any length. Throws Error as Model::prefill does. No allocation
    // but for pages of banks.
    void feed(std::span<const token_id> tokens) {
        const auto start = std::chrono::steady_clock::now();
        scorer_.feed(tokens, state_);
        report_.seconds +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        report_.tokens += static_cast<std::int64_t>(tokens.size());
        if (++chunks_ < 2) return;
        const std::int64_t resident = resident_bytes();
        if (chunks_ == 2) report_.resident_bytes_first = resident;
        report_.resident_bytes_peak = std::max(report_.resident_bytes_peak, resident);
    }

    // source(span) fills the span with up to its size in tokens and returns how many; 0 ends the
    // stream. after(report) is called behind every chunk; false ends it.
    template <class Source, class After>
    StreamReport run(Source source, std::span<token_id> buffer, const After& after) {
        for (std::size_t n = source(buffer); n > 0; n = source(buffer)) {
            feed(buffer.first(n));
            if (!after(report())) break;
        }
        return report();
    }

    StreamReport report() const {
        StreamReport r = report_;
        r.tokens_per_second = r.seconds > 0.0 ? static_cast<double>(r.tokens) / r.seconds : 0.0;
        r.state_bytes = state_.size();
        if (chunks_ < 2) r.resident_bytes_first = r.resident_bytes_peak = resident_bytes();
        r.bits_per_token = scorer_.bits_per_token();
        return r;
    }
    typename Model::State& state() noexcept { return state_; }

private:
    typename Model::State state_;
    Scorer<Model> scorer_;
    StreamReport report_;
    std::int64_t chunks_ = 0;
};

}  // namespace HYDRALM_NAMESPACE
