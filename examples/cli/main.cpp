// The program `hydralm`: models of any configuration, on the command line.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <hydralm/core/error.hpp>
#include <hydralm/evaluation/task_shape.hpp>
#include <hydralm/state/bank_policy.hpp>
#include <limits>
#include <regex>

#include "as_written.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "standard_streams.hpp"

namespace {

// A finite number; range: words, behind a space, for what within holds for.
CLI::Validator number(const std::string& range, bool (*within)(double)) {
    return {[=](const std::string& text) {
                double value = 0.0;
                return CLI::detail::lexical_cast(text, value) && std::isfinite(value) &&
                               within(value)
                           ? std::string()
                           : "expected a finite number" + range + ", found " + text;
            },
            range};
}
const CLI::Validator above_zero = number(" above 0", [](double x) { return x > 0.0; }),
                     not_negative = number(" of at least 0", [](double x) { return x >= 0.0; }),
                     any_number = number("", [](double) { return true; }),
                     share = number(" in [0, 1]", [](double x) { return x >= 0.0 && x <= 1.0; });

// A whole number, in decimal digits.
CLI::Validator whole(std::uint64_t least, std::uint64_t most) {
    const std::string range = std::to_string(least) + " to " + std::to_string(most);
    return {[=](const std::string& text) {
                std::uint64_t value = 0;
                return CLI::detail::lexical_cast(text, value) && std::to_string(value) == text &&
                               value >= least && value <= most
                           ? std::string()
                           : "expected a whole number in decimal digits, " + range + ", found " +
                                 text;
            },
            range};
}
constexpr std::uint64_t largest_int = std::numeric_limits<int>::max();
const CLI::Validator count = whole(0, std::uint64_t{1} << 40),
                     at_least_one = whole(1, std::uint64_t{1} << 40),
                     seed = whole(0, std::numeric_limits<std::uint64_t>::max());

// One of these words.
CLI::Validator one_of(const std::vector<std::string>& words) {
    const std::string list = CLI::detail::join(words, ", ");
    return {[=](const std::string& text) {
                return std::ranges::count(words, text) > 0
                           ? std::string()
                           : "expected one of " + list + ", found " + text;
            },
            "{" + CLI::detail::join(words) + "}"};
}

// Bytes: a number as it is, or times what stands behind it.
const CLI::Validator with_unit(
    [](std::string& text) {
        const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
        const std::string unit = CLI::detail::to_lower(text.substr(digits));
        int shift = 0;
        for (const char* known : {"kib", "mib", "gib"}) {
            shift += 10;
            if (unit == known && digits > 0 && digits < 10)
                text = std::to_string(std::stoll(text.substr(0, digits)) << shift);
        }
        return std::string();
    },
    "");

// Refuses an output that would take the place of what is read for it. A checkpoint that training
// begins from may be replaced by what it becomes.
void expect_inputs_kept(const Options& o) {
    std::vector<std::string> inputs{o.ids,    o.text,      o.in,          o.model,
                                    o.config, o.tokenizer, o.train.stages};
    for (const std::string& text : o.train.text) {
        inputs.push_back(text);
        std::error_code unreadable;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(text, unreadable))
            inputs.push_back(entry.path().string());
    }
    const auto expect_apart = [](const std::string& output, const char* option,
                                 const std::vector<std::string>& others) {
        std::error_code unknown;
        for (const std::string& other : others)
            if (std::filesystem::equivalent(output, other, unknown))
                throw hydralm::Error({.file = output,
                                      .field = option,
                                      .expected = "a file that is not used otherwise",
                                      .found = "the same as " + other,
                                      .fix = "give the output a name of its own"});
    };
    expect_apart(o.out, "--out", inputs);
    inputs.insert(inputs.end(), {o.out, o.train.init});
    expect_apart(o.train.log, "--log", inputs);
}

// Adds a command that takes the shared --scalar option and runs `run`.
CLI::App& command(CLI::App& parent, Options& options, const std::string& name,
                  const std::string& help, void (*run)(const Options&)) {
    CLI::App& app = *parent.add_subcommand(name, help);
    app.add_option("--scalar", options.scalar, "float or double")
        ->capture_default_str()
        ->check(one_of({"float", "double"}));
    app.callback([&options, run] {
        expect_inputs_kept(options);
        run(options);
    });
    return app;
}

void add_model(CLI::App& app, Options& options) {
    app.add_option("--model", options.model, "checkpoint (safetensors)")->required();
}

