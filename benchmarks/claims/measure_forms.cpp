// One function, three forms: the same tokens at once, in pieces, and one by one.
#include <algorithm>
#include <cmath>

#include "measure.hpp"

namespace {

template <class T>
Json measured(const Json& asked) {
    using Model = hydralm::RuntimeModel<T>;
    const Model model = measured_model<T>(asked);
    const auto N = asked.at("tokens").get<hydralm::Index>(), V = model.vocab_size();
    const auto piece = static_cast<std::size_t>(asked.value("piece", 37));
    std::vector<hydralm::token_id> tokens(static_cast<std::size_t>(N));
    RandomTokens(V, 2).fill(tokens);
    // Logits [N, V], fed n tokens a call; one by one by step.
    const auto fed = [&](std::size_t n) {
        std::vector<T> out(static_cast<std::size_t>(N * V), T(std::nan("")));
        auto state = model.new_state();
        for (std::size_t at = 0; at < tokens.size(); at += n) {
            const auto part = std::span(tokens).subspan(at, std::min(n, tokens.size() - at));
            T* const rows = out.data() + static_cast<hydralm::Index>(at) * V;
            if (n == 1) std::ranges::copy(model.step(part[0], state), rows);
            else model.logits(part, state, {rows, static_cast<hydralm::Index>(part.size()), V});
        }
        return out;
    };
    const auto whole = fed(tokens.size());
    Json found{{"largest_logit", 0.0}, {"rows", N}};
    for (const T x : whole)
        found["largest_logit"] =
            std::max(found["largest_logit"].get<double>(), std::abs(static_cast<double>(x)));
    for (const auto& [name, n] : {std::pair{"chunked", piece}, {"step", std::size_t{1}}}) {
        const auto other = fed(n);
        double largest = 0;
        std::int64_t rows_apart = 0;
        for (hydralm::Index t = 0; t < N; ++t) {
            double row = 0;
            for (hydralm::Index v = 0; v < V; ++v) {
                const auto i = static_cast<std::size_t>(t * V + v);
                const double apart = std::abs(static_cast<double>(whole[i] - other[i]));
                row = std::isfinite(apart) ? std::max(row, apart) : HUGE_VAL;
            }
            largest = std::max(largest, row);
            rows_apart += row > asked.at("bound").get<double>();
        }
        found[name] = {{"largest", std::isfinite(largest) ? Json(largest) : Json()},
                       {"rows_apart", rows_apart}};
    }
    return found;
}

}  // namespace

Json forms(const Json& asked) {
    return asked.at("scalar") == "double" ? measured<double>(asked) : measured<float>(asked);
}
