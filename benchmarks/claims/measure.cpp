// claims_measure NAME '{…}': prints what was measured as one JSON object on the last line.
#include "measure.hpp"

#include <cstdio>
#include <hydralm/state/mapped_pages.hpp>
#include <map>

hydralm::BankPolicy measured_policy(const Json& asked) {
    hydralm::BankPolicy policy;
    if (asked.value("bank", "memory") == "mapped") {
        policy.format = hydralm::BankFormat::int8;
        policy.open_groups = 16;
        policy.pages = std::make_shared<hydralm::MappedPages>("/var/tmp", hydralm::Index{64} << 20);
    }
    return policy;
}

int main(int argc, char** argv) {
    const std::map<std::string, Json (*)(const Json&)> measures{{"after_reading", after_reading},
                                                                {"facts", facts},
                                                                {"forms", forms},
                                                                {"forward", forward},
                                                                {"memory", memory},
                                                                {"positions", positions},
                                                                {"round_trip", round_trip}};
    if (argc != 3 || !measures.contains(argv[1])) {
        std::string names;
        for (const auto& [name, unused] : measures) names += (names.empty() ? "" : "|") + name;
        std::fprintf(stderr, "usage: claims_measure %s '{…}'\n", names.c_str());
        return 2;
    }
    try {
        std::printf("%s\n", measures.at(argv[1])(Json::parse(argv[2])).dump().c_str());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "claims_measure: %s\n", error.what());
        return 1;
    }
}