// What matrices are kept in while running.
void add_weights(CLI::App& app, Options& options) {
    app.add_option(
           "--weights", options.weights,
           "keep matrices in float, bf16, q8, q4 or mixed (q8, MLPs in q4); default: as the "
           "file has them")
        ->check(one_of({"float", "bf16", "q8", "q4", "mixed"}));
}
// Where training or its gradient is wanted.
void add_float_weights(CLI::App& app, Options& options) {
    app.add_option("--weights", options.weights, "float, whatever the file has")
        ->check(one_of({"float"}));
}

CLI::Option* add_config(CLI::App& app, Options& options) {
    return app.add_option("--config", options.config,
                          "JSON of the model to make; default: a small one of bytes");
}

void add_bank(CLI::App& app, Options& options) {
    BankOptions& b = options.bank;
    app.add_option("--bank", b.kind,
                   "where retrieval layers keep the past: memory, mapped (a file), or compressive "
                   "(bounded for ever)")
        ->capture_default_str()
        ->check(one_of({"memory", "mapped", "compressive"}));
    app.add_option("--bank-format", b.format, "of keys and values: exact, bf16 or int8")
        ->capture_default_str()
        ->check(one_of({"exact", "bf16", "int8"}));
    app.add_option(
           "--bank-budget", b.budget,
           "bytes, or with KiB, MiB or GiB; default 64MiB; mapped: those resident, 1 MiB or more; "
           "compressive: all")
        ->transform(with_unit)
        ->check(whole(1, std::uint64_t{1} << 50));
    app.add_option("--bank-dir", b.directory, "of the mapped file; default: $TMPDIR or /var/tmp");
    app.add_option("--open-groups", b.open_groups,
                   "groups of 64 chunks that a token looks into; 0: all")
        ->capture_default_str()
        ->check(whole(0, hydralm::BankPolicy::most_open_groups));
}

std::vector<std::string> task_words() {
    return {hydralm::task_names.begin(), hydralm::task_names.end()};
}

void describe_tokenize(CLI::App& app, Options& o) {
    auto* model = app.add_option("--model", o.model, "checkpoint whose tokenizer it is");
    auto* file = app.add_option("--tokenizer", o.tokenizer, "tokenizer.json");
    auto* prompt = app.add_option("--prompt", o.prompt, "text; with --decode, ids");
    auto* text = app.add_option("--text", o.text, "file of text; with --decode, of ids");
    auto* lines = app.add_option("--lines", o.lines,
                                 "file of a JSON string a line, printed as arrays of ids");
    app.add_flag("--decode", o.decode, "ids to text");
    auto* by = app.add_option_group("by", "the tokenizer");
    by->add_options(model, file);
    by->require_option(1);
    auto* what = app.add_option_group("what", "what to convert");
    what->add_options(prompt, text, lines);
    what->require_option(1);
}

