// Files in Catch2 tests, and what an Error said.
#pragma once

#include <string>
#include <vector>

#include "hydralm/core/error.hpp"
#include "support/catch.hpp"
#include "support/temporary_directory.hpp"

namespace hydralm::test {

// Fails unless action throws an Error whose message has every one of parts.
template <class Action>
void check_error(const Action& action, const std::vector<std::string>& parts) {
    try {
        action();
    } catch (const Error& error) {
        const std::string message = error.what();
        for (const std::string& part : parts) {
            INFO("message: " << message << "\nexpected in it: " << part);
            CHECK(message.find(part) != std::string::npos);
        }
        return;
    }
    FAIL("no Error was thrown; expected one with: " << (parts.empty() ? "" : parts.front()));
}

}  // namespace hydralm::test
