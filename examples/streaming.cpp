// 3. Streaming: an endless source through a model, in constant memory.
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/streaming.hpp>

#include <array>
#include <cstdio>

int main() {
    using Model = hydralm::HydraLM<hydralm::presets::tiny>;
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);

    // Whatever produces tokens: a socket, a file, a sensor. It fills the span and returns how many
    // it had; 0 would end the stream. This one never does.
    hydralm::Random noise(7);
    const auto source = [&](std::span<hydralm::token_id> out) {
        for (auto& token : out) token = static_cast<hydralm::token_id>(noise.below(256));
        return out.size();
    };

    hydralm::StreamingEngine<Model> engine(model);
    std::array<hydralm::token_id, 1024> buffer{};
    const auto report = engine.run(source, buffer, [](const hydralm::StreamReport& so_far) {
        return so_far.tokens < 32 * 1024;  // false ends it
    });

    constexpr long long mebibyte = 1 << 20;
    const long long grown = report.resident_bytes_peak - report.resident_bytes_first;
    std::printf("%lld tokens through %td parameters\n", static_cast<long long>(report.tokens),
                Model::parameter_count);
    std::printf("%td bytes of state, at the first token as at the last\n", report.state_bytes);
    std::printf("the process grew by less than a MiB: %s\n", grown < mebibyte ? "yes" : "no");
    std::fprintf(stderr, "%.0f tokens/s\n", report.tokens_per_second);
    return grown < mebibyte ? 0 : 1;
}