void describe_train(CLI::App& app, Options& o) {
    TrainOptions& t = o.train;
    app.add_option("--out", o.out, "checkpoint to write")->required();
    auto* text = as_written::add_texts(app, "--text", t.text, "files and folders of text");
    auto* task = app.add_option("--task", t.task, "a task instead: mqar, retrieval_qa, parity, …")
                     ->check(one_of(task_words()))
                     ->excludes(text);
    app.add_option("--tokenizer", o.tokenizer,
                   "tokenizer.json to read the text with; default: that of --init, or bytes")
        ->needs(text);
    app.add_option("--stages", t.stages, "JSON file of the task's stages")->needs(task);
    task->needs(app.get_option("--stages"));
    auto* data = app.add_option_group("data", "what to learn");
    data->add_options(text, task);
    data->require_option(1);
    app.add_option("--steps", t.steps, "updates of the weights")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--batch", t.batch, "texts per batch")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--seq-len", t.seq_len, "tokens of each text")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--lr", t.lr, "learning rate; default 3e-3 (adamw), 2e-2 (muon)")
        ->check(above_zero);
    app.add_option("--min-lr", t.min_lr, "rate at the end; default a tenth of --lr")
        ->check(not_negative);
    app.add_option("--warmup", t.warmup, "steps of warm-up; default a twentieth, at most 100")
        ->check(count);
    app.add_option("--optimizer", t.optimizer, "adamw, or muon for the matrices")
        ->capture_default_str()
        ->check(one_of({"adamw", "muon"}));
    app.add_option("--accumulate", t.accumulate, "batches per update")
        ->capture_default_str()
        ->check(whole(1, largest_int));
    app.add_option("--clip", t.clip, "largest norm of the gradient; 0: any")
        ->capture_default_str()
        ->check(not_negative);
    app.add_flag("--recompute", t.recompute,
                 "keep less for the backward pass and compute it again: less memory, more time");
    app.add_option("--scheme", t.scheme, "initial weights: normal or fan_in")
        ->capture_default_str()
        ->check(one_of({"normal", "fan_in"}));
    app.add_option("--decay-bias", t.decay_bias,
                   "initial bias of the decay's gate; default the scheme's, 9 tracks states")
        ->check(any_number);
    app.add_option("--gate-scale", t.gate_scale, "factor on the initial weights of the gates")
        ->capture_default_str()
        ->check(above_zero);
    app.add_option("--eval-every", t.eval_every, "steps between evaluations; 0: at the end")
        ->capture_default_str()
        ->check(count);
    app.add_option("--save-every", t.save_every, "steps between checkpoints; 0: at the end")
        ->capture_default_str()
        ->check(count);
    app.add_option("--keep", t.keep, "checkpoints kept")
        ->capture_default_str()
        ->check(whole(1, largest_int));
    auto* scheme = app.get_option("--scheme");
    app.add_option("--init", t.init, "checkpoint to begin from; default: random weights")
        ->excludes(scheme)
        ->excludes(add_config(app, o));
    add_float_weights(app, o);
    app.add_option("--resume", t.resume, "directory of checkpoints of this run to go on from");
    app.add_option("--seed", o.seed, "seed of weights and data")
        ->capture_default_str()
        ->check(seed);
    app.add_option("--log", t.log, "file of JSON lines to write");
}

void describe_task(CLI::App& app, Options& o) {
    TaskOptions& t = o.task;
    app.add_option("task", t.name, "what the sequences ask for")
        ->required()
        ->check(one_of(task_words()));
    auto* print = app.add_flag("--print", t.print, "print sequences as JSON lines");

    auto* asked = app.add_flag("--evaluate", t.evaluate, "score a model");
    auto* model = app.add_option("--model", o.model, "checkpoint to score");
    asked->needs(model)->excludes(print);
    add_weights(app, o);
    print->excludes(asked);
    auto* what = app.add_option_group("what", "what to do");
    what->add_options(print, asked);
    what->require_option(1);
    app.add_option("--lengths", t.lengths, "tokens of a sequence; several, with commas")
        ->capture_default_str()
        ->delimiter(',')
        ->check(at_least_one);
    app.add_option("--count", t.count, "sequences of each length")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--facts", t.facts,
                   "facts (mqar: pairs) in a sequence; default 32 (needle: 1; mqar: what fits; "
                   "multivalue, tracking: 8 keys or chains)")
        ->check(at_least_one);
    app.add_option("--queries", t.queries,
                   "queries in a sequence; default 8 (mqar: all), or as many as facts")
        ->check(at_least_one);
    app.add_option("--trailers", t.trailers,
                   "disjoint sets of queries about each haystack, read once")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--vocab", t.vocab, "ids, of printed sequences; default 512")
        ->needs(print)
        ->check(at_least_one);
    app.add_option("--key-tokens", t.key_tokens, "multikey: tokens of a key")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--hops", t.hops, "tracking: facts of a chain")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--values", t.values, "multivalue: values of a key")
        ->capture_default_str()
        ->check(at_least_one);
    app.add_option("--seed", o.seed, "seed of the sequences")->capture_default_str()->check(seed);
    app.add_flag("--zero-retrieval", t.zero_retrieval, "leave retrieval layers out");
    add_bank(app, o);
}

