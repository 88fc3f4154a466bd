// The model and all it computes. Needs Eigen and xsimd; files are in hydralm/io.hpp.
#pragma once

#include "hydralm/core/abi.hpp"
#include "hydralm/core/error.hpp"
#include "hydralm/core/parallel.hpp"
#include "hydralm/inference/batch_decoder.hpp"
#include "hydralm/inference/generate.hpp"
#include "hydralm/inference/score.hpp"
#include "hydralm/inference/stop_matcher.hpp"
#include "hydralm/inference/stop_tokens.hpp"
#include "hydralm/inference/streaming.hpp"
#include "hydralm/model/config.hpp"
#include "hydralm/model/config_fields.hpp"
#include "hydralm/model/hydra_lm.hpp"
#include "hydralm/model/initialise.hpp"
#include "hydralm/model/schedule_summary.hpp"
