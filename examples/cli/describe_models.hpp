// The options of info, init, convert, embed, config, logits, gradients and the kernels.
#pragma once

#include "shared_options.hpp"

inline void describe_info(CLI::App& app, Options& o) {
    auto* described =
        app.add_option("--model", o.model, "checkpoint: a safetensors or GGUF file, or a folder");
    add_config(app, o)->excludes(described);
    add_weights(app, o);
    app.get_option("--weights")->needs(described);
    add_bank_format(app, o.bank);
    add_sparse_reading(app, o.bank);
    add_state(app, o.bank);
    app.add_flag("--json", o.json, "as one JSON object");
}

inline void describe_init(CLI::App& app, Options& o) {
    app.add_option("--out", o.out, "checkpoint to write")->required();
    add_config(app, o);
    app.add_option("--seed", o.seed, "seed of the weights")
        ->capture_default_str()
        ->check(values::seed);
    app.add_option("--scheme", o.scheme, "normal or fan_in")
        ->capture_default_str()
        ->check(values::one_of({"normal", "fan_in"}));
}

inline CLI::Option* add_format(CLI::App& app, Options& o, const std::string& otherwise) {
    app.remove_option(app.get_option("--scalar"));
    return app
        .add_option_function<std::string>(
            "--format", [&o](const std::string& f) { o.weights = f == "f32" ? "float" : f; },
            "of matrices: f32, bf16, q8, q4 or mixed (q8, MLPs in q4)" + otherwise +
                "; gates, convolutions, norms and biases stay f32")
        ->check(values::one_of({"f32", "bf16", "q8", "q4", "mixed"}));
}

inline void describe_convert(CLI::App& app, Options& o) {
    add_model(app, o);
    add_format(app, o, "")->required();
    app.add_option("--out", o.out, "checkpoint to write")->required();
}

inline void describe_embed(CLI::App& app, Options& o) {
    add_model(app, o);
    add_format(app, o, ", default: as the file has them");
    app.add_option("--out", o.out,
                   "header to write, NAME.hpp: in it a namespace NAME; a file there is replaced")
        ->required();
    app.add_option("--vector-bytes", o.vector_bytes,
                   "of the target's vectors: 16 (SSE, NEON), 32 (AVX) or 64 (AVX-512); default: of "
                   "those that this program is compiled for")
        ->check(values::one_of({"16", "32", "64"}));
    app.add_flag(
        "--assembler", o.assembler,
        "the weights in NAME.bin, for the assembler by NAME.S, both replaced too: for large "
        "models");
}

inline void describe_config(CLI::App& app, Options& o) {
    app.add_option("folder", o.config, "folder of a published model, or its config.json")
        ->required();
    add_weights(app, o);
    app.add_option("--out", o.out, "header to write")->required();
}

inline void describe_logits(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    app.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")->required();
    app.add_option("--out", o.out, "safetensors file to write")->required();
    app.add_option("--form", o.form, "prefill, chunked or step")
        ->check(values::one_of({"prefill", "chunked", "step"}))
        ->default_str("prefill");
    app.add_option("--chunk", o.chunk, "tokens per piece, of the chunked form")
        ->check(values::at_least_one);
}

inline void describe_gradients(CLI::App& app, Options& o) {
    add_model(app, o);
    add_float_weights(app, o);
    app.add_option("--ids", o.ids, "file of token ids: decimal, between whitespace")->required();
    app.add_option("--out", o.out, "safetensors file to write: loss, grad.<parameter>")->required();
}

inline void describe_delta_rule(CLI::App& app, Options& o) {
    app.add_option("--in", o.in, "safetensors file: q, k, v, alpha, beta, initial_state")
        ->required();
    app.add_option("--out", o.out, "safetensors file to write: out, final_state")->required();
    app.add_option("--form", o.form, "reference, recurrent or chunkwise")
        ->check(values::one_of({"reference", "recurrent", "chunkwise"}))
        ->default_str("chunkwise");
    app.add_option("--chunk", o.chunk, "16, 32 or 64, of the chunkwise form")
        ->check(values::one_of({"16", "32", "64"}));
}

inline void describe_retrieval(CLI::App& app, Options& o) {
    app.add_option("--in", o.in,
                   "safetensors file: x, the mixer's parameters; n_heads, head_dim, chunk_size, "
                   "top_k in its metadata")
        ->required();
    app.add_option("--out", o.out, "safetensors file to write: y, selected_chunks")->required();
    app.add_option("--form", o.form, "reference, prefill or step")
        ->check(values::one_of({"reference", "prefill", "step"}))
        ->default_str("prefill");
}
