// What the command line said, and the commands it can name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// What only `train` takes. Numbers below 0: not given, the default depends on the rest.
struct TrainOptions {
    std::vector<std::string> text;  // files and folders
    std::string task;               // or a task, and its file of stages
    std::string stages;
    std::string optimizer = "adamw";
    std::string scheme = "fan_in";
    std::string init;    // checkpoint to begin from
    std::string resume;  // directory of checkpoints
    std::string log;
    std::int64_t steps = 1000;
    std::int64_t batch = 8;
    std::int64_t seq_len = 256;
    std::int64_t warmup = -1;
    std::int64_t eval_every = 100;
    std::int64_t save_every = 100;
    std::optional<double> decay_bias;  // the scheme's when it is not given
    double gate_scale = 1.0;
    double lr = -1.0;
    double min_lr = -1.0;
    double clip = 1.0;
    int accumulate = 1;
    int keep = 3;
    bool recompute = false;
    bool cut_text = false;
};

// What only `task` takes. 0: not given, the default depends on the task.
struct TaskOptions {
    std::string name;
    std::vector<std::int64_t> lengths{1024};
    std::int64_t count = 16;
    std::int64_t facts = 0;
    std::int64_t queries = 0;
    std::int64_t trailers = 1;
    std::int64_t vocab = 0;
    std::int64_t key_tokens = 2;
    std::int64_t hops = 2;
    std::int64_t values = 4;
    bool print = false;
    bool evaluate = false;
    bool zero_retrieval = false;
};

// What only `ask` takes.
struct AskOptions {
    std::vector<std::string> facts;  // KEY=VALUE
    std::vector<std::string> questions;
};

// How layers keep the past, and how much of it they read: ask, chat, generate, info, score, stream,
// task.
struct BankOptions {
    std::string kind = "memory";
    std::string format = "exact";
    std::string state = "float";
    std::string directory;
    std::int64_t budget = 0;  // 0: not given, 64 MiB
    std::int64_t open_groups = 0;
    std::int64_t sparse_chunks = 0;
    std::optional<std::int64_t> recent_chunks;  // 1 when it is not given
};

struct Options {
    std::string scalar = "float";
    std::string weights;  // format of matrices while running; empty: as the file
    std::string model;    // checkpoint read
    std::string config;   // JSON of a model to make
    std::string in;       // tensors read
    std::string out;      // file written
    std::string ids;      // file of token ids
    std::string text;     // file of text
    std::string prompt;
    std::string system;     // what a dialogue begins with
    std::string lines;      // file of texts or lists of ids, as JSON
    std::string tokenizer;  // tokenizer.json; empty: the model's
    std::string form;
    std::string draft;  // mtp, or a checkpoint
    std::int64_t draft_tokens = 4;
    std::string scheme = "normal";
    std::vector<std::string> stop;
    std::int64_t tokens = 0;  // 0: not given
    std::int64_t chunk = 0;
    std::int64_t vector_bytes = 0;  // of the target; 0: of this program's
    std::uint64_t seed = 0;
    double temperature = 0.0;
    int top_k = 0;
    double top_p = 1.0;
    double min_p = 0.0;
    double repetition_penalty = 1.0;
    bool json = false;
    bool assembler = false;
    bool print_ids = false;
    bool decode = false;
    bool repeat = false;
    TrainOptions train;
    TaskOptions task;
    AskOptions ask;
    BankOptions bank;
};

// Each prints its result to standard output and throws hydralm::Error when the input is bad.
void info(const Options& options);
void init(const Options& options);
void convert(const Options& options);
void embed(const Options& options);
void logits(const Options& options);
void generate(const Options& options);
void score(const Options& options);
void stream(const Options& options);
void tokenize(const Options& options);
void chat(const Options& options);
void config(const Options& options);
void train(const Options& options);
void task(const Options& options);
void ask(const Options& options);
void gradients(const Options& options);
void delta_rule(const Options& options);
void retrieval(const Options& options);
