// 7. Many questions about one text: the text is read once, every question goes on from its state.
#include <chrono>
#include <cstdio>
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/prefix_cache.hpp>
#include <vector>

int main() {
    constexpr hydralm::HydraConfig config{.vocab_size = 256,
                                          .d_model = 128,
                                          .n_layers = 6,
                                          .n_heads = 4,
                                          .swa_window = 128,
                                          .swa_every = 3,
                                          .retrieval_every = 2,
                                          .retrieval_chunk_size = 32};
    using Model = hydralm::HydraLM<config>;
    Model model;
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    hydralm::PrefixCache<Model> cache(model, 256 << 20);  // bytes of states

    hydralm::Random random(2);
    std::vector<hydralm::token_id> document(8192);
    for (auto& token : document) token = static_cast<hydralm::token_id>(random.below(256));

    auto state = model.new_state();
    for (int question = 0; question < 4; ++question) {
        auto prompt = document;
        for (int i = 0; i < 32; ++i)
            prompt.push_back(static_cast<hydralm::token_id>(random.below(256)));
        const auto before = cache.statistics().resumed;
        const auto begin = std::chrono::steady_clock::now();
        cache.prefill(prompt, state);  // instead of model.prefill(prompt, state)
        const auto ms =
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin);
        std::printf("question %d: %lld of %zu tokens were read before, %.1f ms\n", question,
                    static_cast<long long>(cache.statistics().resumed - before), prompt.size(),
                    ms.count());
    }
    std::printf("%zu states kept, %.1f MiB\n", cache.size(),
                static_cast<double>(cache.bytes()) / 1048576.0);
}
