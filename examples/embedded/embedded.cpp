// 5. Embedded: a trained model that writes English, whole in the program. Weights are a constant,
// read where they lie; state and scratch memory are static arrays whose sizes the compiler knows.
// No heap, no file, no thread; compiled with -fno-exceptions -fno-rtti.
//
// english.hpp is what `hydralm embed` makes of the checkpoint beside this file. An argument, if
// there is one, is what the text goes on from.
#include <hydralm/inference/sampling.hpp>
#include <hydralm/simd/expression.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string_view>

#include "english.hpp"

using english::Model;
using hydralm::Form;
using hydralm::MatrixView;
using hydralm::token_id;

namespace {

alignas(hydralm::alignment) std::array<std::byte, Model::state_bytes> state;
alignas(hydralm::alignment)
    std::array<std::byte, Model::workspace_bytes(1, 1, Form::recurrent)> scratch;
alignas(hydralm::alignment) std::array<float, english::config.vocab_size> logits;

// What bad input ends in, where a program with exceptions throws. A device may reset here.
void stop(const char* text) {
    std::fprintf(stderr, "%s\n", text);
    std::_Exit(1);
}

// Feeds a byte of the text: logits are of what follows it.
void feed(const Model& model, hydralm::Stream& stream, char byte) {
    const token_id token = static_cast<unsigned char>(byte);
    hydralm::Arena arena{std::span(scratch)};
    const MatrixView<float> hidden =
        model.forward(&token, hydralm::Streams(&stream, 1), 1, Form::recurrent, arena);
    model.head(hidden, MatrixView<float>(logits.data(), 1, Model::vocab_size()));
    ++stream.position;
}

// A byte drawn from them, at temperature 1/4.
char drawn(hydralm::Random& random) {
    const auto row = hydralm::view(logits);
    const float largest = hydralm::max(row);
    hydralm::out(row) = hydralm::exp((row - largest) * 4.0F);
    return static_cast<char>(hydralm::draw<float>(logits, random));
}

}  // namespace

// Every allocation of C++ would come through here, and end the program.
void* operator new(std::size_t) { std::abort(); }
void* operator new(std::size_t, std::align_val_t) { std::abort(); }
void operator delete(void*) noexcept {}
void operator delete(void*, std::size_t) noexcept {}
void operator delete(void*, std::align_val_t) noexcept {}
void operator delete(void*, std::size_t, std::align_val_t) noexcept {}

int main(int argc, char** argv) {
    hydralm::set_error_handler(stop);
    hydralm::set_num_threads(1);
    const Model model{english::embedded};
    hydralm::Stream stream{state.data(), 0};  // zeros: before the first token
    hydralm::Random random(1);
    const std::string_view prompt = argc > 1 && *argv[1] != '\0' ? argv[1] : "The ";
    for (const char byte : prompt) feed(model, stream, byte);
    std::fwrite(prompt.data(), 1, prompt.size(), stdout);
    for (int i = 0; i < 500; ++i) {
        const char byte = drawn(random);
        std::fputc(byte, stdout);
        feed(model, stream, byte);
    }
    std::fputc('\n', stdout);
    std::fprintf(stderr, "bytes: weights %zu, read only; state %zu, scratch %zu, logits %zu\n",
                 sizeof english::embedded, sizeof state, sizeof scratch, sizeof logits);
    return 0;
}
