// The layers of a model as one line.
#include "hydralm/model/schedule_summary.hpp"

#include "support/catch.hpp"

using namespace hydralm;
using enum LayerType;

TEST_CASE("The schedule as one line", "[config]") {
    CHECK(schedule_summary(presets::deep) == "5 x (D D D S): 15 deltanet, 5 swa");
    CHECK(schedule_summary(presets::hybrid) ==
          "D D R S D R D S R D D S D D R S D R D S: 10 deltanet, 5 swa, 5 retrieval");
    CHECK(schedule_summary(presets::small) == "D D D S: 3 deltanet, 1 swa");
    CHECK(schedule_summary(presets::remembering) == "D D D S R: 3 deltanet, 1 swa, 1 retrieval");
    CHECK(schedule_summary({.n_layers = 7, .swa_every = 3}) == "D D S D D S D: 5 deltanet, 2 swa");
    CHECK(schedule_summary({.n_layers = 6, .swa_every = 0}) == "6 x (D): 6 deltanet");
    CHECK(schedule_summary({.n_layers = 4, .layer_types = {swa, retrieval, swa, retrieval}}) ==
          "2 x (S R): 2 swa, 2 retrieval");
    CHECK(schedule_summary({.n_layers = 1, .swa_every = 1}) == "S: 1 swa");
    CHECK(schedule_summary({.n_layers = 2, .layer_types = {full, full}}) == "2 x (F): 2 full");
}
