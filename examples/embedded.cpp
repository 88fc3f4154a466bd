// 5. Embedded: weights, state and scratch memory in static storage of sizes known to the compiler,
// and neither exceptions nor run-time type information: compile with -fno-exceptions -fno-rtti.
//
// A device would have its weights linked into the image as HydraLM lays them out in memory. Here
// they are drawn before the start; from then on every use of the heap ends the program.
#include <hydralm/hydralm.hpp>
#include <hydralm/inference/sampling.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <new>

using hydralm::Index;
using hydralm::MatrixView;
using hydralm::token_id;

namespace {

constexpr hydralm::HydraConfig config{.vocab_size = 256,
                                      .d_model = 64,
                                      .n_layers = 2,
                                      .n_heads = 2,
                                      .swa_window = 64,
                                      .swa_every = 2};
using Model = hydralm::HydraLM<config>;

alignas(hydralm::alignment) std::array<std::byte, Model::weight_bytes> weights;
alignas(hydralm::alignment) std::array<std::byte, Model::state_bytes> state;
alignas(hydralm::alignment)
    std::array<std::byte, Model::workspace_bytes(1, 1, hydralm::Form::recurrent)> scratch;
alignas(hydralm::alignment) std::array<float, config.vocab_size> logits;

static_assert(sizeof(weights) + sizeof(state) + sizeof(scratch) + sizeof(logits) < 1024 * 1024,
              "the whole of it fits in a MiB");

bool started = false;

void* allocate(std::size_t bytes, std::size_t alignment) {
    if (started) std::abort();
    void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (memory == nullptr) std::abort();
    return memory;
}

// What bad input ends in, where a program with exceptions throws. A device may reset here.
void stop(const char* text) {
    std::fprintf(stderr, "%s\n", text);
    std::_Exit(1);
}

}  // namespace

// Every allocation of C++ comes through here.
void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

int main() {
    hydralm::set_error_handler(stop);
    hydralm::set_num_threads(1);
    Model model{std::span(weights)};
    hydralm::initialise(model, 1, hydralm::InitScheme::fan_in);
    started = true;

    std::printf("weights %zu, state %zu, scratch %zu, logits %zu bytes\n", sizeof(weights),
                sizeof(state), sizeof(scratch), sizeof(logits));
    hydralm::Stream stream{state.data(), 0};  // zeros: before the first token
    token_id token = 'A';
    unsigned checksum = 0;
    for (; stream.position < 1000; ++stream.position) {
        hydralm::Arena arena{std::span(scratch)};
        const MatrixView<float> hidden =
            model.forward(&token, hydralm::Streams(&stream, 1), 1, hydralm::Form::recurrent, arena);
        model.head(hidden, MatrixView<float>(logits.data(), 1, config.vocab_size));
        token = hydralm::argmax<float>(logits);
        checksum = checksum * 31 + static_cast<unsigned>(token);
    }
    std::printf("%lld tokens without the heap\n", static_cast<long long>(stream.position));
    std::fprintf(stderr, "checksum %u\n", checksum);
    return 0;
}
