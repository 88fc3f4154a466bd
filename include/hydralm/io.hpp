// Files: checkpoints, configurations, states. Needs nlohmann-json and zlib.
#pragma once

#include "hydralm/families/open.hpp"
#include "hydralm/io/atomic_file.hpp"
#include "hydralm/io/checkpoint.hpp"
#include "hydralm/io/config_json.hpp"
#include "hydralm/io/dtype.hpp"
#include "hydralm/io/fact_bank_file.hpp"
#include "hydralm/io/json_text.hpp"
#include "hydralm/io/mapped_file.hpp"
#include "hydralm/io/model_file.hpp"
#include "hydralm/io/safetensors.hpp"
#include "hydralm/io/safetensors_writer.hpp"
#include "hydralm/io/state_file.hpp"
#include "hydralm/io/stored_tensor.hpp"
#include "hydralm/io/tokenizer.hpp"
#include "hydralm/io/utf8_stream.hpp"
#include "hydralm/state/mapped_pages.hpp"
