#!/usr/bin/env python3
"""The program on folders of published models: what is understood, computed, continued, said, refused.
Arguments: the program (of any config), the golden vectors."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import GOLDEN, PROGRAM, TEXT, assert_near, json_of, refusal, run, run_checks, tensors

PUBLISHED = GOLDEN / "published"
TEXT_MODEL = PUBLISHED / "qwen35_text"  # text in, text out
MTP_MODEL = PUBLISHED / "qwen35_composite_bf16"
FORMATS = "float", "bf16", "q8", "q4", "mixed"


def folder(directory, name="model"):
    """A copy of the published text model, as a user has it."""
    copy = directory / name
    shutil.copytree(TEXT_MODEL, copy)
    (copy / "expected.safetensors").unlink()
    return copy


def ids_file(directory, ids):
    path = directory / "ids"
    path.write_text(" ".join(map(str, ids)))
    return path


def understood(directory):
    """info names layers, tokenizer and memory; of windows what is fixed."""
    facts = json_of("info", "--model", TEXT_MODEL, "--json")
    assert facts["config"]["family"] == "qwen3_5_text"
    assert facts["schedule"] == ["deltanet"] * 3 + ["full"]
    assert facts["config"]["blocks.3"]["mixer"]["rotary_dim"] == 4
    assert facts["tokenizer"] == {
        "type": "BPE of bytes", "pre_tokenizer": "Qwen3.5's cuts", "normalizer": "NFC", "vocabulary": 318,
        "special": {"<|endoftext|>": 307, "<|im_start|>": 308, "<|im_end|>": 309, "<|vision_start|>": 310,
                    "<|vision_end|>": 311, "<|image_pad|>": 312}}
    assert facts["state_bytes_per_token"] >= 2 * 2 * 16 * 4 and facts["window_bytes"] == 0
    said = run("info", "--model", TEXT_MODEL).decode()
    assert "\ntokenizer         {" in said and "\n  and a token     " in said, said
    facts = json_of("info", "--model", PUBLISHED / "fla_gdn_hybrid", "--json")
    assert facts["state_bytes_per_token"] == 0 and facts["window_bytes"] > 16 * 2 * 2 * 12 * 4
    assert facts["tokenizer"] == {"type": "bytes", "vocabulary": 256}
    assert "tokenizer" not in json_of("info", "--json")


def read_in_part(directory):
    """Attention to the whole past reads fewer chunks when asked to, and info and every result say so."""
    text, model = directory / "text", ("--model", TEXT_MODEL)
    text.write_text(TEXT)
    few = "--sparse-chunks", 1, "--recent-chunks", 0
    says = {"chunks": 1, "recent": 0, "chunk_tokens": 64, "most_tokens": 128}
    score = "score", *model, "--text", text
    full, all_of_it, part = json_of(*score), json_of(*score, "--sparse-chunks", 256), json_of(*score, *few)
    assert full["tokens"] > 256 and "sparse_reading" not in full, full
    assert all_of_it.pop("sparse_reading")["most_tokens"] == 258 * 64
    assert all_of_it == full
    assert part["sparse_reading"] == says and part["log_likelihood"] != full["log_likelihood"], part
    assert json_of(*score, *few, "--bank", "mapped") == part
    assert json_of(*score, *few, "--open-groups", 2)["sparse_reading"] == {**says, "open_groups": 2}
    streamed = json_of("stream", *model, "--text", text, *few)
    assert streamed["sparse_reading"] == says and streamed["tokens"] == part["tokens"], streamed
    for command, given in (("generate", ("--prompt", "Paris", "--tokens", 1)), ("chat", ())):
        said = subprocess.run([PROGRAM, command, *map(str, (*model, *given, *few))], check=True,
                              stdin=subprocess.DEVNULL, capture_output=True).stderr.decode()
        assert said.startswith("sparse reading: ") and "at most 128 tokens" in said, said
    plain, sparse, small = (json_of("info", *model, "--json", *given)
                            for given in ((), few, (*few, "--bank-format", "int8")))
    assert "sparse_reading" not in plain and plain["memory_bytes_per_token"] == 0
    assert sparse["sparse_reading"] == small["sparse_reading"] == says
    assert sparse["state_bytes_per_token"] == plain["state_bytes_per_token"] + sparse["memory_bytes_per_token"]
    assert small["state_bytes_per_token"] < plain["state_bytes_per_token"] < sparse["state_bytes_per_token"]
    assert "sparse_reading    {" in run("info", *model, *few).decode()
    line = refusal("score", "--model", PUBLISHED / "fla_gdn_hybrid", "--text", text, *few)
    assert "--sparse-chunks: expected a model with attention to the whole past, found none" in line, line
    for given in ("--recent-chunks", 2), ("--recent-chunks", 1, "--sparse-chunks", 0):
        line = refusal(*score, *given)
        assert "--recent-chunks: expected --sparse-chunks of 1 or more with it, found --sparse-chunks 0" in line, line
    for name in TEXT_MODEL, PUBLISHED / "fla_gdn_hybrid":  # all of the past, a window of it
        line = refusal("score", "--model", name, "--text", text, "--open-groups", 2)
        assert "--open-groups: expected a model with retrieval layers, or --sparse-chunks where" in line, line


def every_format(directory):
    """logits, generate, score and stream in every format of matrices; those of float to the vectors."""
    expected = tensors(TEXT_MODEL / "expected.safetensors")
    ids = ids_file(directory, expected["input_ids"][1])
    text = directory / "text"
    text.write_text(TEXT)
    out = directory / "out.safetensors"
    scores = {}
    for weights in FORMATS:
        model = "--model", folder(directory, weights), "--weights", weights
        for form in "prefill", "step":
            run("logits", *model, "--ids", ids, "--out", out, "--form", form)
            found = tensors(out)
            if weights == "float":
                assert_near(found["logits"], expected["logits"], 1e-4)
            assert "state.0.S" in found and "state.3.k_cache" in found
        new = run("generate", *model, "--ids", ids, "--tokens", 16, "--print-ids").split()
        assert 1 <= len(new) <= 16
        if weights == "float":
            assert list(map(int, new)) == list(expected["greedy_ids"][1])
        run("generate", *model, "--prompt", "Née à Paris", "--tokens", 8, "--temperature", 1)
        scores[weights] = json_of("score", *model, "--text", text)
        streamed = json_of("stream", *model, "--text", text)
        assert streamed["tokens"] == scores[weights]["tokens"] > 0
    assert len({s["log_likelihood"] for s in scores.values()}) == len(FORMATS)
    exact = scores["float"]["log_likelihood"]
    for weights, bound in ("bf16", 0.01), ("q8", 0.02), ("q4", 0.2), ("mixed", 0.2):
        assert abs(scores[weights]["log_likelihood"] / exact - 1) < bound, scores
    wide = json_of("score", "--model", TEXT_MODEL, "--scalar", "double", "--text", text)
    assert abs(wide["log_likelihood"] / exact - 1) < 1e-6


def channels_decay(directory):
    """KDA: info and config say the widths of its gates; generate writes the ids of the vectors."""
    model, header = PUBLISHED / "fla_kda_pure", directory / "model.hpp"
    mixer = json_of("info", "--model", model, "--json")["config"]["blocks.0"]["mixer"]
    assert mixer["decay_rank"] == mixer["gate_rank"] == 16 and mixer["gate"] == "sigmoid", mixer
    run("config", model, "--out", header)
    assert ".decay_rank = 16, .gate_rank = 16}" in header.read_text()
    expected = tensors(model / "expected.safetensors")
    ids, greedy = ids_file(directory, expected["input_ids"][1]), list(expected["greedy_ids"][1])
    for weights in FORMATS:
        new = run("generate", "--model", model, "--weights", weights, "--ids", ids, "--tokens", 16,
                  "--print-ids").split()
        assert weights != "float" or list(map(int, new)) == greedy[:greedy.index(2)], new  # its eos


def texts_end(directory):
    """At the ids of generation_config.json, else of config.json; wrong ones are refused by name."""
    model = folder(directory)
    expected = tensors(TEXT_MODEL / "expected.safetensors")
    greedy = list(expected["greedy_ids"][1])
    ids = ids_file(directory, expected["input_ids"][1])
    config = model / "generation_config.json"

    def new():
        return list(map(int, run("generate", "--model", model, "--ids", ids, "--tokens", 16,
                                 "--print-ids").split()))
    assert new() == greedy
    for stop in greedy[5], [319, greedy[5]]:
        config.write_text(json.dumps({"eos_token_id": stop}))
        assert new() == greedy[:greedy.index(greedy[5])]
    fields = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(fields | {"eos_token_id": greedy[3]}))
    assert new() == greedy[:greedy.index(greedy[5])]
    config.unlink()
    assert new() == greedy[:greedy.index(greedy[3])]
    for wrong in "309", 1.5, -1, 320, [309, None]:
        config.write_text(json.dumps({"eos_token_id": wrong}))
        said = refusal("generate", "--model", model, "--prompt", "a", "--tokens", 1)
        assert "generation_config.json: eos_token_id: expected an id or a list of ids in [0, 320)" in said, said


def text_comes_out(directory):
    """The prompt, its ids and the text of the reference."""
    expected = json.loads((TEXT_MODEL / "expected.json").read_text())
    generate = "generate", "--model", TEXT_MODEL, "--tokens", 16
    assert run(*generate, "--prompt", expected["prompt"]).decode() == expected["greedy_text"] + "\n"
    ids = ids_file(directory, expected["prompt_ids"])
    assert run(*generate, "--ids", ids, "--print-ids").split() == \
        [str(i).encode() for i in expected["greedy_ids"]]


def drafted(directory):
    """The model's own module drafts: the same ids, and its acceptance is printed."""
    expected = tensors(MTP_MODEL / "expected.safetensors")
    ids = ids_file(directory, expected["input_ids"][1])
    generate = ("generate", "--model", MTP_MODEL, "--weights", "float", "--ids", ids, "--tokens", 16,
                "--print-ids")
    result = subprocess.run([PROGRAM, *map(str, generate), "--draft", "mtp"], capture_output=True,
                            text=True, check=True)
    assert list(map(int, result.stdout.split())) == list(expected["greedy_ids"][1])
    assert result.stderr.startswith("drafts proposed ") and ", accepted " in result.stderr
    said = refusal("generate", "--model", TEXT_MODEL, "--prompt", "a", "--tokens", 1, "--draft", "mtp")
    assert "--draft mtp" in said


