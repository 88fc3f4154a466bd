// Fact banks in files: a state file (io/state_file.hpp) with one section, S [ValueDim, KeyDim].
//
// Bank is a FactBank (memory/fact_bank.hpp), which files know only by what it offers: io/ and
// memory/ stand side by side.
#pragma once

#include <concepts>
#include <vector>

#include "hydralm/io/state_file.hpp"

namespace HYDRALM_NAMESPACE {

template <class Bank>
concept StorableFactBank = std::constructible_from<Bank, std::span<const typename Bank::Scalar>> &&
                           requires(const Bank& bank, std::span<typename Bank::Scalar> S) {
                               { Bank::key_dim } -> std::convertible_to<Index>;
                               { Bank::value_dim } -> std::convertible_to<Index>;
                               bank.copy_to(S);
                           };

namespace detail {

template <class Bank>
std::string fact_bank_fingerprint() {
    return "{\"kind\":\"fact_bank\",\"key_dim\":" + std::to_string(Bank::key_dim) +
           ",\"value_dim\":" + std::to_string(Bank::value_dim) +
           ",\"scalar\":" + (sizeof(typename Bank::Scalar) == 4 ? "\"float\"" : "\"double\"") + "}";
}

template <class Bank>
std::vector<typename Bank::Scalar> fact_bank_matrix() {
    return std::vector<typename Bank::Scalar>(
        static_cast<std::size_t>(Bank::key_dim * Bank::value_dim));
}

}  // namespace detail

// Replaces the file at path by what the bank knows, atomically; load_fact_bank gives it back bit
// for bit, on any vector width. Throws Error as AtomicFile does.
template <StorableFactBank Bank>
void save_fact_bank(const Bank& bank, const std::filesystem::path& path) {
    using T = typename Bank::Scalar;
    auto S = detail::fact_bank_matrix<Bank>();
    bank.copy_to(std::span<T>(S));
    const std::array sections{state_section("S", std::span<const T>(S))};
    save_state(path, detail::fact_bank_fingerprint<Bank>(), sections);
}

// Throws Error for all that StateFile refuses: another kind of file, other dimensions or scalar, a
// changed or missing byte.
template <StorableFactBank Bank>
Bank load_fact_bank(const std::filesystem::path& path) {
    using T = typename Bank::Scalar;
    const StateFile file(path, detail::fact_bank_fingerprint<Bank>());
    file.expect_only({"S"});
    auto S = detail::fact_bank_matrix<Bank>();
    file.read("S", std::span<T>(S));
    return Bank(std::span<const T>(S));
}

}  // namespace HYDRALM_NAMESPACE