void describe(CLI::App& app, Options& o) {
    app.require_subcommand(1);

    auto& info_command =
        command(app, o, "info", "a model: its config, layers, parameters and kernels", info);
    auto* described = info_command.add_option("--model", o.model, "checkpoint (safetensors)");
    add_config(info_command, o)->excludes(described);
    add_weights(info_command, o);
    info_command.get_option("--weights")->needs(described);
    info_command.add_flag("--json", o.json, "as one JSON object");

    auto& init_command = command(app, o, "init", "write a checkpoint with random weights", init);
    init_command.add_option("--out", o.out, "checkpoint to write")->required();
    add_config(init_command, o);
    init_command.add_option("--seed", o.seed, "seed of the weights")
        ->capture_default_str()
        ->check(seed);
    init_command.add_option("--scheme", o.scheme, "normal or fan_in")
        ->capture_default_str()
        ->check(one_of({"normal", "fan_in"}));

    auto& convert_command =
        command(app, o, "convert", "write a checkpoint in another format of weights", convert);
    convert_command.remove_option(convert_command.get_option("--scalar"));
    add_model(convert_command, o);
    convert_command
        .add_option_function<std::string>(
            "--format", [&o](const std::string& f) { o.weights = f == "f32" ? "float" : f; },
            "of matrices: f32, bf16, q8, q4 or mixed (q8, MLPs in q4); gates, convolutions, norms "
            "and biases stay f32")
        ->required()
        ->check(one_of({"f32", "bf16", "q8", "q4", "mixed"}));
    convert_command.add_option("--out", o.out, "checkpoint to write")->required();

    auto& logits_command =
        command(app, o, "logits", "logits of every position, and the final state", logits);
    add_model(logits_command, o);
    add_weights(logits_command, o);
    logits_command.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")
        ->required();
    logits_command.add_option("--out", o.out, "safetensors file to write")->required();
    logits_command.add_option("--form", o.form, "prefill, chunked or step")
        ->check(one_of({"prefill", "chunked", "step"}))
        ->default_str("prefill");
    logits_command.add_option("--chunk", o.chunk, "tokens per piece, of the chunked form")
        ->check(at_least_one);

    auto& generate_command = command(app, o, "generate", "continue a text", generate);
    add_model(generate_command, o);
    add_weights(generate_command, o);
    auto* prompt = generate_command.add_option("--prompt", o.prompt, "text to continue");
    auto* continued = generate_command.add_option("--text", o.text, "file of text to continue");
    continued->excludes(prompt);
    generate_command
        .add_option("--ids", o.ids, "file of token ids to continue: decimal, between whitespace")
        ->excludes(prompt)
        ->excludes(continued);
    generate_command.add_option("--tokens", o.tokens, "how many tokens")->required()->check(count);
    generate_command.add_option("--temperature", o.temperature, "0 or less: greedy")
        ->capture_default_str()
        ->check(any_number);
    generate_command.add_option("--top-k", o.top_k, "keep the k likeliest tokens; 0: all")
        ->capture_default_str()
        ->check(whole(0, largest_int));
    generate_command.add_option("--top-p", o.top_p, "keep the likeliest tokens up to this mass")
        ->capture_default_str()
        ->check(share);
    generate_command
        .add_option("--min-p", o.min_p, "drop tokens below this share of the likeliest")
        ->capture_default_str()
        ->check(share);
    generate_command
        .add_option("--repetition-penalty", o.repetition_penalty, "above 1: less repetition")
        ->capture_default_str()
        ->check(above_zero);
    generate_command.add_option("--seed", o.seed, "seed of the sampling")
        ->capture_default_str()
        ->check(seed);
    as_written::add_texts(generate_command, "--stop", o.stop,
                          "end before this text; may be given several times");
    auto* draft = generate_command.add_option(
        "--draft", o.draft, "speculative decoding: mtp, or a checkpoint of the same vocabulary");
    generate_command.add_option("--draft-tokens", o.draft_tokens, "drafts a round")
        ->capture_default_str()
        ->needs(draft)
        ->check(whole(0, 4096));
    generate_command.add_flag("--print-ids", o.print_ids, "print the new ids instead of text");
    add_bank(generate_command, o);

    auto& score_command = command(app, o, "score", "log-likelihood of a text", score);
    add_model(score_command, o);
    add_weights(score_command, o);
    auto* scored = score_command.add_option("--text", o.text, "file of text");
    score_command.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")
        ->excludes(scored);
    add_bank(score_command, o);

    auto& stream_command = command(app, o, "stream", "feed a long text piece by piece", stream);
    add_model(stream_command, o);
    add_weights(stream_command, o);
    stream_command.add_option("--text", o.text, "file of text")->required();
    stream_command.add_option("--tokens", o.tokens, "how many tokens; default: the file's")
        ->check(whole(1, std::uint64_t{1} << 50));
    stream_command.add_flag("--repeat", o.repeat,
                            "begin the file again at its end, until --tokens");
    add_bank(stream_command, o);

    describe_tokenize(command(app, o, "tokenize", "a text as ids, or ids as a text", tokenize), o);

    describe_train(command(app, o, "train", "train the model on text", train), o);

    describe_task(
        command(app, o, "task", "sequences of a synthetic task, or a model's score", task), o);

    auto& gradients_command =
        command(app, o, "gradients", "gradient of the mean next-token loss of a text", gradients);
    add_model(gradients_command, o);
    add_float_weights(gradients_command, o);
    gradients_command.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")
        ->required();
    gradients_command
        .add_option("--out", o.out, "safetensors file to write: loss, grad.<parameter>")
        ->required();

    auto& kernel = *app.add_subcommand("kernel", "one kernel on tensors from a file");
    kernel.require_subcommand(1);
    auto& delta_command = command(kernel, o, "delta_rule", "the gated delta rule", delta_rule);
    delta_command.add_option("--in", o.in, "safetensors file: q, k, v, alpha, beta, initial_state")
        ->required();
    delta_command.add_option("--out", o.out, "safetensors file to write: out, final_state")
        ->required();
    delta_command.add_option("--form", o.form, "reference, recurrent or chunkwise")
        ->check(one_of({"reference", "recurrent", "chunkwise"}))
        ->default_str("chunkwise");
    delta_command.add_option("--chunk", o.chunk, "16, 32 or 64, of the chunkwise form")
        ->check(one_of({"16", "32", "64"}));

    auto& retrieval_command =
        command(kernel, o, "retrieval", "one retrieval attention mixer", retrieval);
    retrieval_command
        .add_option("--in", o.in,
                    "safetensors file: x, the mixer's parameters; n_heads, head_dim, chunk_size, "
                    "top_k in its metadata")
        ->required();
    retrieval_command.add_option("--out", o.out, "safetensors file to write: y, selected_chunks")
        ->required();
    retrieval_command.add_option("--form", o.form, "reference, prefill or step")
        ->check(one_of({"reference", "prefill", "step"}))
        ->default_str("prefill");
}

