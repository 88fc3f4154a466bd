// The tasks: sequences, batches for training, scores.
#pragma once

#include "hydralm/evaluation/task.hpp"
#include "hydralm/evaluation/task_score.hpp"
#include "hydralm/evaluation/task_source.hpp"
#include "hydralm/training.hpp"
