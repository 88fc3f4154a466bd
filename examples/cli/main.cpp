// The program `hydralm`: models of any configuration, on the command line.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <hydralm/core/error.hpp>
#include <new>

#include "as_written.hpp"
#include "command_errors.hpp"
#include "describe_decoding.hpp"
#include "describe_models.hpp"
#include "describe_training.hpp"
#include "options.hpp"
#include "ranks.hpp"
#include "standard_streams.hpp"

namespace {

void describe(CLI::App& app, Options& o) {
    app.require_subcommand(1);
    app.set_version_flag("--version", "hydralm " + std::to_string(HYDRALM_VERSION_MAJOR) + "." +
                                          std::to_string(HYDRALM_VERSION_MINOR) + "." +
                                          std::to_string(HYDRALM_VERSION_PATCH));
    const auto add = [&](CLI::App& parent, const char* name, const char* help,
                         void (*options)(CLI::App&, Options&), void (*run)(const Options&)) {
        options(command(parent, o, name, help, run), o);
    };
    add(app, "info", "a model: its config, layers, parameters and kernels", describe_info, info);
    add(app, "init", "write a checkpoint with random weights", describe_init, init);
    add(app, "convert", "write a checkpoint in another format of weights", describe_convert,
        convert);
    add(app, "embed", "write a model as a C++ header, for programs without files", describe_embed,
        embed);
    add(app, "logits", "logits of every position, and the final state", describe_logits, logits);
    add(app, "generate", "continue a text", describe_generate, generate);
    add(app, "chat", "a dialogue in the model's own template, a line at a time", describe_chat,
        chat);
    add(app, "config", "a published model's shape as a C++ type", describe_config, config);
    add(app, "score", "log-likelihood of a text", describe_score, score);
    add(app, "stream", "feed a long text piece by piece", describe_stream, stream);
    add(app, "tokenize", "a text as ids, or ids as a text", describe_tokenize, tokenize);
    add(app, "train", "train the model on text", describe_train, train);
    add(app, "task", "sequences of a synthetic task, or a model's score", describe_task, task);
    add(app, "ask", "questions about facts in a text of your own", describe_ask, ask);
    add(app, "gradients", "gradient of the mean next-token loss of a text", describe_gradients,
        gradients);
    CLI::App& kernel = *app.add_subcommand("kernel", "one kernel on tensors from a file");
    kernel.require_subcommand(1);
    add(kernel, "delta_rule", "the gated delta rule", describe_delta_rule, delta_rule);
    add(kernel, "retrieval", "one retrieval attention mixer", describe_retrieval, retrieval);
    as_written::unmark_values(app);
}

}  // namespace

int main(int argc, char** argv) {
    hold_standard_streams();
    Options options;
    CLI::App app("HydraLM: a hybrid language model, sub-quadratic in time", "hydralm");
    describe(app, options);
    try {
        try {
            app.parse(as_written::words_of(argc, argv));
        } catch (const CLI::Success& asked) {  // --help, --version
            app.exit(asked);
        }
        flush_output();
    } catch (const CLI::ParseError& error) {
        const std::string line =
            command_errors::what_is_wrong(app, error, argc > 1 ? argv[argc - 1] : "");
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
