// Learning without gradients: a FactBank, its capacity and what overwriting leaves of the old.
#include <hydralm/memory/fact_bank.hpp>

#include <Eigen/Core>

#include "measure.hpp"

namespace {

using hydralm::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index D = 1024;

Rows random_rows(Index count, std::uint64_t seed) {
    hydralm::Random random(seed);
    Rows rows(count, D);
    for (Index i = 0; i < rows.size(); ++i) rows.data()[i] = static_cast<float>(random.normal());
    return rows.rowwise().normalized();
}

hydralm::MatrixView<const float> view(const Rows& rows) { return {rows.data(), rows.rows(), D}; }

}  // namespace

Json facts(const Json& asked) {
    const auto count = asked.at("facts").get<Index>();
    const auto seed = asked.value("seed", std::uint64_t{1});
    const Rows keys = random_rows(count, 3 * seed), old = random_rows(count, 3 * seed + 1),
               fresh = random_rows(count, 3 * seed + 2);
    Rows recalled(count, D);
    hydralm::FactBank<float, D> bank;
    const auto recall = [&] { bank.recall(view(keys), {recalled.data(), count, D}); };
    // The share of facts whose recalled value is closest to their own.
    const auto accuracy = [&](const Rows& values) {
        const Rows scores = recalled * values.transpose();
        Index right = 0;
        for (Index n = 0; n < count; ++n) {
            Index best = 0;
            scores.row(n).maxCoeff(&best);
            right += best == n;
        }
        return static_cast<double>(right) / static_cast<double>(count);
    };
    const auto cosine = [&](const Rows& values) {
        double sum = 0;
        for (Index n = 0; n < count; ++n)
            sum += static_cast<double>(recalled.row(n).normalized().dot(values.row(n)));
        return sum / static_cast<double>(count);
    };
    bank.write(view(keys), view(old));
    recall();
    const double learned = accuracy(old), memorised = cosine(old);
    // What the first tenth is worth once the rest came after it: interference.
    const Index tenth = std::max<Index>(1, count / 10);
    double first = 0;
    for (Index n = 0; n < tenth; ++n)
        first += static_cast<double>(recalled.row(n).normalized().dot(old.row(n)));
    bank.write(view(keys), view(fresh));
    recall();
    return {{"facts", count},
            {"accuracy", learned},
            {"cosine", memorised},
            {"cosine_first_tenth", first / static_cast<double>(tenth)},
            {"accuracy_overwritten", accuracy(fresh)},
            {"overwrite_margin", cosine(fresh) - cosine(old)},
            {"bytes", hydralm::FactBank<float, D>::bytes}};
}

Json round_trip(const Json& asked) {
    const std::string copy = asked.at("copy");
    const auto model = measured_model<float>(asked);
    hydralm::save(model, copy);
    const auto again = hydralm::open<float>(copy, MeasuredKernels{});
    std::vector<std::vector<float>> before, after;
    model.get_parameters([&](const auto&, std::span<const float> values) {
        before.emplace_back(values.begin(), values.end());
    });
    again.get_parameters([&](const auto&, std::span<const float> values) {
        after.emplace_back(values.begin(), values.end());
    });
    return {{"parameters", model.parameter_count}, {"same_bits", before == after}};
}
