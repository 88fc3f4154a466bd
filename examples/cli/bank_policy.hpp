// What the options --bank… say of the banks of retrieval layers.
#pragma once

#include <hydralm/io/mapped_pages.hpp>

#include "options.hpp"

// Throws Error for a budget or a directory that will not do.
template <class Model>
hydralm::BankPolicy bank_policy(const BankOptions& o) {
    using hydralm::BankFormat;
    hydralm::BankPolicy policy;
    for (const BankFormat format : {BankFormat::exact, BankFormat::bf16, BankFormat::int8})
        if (o.format == hydralm::name(format)) policy.format = format;
    if (o.kind == "compressive") policy = Model::bounded_banks(o.budget, policy.format);
    if (o.kind == "mapped")
        policy.pages = std::make_shared<hydralm::MappedPages>(
            o.directory.empty() ? std::filesystem::temp_directory_path()
                                : std::filesystem::path(o.directory),
            o.budget);
    policy.open_groups = o.open_groups;
    return policy;
}
