// Fact banks in files: a state file (io/state_file.hpp) with one section, S [ValueDim, KeyDim].
#pragma once

#include <vector>

#include "hydralm/io/state_file.hpp"
#include "hydralm/memory/fact_bank.hpp"

namespace HYDRALM_NAMESPACE {
namespace detail {

template <Real T, Index KeyDim, Index ValueDim>
std::string fact_bank_fingerprint() {
    return "{\"kind\":\"fact_bank\",\"key_dim\":" + std::to_string(KeyDim) +
           ",\"value_dim\":" + std::to_string(ValueDim) +
           ",\"scalar\":" + (sizeof(T) == 4 ? "\"float\"" : "\"double\"") + "}";
}

}  // namespace detail

// Replaces the file at path by what the bank knows, atomically; load_fact_bank gives it back bit
// for bit, on any vector width. Throws Error as AtomicFile does.
template <Real T, Index KeyDim, Index ValueDim>
void save(const FactBank<T, KeyDim, ValueDim>& bank, const std::filesystem::path& path) {
    std::vector<T> S(static_cast<std::size_t>(KeyDim * ValueDim));
    bank.copy_to(S);
    const std::array sections{state_section("S", std::span<const T>(S))};
    save_state(path, detail::fact_bank_fingerprint<T, KeyDim, ValueDim>(), sections);
}

// Bank: a FactBank. Throws Error for all that StateFile refuses: another kind of file, other
// dimensions or scalar, a changed or missing byte.
template <class Bank>
Bank load_fact_bank(const std::filesystem::path& path) {
    using T = typename Bank::Scalar;
    const StateFile file(path, detail::fact_bank_fingerprint<T, Bank::key_dim, Bank::value_dim>());
    std::vector<T> S(static_cast<std::size_t>(Bank::key_dim * Bank::value_dim));
    file.read("S", std::span(S));
    return Bank(std::span<const T>(S));
}

}  // namespace HYDRALM_NAMESPACE
