// The options of train and of task, which share the names of tasks, and of ask.
#pragma once

#include <hydralm/evaluation/task_shape.hpp>

#include "as_written.hpp"
#include "shared_options.hpp"

inline std::vector<std::string> task_words() {
    return {hydralm::task_names.begin(), hydralm::task_names.end()};
}

inline void describe_train(CLI::App& app, Options& o) {
    TrainOptions& t = o.train;
    app.add_option("--out", o.out, "checkpoint to write; of a published model a folder")
        ->required();
    auto* text = as_written::add_texts(app, "--text", t.text, "files and folders of text");
    auto* task = app.add_option("--task", t.task, "a task instead: mqar, retrieval_qa, parity, …")
                     ->check(values::one_of(task_words()))
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
        ->check(values::at_least_one);
    app.add_option("--batch", t.batch, "texts per batch")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--seq-len", t.seq_len, "tokens of each text")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--lr", t.lr,
                   "learning rate; default 3e-3 (adamw), 2e-2 (muon, 3e-4 for what is no "
                   "matrix), of a published model a thirtieth")
        ->check(values::above_zero);
    app.add_option("--min-lr", t.min_lr, "rate at the end; default a tenth of --lr")
        ->check(values::not_negative);
    app.add_option("--warmup", t.warmup, "steps of warm-up; default a twentieth, at most 100")
        ->check(values::count);
    app.add_option("--optimizer", t.optimizer, "adamw, or muon for the matrices")
        ->capture_default_str()
        ->check(values::one_of({"adamw", "muon"}));
    app.add_option("--accumulate", t.accumulate, "batches per update")
        ->capture_default_str()
        ->check(values::whole(1, values::largest_int));
    app.add_option("--clip", t.clip, "largest norm of the gradient; 0: any")
        ->capture_default_str()
        ->check(values::not_negative);
    app.add_flag("--recompute", t.recompute,
                 "keep less for the backward pass and compute it again: less memory, more time");
    app.add_flag("--cut-text", t.cut_text,
                 "over several processes each text is cut, instead of batches dealt out");
    app.add_option("--scheme", t.scheme, "initial weights: normal or fan_in")
        ->capture_default_str()
        ->check(values::one_of({"normal", "fan_in"}));
    app.add_option("--decay-bias", t.decay_bias,
                   "initial bias of the decay's gate; default the scheme's, 9 tracks states")
        ->check(values::any_number);
    app.add_option("--gate-scale", t.gate_scale, "factor on the initial weights of the gates")
        ->capture_default_str()
        ->check(values::above_zero);
    app.add_option("--eval-every", t.eval_every, "steps between evaluations; 0: at the end")
        ->capture_default_str()
        ->check(values::count);
    app.add_option("--save-every", t.save_every, "steps between checkpoints; 0: at the end")
        ->capture_default_str()
        ->check(values::count);
    app.add_option("--keep", t.keep, "checkpoints kept")
        ->capture_default_str()
        ->check(values::whole(1, values::largest_int));
    auto* scheme = app.get_option("--scheme");
    app.add_option("--init", t.init,
                   "checkpoint to begin from, the folder of a published model too; default: random "
                   "weights")
        ->excludes(scheme)
        ->excludes(add_config(app, o));
    add_float_weights(app, o);
    app.add_option("--resume", t.resume, "directory of checkpoints of this run to go on from");
    app.add_option("--seed", o.seed, "seed of weights and data")
        ->capture_default_str()
        ->check(values::seed);
    app.add_option("--log", t.log, "file of JSON lines to write");
}

inline void describe_task(CLI::App& app, Options& o) {
    TaskOptions& t = o.task;
    app.add_option("task", t.name, "what the sequences ask for")
        ->required()
        ->check(values::one_of(task_words()));
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
        ->check(values::at_least_one);
    app.add_option("--count", t.count, "sequences of each length")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--facts", t.facts,
                   "facts (mqar: pairs) in a sequence; default 32 (needle: 1; mqar: what fits; "
                   "multivalue, tracking: 8 keys or chains)")
        ->check(values::at_least_one);
    app.add_option("--queries", t.queries,
                   "queries in a sequence; default 8 (mqar: all), or as many as facts")
        ->check(values::at_least_one);
    app.add_option("--trailers", t.trailers,
                   "disjoint sets of queries about each haystack, read once")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--vocab", t.vocab, "ids, of printed sequences; default 512")
        ->needs(print)
        ->check(values::at_least_one);
    app.add_option("--key-tokens", t.key_tokens, "multikey: tokens of a key")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--hops", t.hops, "tracking: facts of a chain")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--values", t.values, "multivalue: values of a key")
        ->capture_default_str()
        ->check(values::at_least_one);
    app.add_option("--seed", o.seed, "seed of the sequences")
        ->capture_default_str()
        ->check(values::seed);
    app.add_flag("--zero-retrieval", t.zero_retrieval, "leave retrieval layers out");
    add_bank(app, o);
}

inline void describe_ask(CLI::App& app, Options& o) {
    add_model(app, o);
    add_weights(app, o);
    app.add_option("--text", o.text, "file of text that the facts are planted in")->required();
    as_written::add_texts(app, "--fact", o.ask.facts,
                          "KEY=VALUE, planted somewhere in the text; may be given several times");
    as_written::add_texts(app, "--question", o.ask.questions,
                          "the key of a fact; may be given several times")
        ->required();
    app.add_option("--seed", o.seed, "seed of where the facts lie")
        ->capture_default_str()
        ->check(values::seed);
    add_bank(app, o);
}
