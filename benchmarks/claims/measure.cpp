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
    const std::map<std::string, Json (*)(const Json&)> measures{{"forward", forward},
                                                                {"forms", forms},
                                                                {"memory", memory},
                                                                {"facts", facts},
                                                                {"round_trip", round_trip}};
    if (argc != 3 || !measures.contains(argv[1])) {
        std::fprintf(stderr, "usage: claims_measure forward|forms|memory|facts|round_trip '{…}'\n");
        return 2;
    }
    try {
        std::printf("%s\n", measures.at(argv[1])(Json::parse(argv[2])).dump().c_str());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "claims_measure: %s\n", error.what());
        return 1;
    }
}
