// The resting-state report: how far outputs of the gated delta rule are from themselves when its
// memory rests in int16 behind every token, over a long text and for slow and fast decays. Prints a
// page of Markdown. Arguments: tokens, default 10,000,000.
#include <hydralm/core/aligned_buffer.hpp>
#include <hydralm/core/parallel.hpp>
#include <hydralm/core/random.hpp>
#include <hydralm/kernels/delta_rule/delta_rule.hpp>
#include <hydralm/kernels/int16_rows.hpp>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

using namespace hydralm;

constexpr std::array alphas{0.9, 0.99, 0.999, 0.9999};
constexpr Index pool = 16384;  // of vectors that queries, keys and values are drawn from

// Vectors [pool, D]: normal numbers, of length 1 if they are to be.
template <Index D>
AlignedBuffer<float> vectors(std::uint64_t stream, bool unit) {
    Random random(1, stream);
    AlignedBuffer<float> all(pool * D);
    for (Index i = 0; i < pool; ++i) {
        double square = 0;
        for (Index j = 0; j < D; ++j) {
            all[i * D + j] = static_cast<float>(random.normal());
            square += std::pow(static_cast<double>(all[i * D + j]), 2);
        }
        if (unit)
            for (Index j = 0; j < D; ++j) all[i * D + j] /= static_cast<float>(std::sqrt(square));
    }
    return all;
}

// ‖o' − o‖ / ‖o‖ over the 1,000 tokens up to each of these many.
template <Index D>
std::vector<double> errors(double alpha, const std::vector<Index>& ends) {
    const auto keys = vectors<D>(1, true), values = vectors<D>(2, false);
    AlignedBuffer<float> exact(D * D), resting(D * D), out(D), out_resting(D);
    std::array<std::int16_t, static_cast<std::size_t>(D)> q{};
    const MatrixView<float, D> S(exact.data(), D), kept(resting.data(), D);
    Random random(2);
    const auto any = [&] { return static_cast<Index>(random() % pool) * D; };
    const auto g = static_cast<float>(std::log(alpha));
    std::vector<double> found;
    Index token = 0;
    for (const Index end : ends) {
        double error = 0, size = 0;
        for (; token < end; ++token) {
            const float *const query = keys.data() + any(), *const key = keys.data() + any(),
                               *const value = values.data() + any();
            const auto beta = static_cast<float>(random.uniform());
            kernels::gated_delta_step<float, D, D>(query, key, value, g, beta, S, out.data());
            kernels::gated_delta_step<float, D, D>(query, key, value, g, beta, kept,
                                                   out_resting.data());
            for (Index r = 0; r < D; ++r) kernels::round_to_int16(D, kept.row(r), q.data());
            if (token < end - 1000) continue;
            for (Index i = 0; i < D; ++i) {
                const auto o = static_cast<double>(out[i]);
                error += std::pow(static_cast<double>(out_resting[i]) - o, 2);
                size += o * o;
            }
        }
        found.push_back(std::sqrt(error / size));
    }
    return found;
}

template <Index D>
void print_rows(const std::vector<Index>& ends) {
    std::array<std::vector<double>, alphas.size()> rows;
    parallel_for(static_cast<Index>(alphas.size()), [&](Index i) {
        const auto at = static_cast<std::size_t>(i);
        rows[at] = errors<D>(alphas[at], ends);
    });
    for (std::size_t i = 0; i < alphas.size(); ++i) {
        std::printf("| %td | %g |", D, alphas[i]);
        for (const double error : rows[i]) std::printf(" %.6f |", error);
        std::printf("\n");
        std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto most = argc > 1 ? static_cast<Index>(std::atoll(argv[1])) : Index{10'000'000};
    std::vector<Index> ends;
    for (Index end = 1000; end <= most; end *= 10) ends.push_back(end);
    std::printf(
        "# The delta rule's memory at rest in int16\n\n"
        "Measured by `./run reports resting-state-report`: a head of the gated delta rule beside "
        "the same head whose\nmemory is [rounded to int16](state-and-streaming.md) with a scale "
        "per "
        "row behind every token, as decoding does\n(prefill does it behind every piece of 256). "
        "Random unit keys and queries, normal values, β uniform in (0, 1),\nthe same decay α at "
        "every token; the relative RMS error of the outputs over the 1,000 tokens up to each of "
        "these.\n\n| head_dim | α |");
    for (const Index end : ends) std::printf(" %td |", end);
    std::printf("\n|---:|---:|");
    for (std::size_t i = 0; i < ends.size(); ++i) std::printf("---:|");
    std::printf("\n");
    print_rows<64>(ends);
    print_rows<128>(ends);
    std::printf(
        "\nThe error is forgotten with the memory itself: it does not grow with the text, and is "
        "larger where α is nearer to 1.\n\n");
}
