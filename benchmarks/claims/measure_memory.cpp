// A stream in constant memory: what is resident, and what is allocated, once it has warmed up.
#include <hydralm/inference/streaming.hpp>

#include <cmath>

#include "../../tests/support/allocations.hpp"
#include "measure.hpp"

Json memory(const Json& asked) {
    using Model = hydralm::RuntimeModel<float>;
    const Model model = measured_model<float>(asked);
    const auto tokens = asked.at("tokens").get<std::int64_t>();
    hydralm::StreamingEngine<Model> engine(model, measured_policy(asked));
    RandomTokens random(model.vocab_size(), 2);
    std::vector<hydralm::token_id> piece(4096);
    // Resident at a power of two of pieces, for the curve.
    std::vector<std::pair<std::int64_t, std::int64_t>> curve;
    curve.reserve(64);
    long warm = 0;
    std::int64_t pieces = 0;
    for (std::int64_t fed = 0; fed < tokens; fed += 4096) {
        random.fill(piece);
        engine.feed(piece);
        if (++pieces == 2) warm = hydralm::test::allocations();
        if (pieces >= 2 && (pieces & (pieces - 1)) == 0)
            curve.emplace_back(fed + 4096, hydralm::resident_bytes());
    }
    const long allocations = hydralm::test::allocations() - warm;
    const auto report = engine.report();
    curve.emplace_back(report.tokens, hydralm::resident_bytes());
    return {{"tokens", report.tokens},
            {"seconds", report.seconds},
            {"resident_bytes_first", report.resident_bytes_first},
            {"resident_bytes_peak", report.resident_bytes_peak},
            {"curve", curve},
            {"allocations", allocations},
            {"finite", std::isfinite(report.bits_per_token)},
            {"state_bytes", engine.state().size()}};
}