// What CLI11 says of options, as what is expected and found.
std::string expected_and_found(std::string text) {
    static const std::pair<std::regex, const char*> forms[] = {
        {std::regex(R"((\S+) excludes (\S+))"), "$1: expected without $2, found both"},
        {std::regex(R"((\S+) requires (\S+))"), "$1: expected $2 with it, found none"},
        {std::regex(R"(A subcommand is required)"), "expected a command, found none"},
        {std::regex(R"(Exactly 1 option from \[(\S+)\] is required)"),
         "expected one of $1, found none"},
        {std::regex(R"((\S+) is required)"), "$1: expected a value, found none"},
        {std::regex(R"((\S+): 1 required .* missing)"), "$1: expected a value, found none"},
        {std::regex(R"((\S+): At Most 1 required but received )"),
         "$1: expected one value, found "},
        {std::regex(R"(Could not convert: (\S+) = )"), "$1: expected no value, found "}};
    for (const auto& [said, form] : forms)
        text = std::regex_replace(text, said, form, std::regex_constants::match_continuous);
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    hold_standard_streams();
    Options options;
    CLI::App app("HydraLM: a hybrid language model, sub-quadratic in time", "hydralm");
    describe(app, options);
    as_written::unmark_values(app);
    app.set_version_flag("--version", "hydralm " + std::to_string(HYDRALM_VERSION_MAJOR) + "." +
                                          std::to_string(HYDRALM_VERSION_MINOR) + "." +
                                          std::to_string(HYDRALM_VERSION_PATCH));
    try {
        try {
            app.parse(as_written::words_of(argc, argv));
        } catch (const CLI::Success& asked) {  // --help, --version
            app.exit(asked);
        }
        flush_output();
    } catch (const CLI::ParseError& error) {
        std::string line = expected_and_found(as_written::without_marks(error.what()));
        for (const std::string& word : app.remaining(true))
            if (word != "--") {
                line =
                    "expected a known command or option, found " + as_written::without_marks(word);
                break;
            }
        std::fprintf(
            stderr, "%s\n",
            hydralm::Error({.field = "command line: " + line, .fix = "see hydralm --help"}).what());
        return 2;
    } catch (const std::bad_alloc&) {
        say_error(
            "hydralm: memory: expected more than this machine gives; use a smaller model or chunk");
        return 1;
    } catch (const std::exception& error) {
        say_error(error.what());
        return 1;
    }
    return 0;
}
