// What the options --bank…, --open-groups, --sparse-chunks and --state say of how a stream keeps
// the past.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <hydralm/state/mapped_pages.hpp>

#include "options.hpp"
#include "sparse_reading.hpp"

// Where files go that may be large: /tmp may be memory.
inline std::filesystem::path directory_for_large_files() {
    const char* const named = std::getenv("TMPDIR");
    return named != nullptr && *named != '\0' ? named : "/var/tmp";
}

inline hydralm::BankFormat bank_format(const BankOptions& o) {
    using enum hydralm::BankFormat;
    for (const auto format : {bf16, int8})
        if (o.format == hydralm::name(format)) return format;
    return exact;
}

// Throws Error for int16 where no layer has a memory that may rest so.
template <class Model>
hydralm::StateFormat state_format(const Model& model, const BankOptions& o) {
    using enum hydralm::StateFormat;
    if (o.state != "int16") return exact;
    if (!model.new_memory({.state = int16}).rests())
        throw hydralm::Error({.field = "--state",
                              .expected = "a model with delta rule layers",
                              .found = "none",
                              .fix = "leave the option out"});
    return int16;
}

// Throws Error for a budget or a directory that will not do, or that the kind of bank has no use
// for, for another kind than memory where no layer has a bank, and for groups of chunks that no
// layer chooses.
template <class Model>
hydralm::BankPolicy bank_policy(const Model& model, const BankOptions& o) {
    const auto expect_use = [&](bool given, bool used, const char* option, const char* kinds) {
        if (given && !used)
            throw hydralm::Error({.field = option,
                                  .expected = kinds,
                                  .found = "--bank " + o.kind,
                                  .fix = "choose such a bank, or leave the option out"});
    };
    expect_use(o.budget > 0, o.kind != "memory", "--bank-budget",
               "--bank mapped or compressive with it");
    expect_use(!o.directory.empty(), o.kind == "mapped", "--bank-dir", "--bank mapped with it");
    const char* const asked = o.kind != "memory"    ? "--bank"
                              : o.format != "exact" ? "--bank-format"
                                                    : nullptr;
    if (asked != nullptr && model.new_memory().banks().empty())
        throw hydralm::Error({.field = asked,
                              .expected = "a model with retrieval layers or attention to the "
                                          "whole past",
                              .found = "none",
                              .fix = "leave the option out"});
    const std::int64_t budget = o.budget > 0 ? o.budget : std::int64_t{64} << 20;
    hydralm::BankPolicy policy{.format = bank_format(o)};
    if (o.kind == "compressive") policy = model.bounded_banks(budget, policy.format);
    if (o.kind == "mapped")
        policy.pages = std::make_shared<hydralm::MappedPages>(
            o.directory.empty() ? directory_for_large_files() : std::filesystem::path(o.directory),
            budget);
    policy.open_groups = o.open_groups;
    policy.sparse = sparse_past(model, o);
    if (o.open_groups > 0 &&
        !std::ranges::any_of(model.new_memory(policy).banks(), &hydralm::PageBank::chooses_chunks))
        throw hydralm::Error({.field = "--open-groups",
                              .expected = "a model with retrieval layers, or --sparse-chunks where "
                                          "attention reads the whole past",
                              .found = "no layer that chooses chunks",
                              .fix = "choose chunks, or leave the option out"});
    policy.state = state_format(model, o);
    return policy;
}
