// Fact banks in files: bit for bit back, and the refusal of other banks and changed bytes.
#include "hydralm/io/fact_bank_file.hpp"

#include "hydralm/memory/fact_bank.hpp"
#include "support/compare.hpp"
#include "support/files.hpp"
#include "support/random_rows.hpp"

using namespace hydralm;
using namespace hydralm::test;

TEMPLATE_TEST_CASE("a bank is saved and loaded bit for bit", "[memory]", float, double) {
    using T = TestType;
    using Bank = FactBank<T, 12, 37>;
    const TemporaryDirectory directory;
    const auto path = directory / "facts.bank";
    const Rows<T> keys(70, 12, 1), values(70, 37, 2);
    Rows<T> before(70, 37), after(70, 37);
    Bank bank;
    bank.write(keys.view(), values.view(), T(0.99), T(0.9));
    save_fact_bank(bank, path);
    auto loaded = load_fact_bank<Bank>(path);
    bank.recall(keys.view(), before.view());
    loaded.recall(keys.view(), after.view());
    CHECK(same_bits(before.values(), after.values()));
    bank.write(keys.view(), values.view());  // both go on alike
    loaded.write(keys.view(), values.view());
    bank.recall(keys.view(), before.view());
    loaded.recall(keys.view(), after.view());
    CHECK(same_bits(before.values(), after.values()));
    CHECK(directory.names() == std::vector<std::string>{"facts.bank"});
}

TEST_CASE("another bank's file and a changed file are refused", "[memory]") {
    const TemporaryDirectory directory;
    const auto path = directory / "facts.bank";
    save_fact_bank(FactBank<float, 8, 4>{}, path);
    check_error([&] { load_fact_bank<FactBank<float, 4, 8>>(path); },
                {path.string(), "key_dim: expected 4, found 8", "value_dim: expected 8, found 4"});
    check_error([&] { load_fact_bank<FactBank<double, 8, 4>>(path); },
                {"scalar: expected \"double\", found \"float\""});
    check_error([&] { load_fact_bank<FactBank<float, 8, 4>>(directory / "none"); }, {"none"});

    const std::string good = read_text(path);
    for (std::size_t i = 0; i < good.size(); i += 7) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ 4);
        write_text(path, bad);
        CHECK_THROWS_AS((load_fact_bank<FactBank<float, 8, 4>>(path)), Error);
    }
    write_text(path, good.substr(0, good.size() - 1));
    CHECK_THROWS_AS((load_fact_bank<FactBank<float, 8, 4>>(path)), Error);
    write_text(path, good);
    CHECK_NOTHROW(load_fact_bank<FactBank<float, 8, 4>>(path));
}
