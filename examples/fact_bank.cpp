// 6. Memory without gradients: a fact bank that learns by writing, forgets by overwriting, and
// lives in a file; and attention over an endless stream in fixed memory.
#include <hydralm/core/random.hpp>
#include <hydralm/io/fact_bank_file.hpp>
#include <hydralm/memory/compressive_memory.hpp>
#include <hydralm/memory/fact_bank.hpp>

#include <cstdio>
#include <filesystem>
#include <vector>

using hydralm::Index;
using hydralm::MatrixView;

namespace {

constexpr Index D = 256, N = 200;

std::vector<float> random_rows(Index rows, hydralm::Random& random) {
    std::vector<float> values(static_cast<std::size_t>(rows * D));
    for (float& value : values) value = static_cast<float>(random.normal());
    return values;
}

// How many rows of recalled are closest to their own row of values.
Index right(const std::vector<float>& recalled, const std::vector<float>& values) {
    Index count = 0;
    for (Index n = 0; n < N; ++n) {
        Index best = 0;
        float best_score = -1e30F;
        for (Index m = 0; m < N; ++m) {
            float score = 0;
            for (Index i = 0; i < D; ++i)
                score += recalled[static_cast<std::size_t>(n * D + i)] *
                         values[static_cast<std::size_t>(m * D + i)];
            if (score > best_score) best = m, best_score = score;
        }
        count += best == n;
    }
    return count;
}

}  // namespace

int main() {
    hydralm::Random random(1);
    const auto keys = random_rows(N, random), old_values = random_rows(N, random),
               new_values = random_rows(N, random);
    const MatrixView<const float> k(keys.data(), N, D), v(old_values.data(), N, D),
        w(new_values.data(), N, D);
    std::vector<float> recalled(keys.size());
    const MatrixView<float> out(recalled.data(), N, D);

    // One pass of writing is all the learning there is; writing again overwrites.
    using Bank = hydralm::FactBank<float, D>;
    Bank bank;
    bank.write(k, v);
    bank.recall(k, out);
    const Index learned = right(recalled, old_values);
    bank.write(k, w);
    bank.recall(k, out);
    const Index overwritten = right(recalled, new_values);
    std::printf("%td facts in %td bytes: %td recalled, %td after overwriting\n", N,
                Bank::state_bytes, learned, overwritten);

    const auto path = std::filesystem::temp_directory_path() / "hydralm_example_facts.bank";
    hydralm::save_fact_bank(bank, path);
    hydralm::load_fact_bank<Bank>(path).recall(k, out);
    std::printf("from the file: %td\n", right(recalled, new_values));
    std::filesystem::remove(path);

    // The last 16 tokens exactly, older ones in pairs that stand for 8, the oldest in one.
    hydralm::CompressiveMemory<float, D> memory(16, 4, 8);
    std::vector<float> answer(D);
    for (int t = 0; t < 10'000; ++t) {
        const std::size_t row = static_cast<std::size_t>(t % N * D);
        memory.append(std::span(keys).subspan(row, D), std::span(old_values).subspan(row, D));
    }
    memory.attend(std::span(keys).first(D), answer);
    std::printf("%lld tokens in %td bytes: %td exact, %td summaries, a tombstone of %lld\n",
                static_cast<long long>(memory.tokens()), memory.bytes(), memory.exact_tokens(),
                memory.summaries(), static_cast<long long>(memory.tombstone_tokens()));
    return learned >= N * 99 / 100 && overwritten >= N * 9 / 10 ? 0 : 1;
}