def refused(directory):
    """By name: what is not implemented, files that are missing or of something else."""
    for name, field in json.loads((PUBLISHED / "refused/names.json").read_text()).items():
        field = re.split(r"[ :/]", field)[0] if name != "moe" else "model_type"
        model = folder(directory, name)
        shutil.copy(PUBLISHED / "refused" / f"{name}.json", model / "config.json")
        result = subprocess.run([PROGRAM, "info", "--model", model], capture_output=True, text=True)
        file, said = str(model / "config.json"), result.stderr
        assert result.returncode == 1 and said.count("\n") == 1, said
        assert said.startswith(f"hydralm: {file}: ") and field in said, said
    model = folder(directory, "kept")
    ids = ids_file(directory, [1, 2])
    for name in "model.safetensors", "config.json":
        before = (model / name).read_bytes()
        said = refusal("logits", "--model", model, "--ids", ids, "--out", model / name)
        assert "a file that is not used otherwise" in said and (model / name).read_bytes() == before
    model = folder(directory)
    (model / "model.safetensors").unlink()
    assert str(model) in refusal("score", "--model", model, "--text", "x")
    shutil.copy(PUBLISHED / "fla_gdn_pure/model.safetensors", model)
    assert "model.embed_tokens.weight" in refusal("logits", "--model", model, "--ids", "x", "--out", "y")
    shutil.copy(GOLDEN / "tokenizer/tokenizer.json", model)
    shutil.copy(TEXT_MODEL / "model.safetensors", model)
    said = refusal("generate", "--model", model, "--prompt", "a", "--tokens", 1)
    assert "at most the model's 320" in said, said


