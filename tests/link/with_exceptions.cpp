#include "refusals.hpp"

#include <exception>

std::vector<float> answers_with_exceptions() { return answers("with.safetensors"); }

std::string text_with_exceptions(int refusal) {
    try {
        refused(refusal);
    } catch (const std::exception& error) {
        return error.what();
    }
    return "nothing was thrown";
}
