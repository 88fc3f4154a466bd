// Training: gradients, optimisers, data, and runs that survive being killed. Needs what io.hpp
// needs.
#pragma once

#include "hydralm/hydralm.hpp"
#include "hydralm/io.hpp"
#include "hydralm/training/batch_source.hpp"
#include "hydralm/training/batch_states.hpp"
#include "hydralm/training/evaluator.hpp"
#include "hydralm/training/gradient_check.hpp"
#include "hydralm/training/gradient_clip.hpp"
#include "hydralm/training/gradients.hpp"
#include "hydralm/training/layer_gradients.hpp"
#include "hydralm/training/learning_rate.hpp"
#include "hydralm/training/newton_schulz.hpp"
#include "hydralm/training/optimiser.hpp"
#include "hydralm/training/pairwise_sum.hpp"
#include "hydralm/training/parameter_blocks.hpp"
#include "hydralm/training/run_log.hpp"
#include "hydralm/training/text_corpus.hpp"
#include "hydralm/training/text_source.hpp"
#include "hydralm/training/trainer.hpp"
#include "hydralm/training/training_run.hpp"