def typed(directory):
    """config writes the header that the library's tests compile."""
    header = directory / "model.hpp"
    run("config", TEXT_MODEL, "--out", header)
    compiled = GOLDEN.parent / "families/qwen35_text_model.hpp"
    assert header.read_text() == compiled.read_text(), header.read_text()
    run("config", PUBLISHED / "olmo_hybrid_nope/config.json", "--out", header, "--scalar", "double")
    assert "PostNormResidual" in header.read_text() and "<double, " in header.read_text()
    run("config", TEXT_MODEL, "--out", header, "--weights", "q8")
    assert "hydralm::weights::Q8" in header.read_text()
    said = refusal("config", PUBLISHED / "refused/gelu.json", "--out", header)
    assert "hidden_act" in said
    said = refusal("config", TEXT_MODEL, "--out", header, "--weights", "q8", "--scalar", "double")
    assert "--weights" in said


def talk(*options, lines, model=TEXT_MODEL):
    return run("chat", "--model", model, "--tokens", 12, *options, input="".join(
        f"{line}\n" for line in lines).encode()).decode()


def dialogues(directory):
    """An answer depends on the dialogue before it alone; templates of others are refused."""
    options = "--system", "Be brief.", "--temperature", 0.8, "--seed", 3
    questions = ["Née à Paris?", "", "你好", "<|im_end|> " * 40]
    first = directory / "first.json"
    answers = talk(*options, lines=questions + [f"/save {first}"])
    said = json.loads(first.read_text())
    assert [m["role"] for m in said] == ["system"] + ["user", "assistant"] * 3
    assert [m["content"] for m in said[1::2]] == [q for q in questions if q]
    assert answers == "".join(m["content"] + "\n" for m in said[2::2])
    assert talk(*options, lines=["other", "/reset"] + questions) == \
        talk(*options, lines=["other"]) + answers
    second = directory / "second.json"
    more = talk(*options, lines=questions + ["more"])[len(answers):]
    assert talk(*options, lines=[f"/load {first}", "more", f"/save {second}"]) == more
    assert json.loads(second.read_text())[:-2] == said

    # The first prompt is that of the template, thinking off; special tokens are not shown.
    prompt = ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
              "<|im_start|>assistant\n<think>\n\n</think>\n\n")
    said = run("generate", "--model", TEXT_MODEL, "--tokens", 12, "--prompt", prompt).decode()
    assert talk("--system", "Be brief.", lines=["hi"]) == re.sub(r"<\|(im|vision|image|end)\w*\|>", "", said)

    def refused_line(*lines, model=TEXT_MODEL):
        return refusal("chat", "--model", model, input="".join(f"{line}\n" for line in lines))
    assert "expected /reset, /save FILE, /load FILE or a text" in refused_line("/quit")
    for wrong in "{}", '[{"role":"user"}]', '[{"role":"user","content":"a"}]', \
            '[{"role":"tool","content":"a"}]', '[{"role":"assistant","content":"a"}]', "[":
        first.write_text(wrong)
        assert str(first) in refused_line(f"/load {first}")
    assert "tokenizer.json beside" in refused_line(model=PUBLISHED / "fla_gdn_pure")
    model = folder(directory)
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "{{ '<|im_start|>' + role }}"}))
    assert talk(lines=["hi"], model=model)
    config.write_text(json.dumps({"chat_template": "{{ '<|user|>' }}"}))
    assert "tokenizer_config.json: chat_template: expected ChatML" in refused_line(model=model)
    (model / "chat_template.jinja").write_text("[INST]")
    assert "chat_template.jinja: chat_template: expected ChatML" in refused_line(model=model)


