// Commands of the command line, and the options that several of them take.
#pragma once

#include <CLI/CLI.hpp>
#include <hydralm/state/bank_policy.hpp>
#include <string>

#include "inputs_kept.hpp"
#include "options.hpp"
#include "values.hpp"

// Adds a command that takes the shared --scalar option and runs `run`.
inline CLI::App& command(CLI::App& parent, Options& options, const std::string& name,
                         const std::string& help, void (*run)(const Options&)) {
    CLI::App& app = *parent.add_subcommand(name, help);
    app.add_option("--scalar", options.scalar, "float or double")
        ->capture_default_str()
        ->check(values::one_of({"float", "double"}));
    app.callback([&options, run] {
        expect_inputs_kept(options);
        run(options);
    });
    return app;
}

inline void add_model(CLI::App& app, Options& options) {
    app.add_option("--model", options.model, "checkpoint: a safetensors or GGUF file, or a folder")
        ->required();
}

// What matrices are kept in while running.
inline void add_weights(CLI::App& app, Options& options) {
    app.add_option(
           "--weights", options.weights,
           "keep matrices in float, bf16, q8, q4 or mixed (q8, MLPs in q4); default: as the "
           "file has them")
        ->check(values::one_of({"float", "bf16", "q8", "q4", "mixed"}));
}
// Where training or its gradient is wanted.
inline void add_float_weights(CLI::App& app, Options& options) {
    app.add_option("--weights", options.weights, "float, whatever the file has")
        ->check(values::one_of({"float"}));
}

inline CLI::Option* add_config(CLI::App& app, Options& options) {
    return app.add_option("--config", options.config,
                          "JSON of the model to make; default: a small one of bytes");
}

inline void add_bank_format(CLI::App& app, BankOptions& b) {
    app.add_option("--bank-format", b.format, "of keys and values: exact, bf16 or int8")
        ->capture_default_str()
        ->check(values::one_of({"exact", "bf16", "int8"}));
}
// How the delta rule's memory rests between calls.
inline void add_state(CLI::App& app, BankOptions& b) {
    app.add_option("--state", b.state,
                   "the delta rule's memory between calls: float, as it is computed, or int16 with "
                   "a scale per row, half the bytes of float")
        ->capture_default_str()
        ->check(values::one_of({"float", "int16"}));
}
// How much layers that attend to the whole past read of it.
inline void add_sparse_reading(CLI::App& app, BankOptions& b) {
    app.add_option("--sparse-chunks", b.sparse_chunks,
                   "chunks of 64 tokens that attention to the whole past chooses to read, beside "
                   "the recent ones; 0: it reads all")
        ->capture_default_str()
        ->check(values::whole(0, hydralm::SparsePast::most_chunks));
    app.add_option("--recent-chunks", b.recent_chunks,
                   "chunks before a token's own that it then reads whatever is in them")
        ->default_str("1")
        ->check(values::whole(0, hydralm::SparsePast::most_recent));
}

inline void add_bank(CLI::App& app, Options& options) {
    BankOptions& b = options.bank;
    app.add_option("--bank", b.kind,
                   "where retrieval and attention to the whole past keep it: memory, mapped (a "
                   "file), or compressive (bounded for ever, retrieval alone)")
        ->capture_default_str()
        ->check(values::one_of({"memory", "mapped", "compressive"}));
    add_bank_format(app, b);
    app.add_option(
           "--bank-budget", b.budget,
           "bytes, or with KiB, MiB or GiB; default 64MiB; mapped: those resident, 1 MiB or more; "
           "compressive: all")
        ->transform(values::with_unit)
        ->check(values::whole(1, std::uint64_t{1} << 50));
    app.add_option("--bank-dir", b.directory, "of the mapped file; default: $TMPDIR or /var/tmp");
    app.add_option("--open-groups", b.open_groups,
                   "groups of 64 chunks that a token looks into where it chooses chunks; 0: all")
        ->capture_default_str()
        ->check(values::whole(0, hydralm::most_open_groups));
    add_sparse_reading(app, b);
    add_state(app, b);
}