def tuned(directory):
    """train --init FOLDER writes a folder of the family, which every command opens; resumed or with less
    kept the same bytes."""
    text, out = directory / "text", directory / "tuned"
    text.write_text(TEXT)
    kept = "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"
    train = ("train", "--init", TEXT_MODEL, "--text", text, "--steps", 6, "--batch", 2, "--seq-len", 16,
             "--eval-every", 2, "--save-every", 2, "--lr", 3e-3, "--warmup", 0)
    result = json_of(*train, "--out", out)
    assert result["loss_unit"] == "nats per token", result
    assert sorted(file.name for file in out.iterdir()) == sorted([*kept, "model.safetensors"])
    for name in kept:
        assert (out / name).read_bytes() == (TEXT_MODEL / name).read_bytes()
    trained = (out / "model.safetensors").read_bytes()
    assert {n: shape for n, (shape, _) in tensors(out / "model.safetensors").items()} == \
        {n: shape for n, (shape, _) in tensors(TEXT_MODEL / "model.safetensors").items()}

    def likelihood(model):
        return json_of("score", "--model", model, "--text", text)["log_likelihood"]
    run_directory = directory / "tuned.training"
    before, after = likelihood(TEXT_MODEL), likelihood(out)
    assert after > 0.9 * before and likelihood(run_directory / "best.safetensors") > 0.9 * before
    assert json_of("info", "--model", out, "--json")["config"]["family"] == "qwen3_5_text"
    assert run("tokenize", "--model", out, "--prompt", "Née") == \
        run("tokenize", "--model", TEXT_MODEL, "--prompt", "Née")
    ids = ids_file(directory, range(9))
    run("logits", "--model", out, "--ids", ids, "--out", directory / "logits")
    run("gradients", "--model", out, "--ids", ids, "--out", directory / "gradients")
    assert run("generate", "--model", out, "--prompt", "It is", "--tokens", 4)
    assert talk(lines=["hi"], model=out)

    for file in run_directory.glob("step-*.train"):
        if "2.train" not in file.name:
            file.unlink()
    (out / "model.safetensors").unlink()
    json_of(*train, "--out", out, "--resume", run_directory)
    assert (out / "model.safetensors").read_bytes() == trained
    json_of(*train, "--out", directory / "less", "--recompute")
    assert (directory / "less/model.safetensors").read_bytes() == trained
    again = "train", "--init", out, "--text", text, "--steps", 1, "--batch", 1, "--seq-len", 8
    json_of(*again, "--out", directory / "again", "--tokenizer", TEXT_MODEL)
    assert sorted(file.name for file in (directory / "again").iterdir()) == \
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    bf16, stages = directory / "bf16", directory / "stages"  # trained in float, on ids
    stages.write_text('[{"length": 24, "pairs": 2, "queries": 2, "batch": 1, "steps": 1}]')
    json_of("train", "--init", MTP_MODEL, "--task", "mqar", "--stages", stages, "--out", bf16)
    assert tensors(bf16 / "model.safetensors")
    run("generate", "--model", bf16, "--ids", ids, "--tokens", 4, "--draft", "mtp")
    kda = PUBLISHED / "fla_kda_pure"  # KDA
    json_of("train", "--init", kda, "--task", "mqar", "--stages", stages, "--out", directory / "kda")
    before, after = tensors(kda / "model.safetensors"), tensors(directory / "kda/model.safetensors")
    assert not [name for name in before if before[name] == after[name]]
    assert {n: v[0] for n, v in before.items()} == {n: v[0] for n, v in after.items()}
    assert (directory / "kda/config.json").read_bytes() == (kda / "config.json").read_bytes()
    run("generate", "--model", directory / "kda", "--ids", ids, "--tokens", 4)


def not_tuned(directory):
    """What training cannot begin from, and where it may not be written, by name."""
    text = directory / "text"
    text.write_text(TEXT)
    model, out = folder(directory), directory / "out"

    def said(*options, init=model, to=out):
        return refusal("train", "--init", init, "--text", text, "--out", to, "--steps", 1, *options)
    gguf = GOLDEN / "gguf/q8_0.gguf"
    assert f"{gguf}: --init: expected a checkpoint in safetensors, found a GGUF file" in said(init=gguf)
    assert "--out: expected the name of a folder" in said(to=directory / "out.safetensors")
    assert "another folder than the one the model was opened from" in said(to=model)
    assert "expected the tokenizer.json of a published model" in said(init=PUBLISHED / "fla_gdn_pure")
    for name in "model.safetensors", "config.json":
        assert "--log: expected a file that is not used otherwise" in said("--log", out / name)
    assert not out.exists() and not (directory / "out.training").exists()
    out.mkdir()
    (out / "model.safetensors").symlink_to(model / "model.safetensors")
    before = (model / "model.safetensors").read_bytes()
    assert "model.safetensors: --out: expected no file of the folder the model was opened from" in said()
    (out / "model.safetensors").unlink()
    shutil.copy(model / "model.safetensors", out)
    assert "model.safetensors: --out: expected a new folder" in said()
    assert before == (model / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").rename(out / "model.safetensors.index.json")
    assert "index.json: --out: expected a folder without a checkpoint in shards" in said()
    (out / "model.safetensors.index.json").unlink()
    run_directory = directory / "out.training"
    run_directory.mkdir()
    shutil.copy(PUBLISHED / "fla_gdn_pure/config.json", run_directory)
    assert "out.training/config.json: --out: expected the config.json of the model" in said()
    shutil.rmtree(run_directory)
    shutil.copy(PUBLISHED / "fla_gdn_pure/config.json", out)
    assert "config.json: --out: expected the config.json of the model that is written, or none" in said()
    config = directory / "config.json"
    config.write_text("{}")
    result = subprocess.run([PROGRAM, "train", "--init", model, "--config", config, "--text", text,
                             "--out", directory / "x"], capture_output=True, text=True)
    assert result.returncode == 2 and "--config" in result.stderr and "--init" in result.stderr


run_checks([understood, read_in_part, every_format, channels_decay, texts_end, text_comes_out, drafted, refused, typed,
            dialogues, tuned, not_tuned])
