#!/usr/bin/env python3
"""What the program is given and must refuse: files, paths and disks. Arguments as check_program.py.

Every refusal is one line that names the file, the field, what was expected and found, and the mend;
none takes memory that its file does not; a file that was there before is there afterwards.
"""

import functools
import itertools
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from program import GOLDEN, PROGRAM, TEXT, initialised, json_of, refusal, run, run_checks

NOBODY = 65534


def refused(parts, *arguments, **options):
    line = refusal(*arguments, **options)
    missing = [part for part in map(str, parts) if part not in line]
    assert line.startswith("hydralm: ") and not missing, f"{missing} not in: {line}"


def within(bytes_of_memory):
    """The process gets no more address space than this."""
    return functools.partial(resource.setrlimit, resource.RLIMIT_AS, (bytes_of_memory,) * 2)


def safetensors(header, data=b""):
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parts_of(model):
    """(header, data) of a safetensors file."""
    content = model.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def scoring(directory):
    """A model, and the command that reads it."""
    ids = directory / "ids"
    ids.write_text("1 2 3")
    model = initialised(directory)
    return model, ("score", "--model", model, "--ids", ids)


def headers(directory):
    """Files of tensors whose bytes do not say what they should."""
    model, score = scoring(directory)
    good = model.read_bytes()
    header, data = parts_of(model)
    name = [name for name in header if name != "__metadata__"][1]  # one lies before it

    def case(content, *parts):
        model.write_bytes(content)
        refused([model, *parts], *score, preexec_fn=within(2**30))

    def changed(*parts, **fields):
        case(safetensors({**header, name: {**header[name], **fields}}, data), name, *parts)

    first, last = header[name]["data_offsets"]
    case(b"1234567", "at least the 8 bytes", "found 7 bytes", "cut off")
    case(struct.pack("<Q", 100_000_001) + good[8:], "header: expected at most 100000000 bytes",
         "found 100000001")
    case(struct.pack("<Q", 100_000_000) + good[8:], "header: expected 100000000 bytes, found",
         "before the end of file")
    case(struct.pack("<Q", 2**64 - 1) + good[8:], "at most 100000000 bytes")
    case(good[:-1], "data up to byte", "cut off")
    case(good + b"x", "bytes of data", "belong to no tensor")
    case(safetensors("[]"), "JSON that starts with {")
    case(safetensors('{"a":}'), "header: expected JSON")
    case(safetensors('{"a":{},"a":{}}'), "header: expected each key once", '"a" twice')
    case(safetensors('{"%s":3}' % (r"a\u001b[2J\n" + "b" * 5000)), ": a?[2J?bbb", "bbb...: expected")
    changed("tensors overlap", data_offsets=[first - 4, last - 4])
    changed("expected", "bytes for F32 of shape", data_offsets=[first, last + 4])
    changed("with begin <= end", data_offsets=[last, first])
    changed("a list of whole numbers", data_offsets=[first, 2**64])
    changed("a list of whole numbers", data_offsets=[-4, last])
    case(safetensors({**header, name: {**header[name],
                                       "data_offsets": [2**63, 2**63 + last - first]}}, data),
         "a hole")  # where the tensor was
    changed("less than 2^63 bytes", shape=[2**32, 2**32])
    changed("less than 2^63 bytes", shape=[0, 2**40, 2**40])
    changed("less than 2^63 bytes", shape=[2**64 - 1])
    changed("expected shape", shape=[1, *header[name]["shape"]])
    changed("bytes for F32 of shape [1, 1, 1", shape=[1] * 65536)
    changed('a dtype such as F32', 'found "F128"', dtype="F128")
    changed("only dtype, shape and data_offsets", more=1)
    case(safetensors({name: value for name, value in header.items() if name != "__metadata__"},
                     data), "hydra_config", "found neither", "config.json")
    case(safetensors({**header, "__metadata__": {"hydra_config": '{"d_model": 1.5}'}}, data),
         "hydra_config: d_model: expected a whole number, found 1.5")
    del header[name]
    case(safetensors({"__metadata__": header["__metadata__"]}), "missing", "this configuration")


def floods(directory):
    """Small files that would take a great deal, and a large one that need not."""
    model, score = scoring(directory)
    deep, wide = 100_000 * "[", "[" + 5_000_000 * "1," + "1]"

    def case(content, *parts, asked=score, at=model):
        at.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused([at, *parts], *asked, preexec_fn=within(2**29))

    for hostile, part in ((deep + "1" + 100_000 * "]", "at most 16 lists and objects"),
                          (100_000 * '{"a":' + "1" + 100_000 * "}", "at most 16 lists and objects"),
                          (wide, "at most 1000000 values")):
        case(safetensors('{"a":' + hostile + "}"), "header: expected", part)
        case('{"weight_map":' + hostile + "}", part, at=directory / "a.json",
             asked=("score", "--model", directory / "a.json", "--ids", directory / "ids"))
        case(hostile, part, at=directory / "stages",
             asked=("train", "--task", "mqar", "--stages", directory / "stages", "--out",
                    directory / "out.safetensors"))
        case(safetensors({"__metadata__": {"hydra_config": hostile}}), "hydra_config: expected",
             part)
    # Shapes of nothing, whose other extents are large.
    empty = {"dtype": "F32", "data_offsets": [0, 0]}
    tensors = {"q": [2**40, 0, 64], "k": [2**40, 0, 64], "v": [2**40, 0, 64], "beta": [2**40, 0],
               "alpha": [2**40, 0], "x": [2**40, 0], "short_conv.conv.weight": [3, 1, 0]}
    content = safetensors({name: {**empty, "shape": shape} for name, shape in tensors.items()})
    for kernel, part in (("delta_rule", "q: expected [H,N,D] with at least one"),
                         ("retrieval", "neither empty")):
        case(content, part, asked=("kernel", kernel, "--in", model, "--out", directory / "out"))
    # Heads so wide that their states would take gigabytes.
    wide = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 32000]}
            for name, shape in {"q": [1, 1, 16000], "k": [1, 1, 16000], "v": [1, 1, 16000]}.items()}
    for i, name in enumerate(wide):
        wide[name]["data_offsets"] = [32000 * i, 32000 * (i + 1)]
    for i, name in enumerate(("beta", "alpha")):
        wide[name] = {"dtype": "F16", "shape": [1, 1],
                      "data_offsets": [96000 + 2 * i, 96002 + 2 * i]}
    case(safetensors(wide, bytes(96000) + b"\0\x3c" * 2), "q: expected a head dimension of 16, 32",
         "found 16000", asked=("kernel", "delta_rule", "--in", model, "--out", directory / "out"))
    many = ",".join('"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i
                    for i in range(50_000))
    case(safetensors("{" + many + "}"), "q: expected a tensor of this name, found 50000 others",
         asked=("kernel", "delta_rule", "--in", model, "--out", directory / "out"))


def weights(directory):
    """Weights in every dtype; those that are not finite are named in a warning."""
    model, score = scoring(directory)
    header, data = parts_of(model)
    metadata = header.pop("__metadata__")
    name = "embed.weight"

    def warning(code, dtype, *values):
        """What is said of the model when embed.weight is in this dtype and begins with values."""
        begin, end = header[name]["data_offsets"]
        floats = [*values, *struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])[len(values):]]
        if dtype == "BF16":
            packed = b"".join(struct.pack("<f", x)[2:] for x in floats)
        else:
            packed = struct.pack(f"<{len(floats)}{code}", *floats)
        entries, content, place = {"__metadata__": metadata}, b"", 0
        for tensor, entry in header.items():
            first, last = entry["data_offsets"]
            part = packed if tensor == name else data[first:last]
            entries[tensor] = {**entry, "data_offsets": [place, place + len(part)]}
            place, content = place + len(part), content + part
        entries[name]["dtype"] = dtype
        model.write_bytes(safetensors(entries, content))
        result = subprocess.run([PROGRAM, *map(str, score)], capture_output=True, text=True)
        return result.stderr.splitlines(), result.stdout

    infinite, nan = float("inf"), float("nan")
    exact = warning("f", "F32")
    assert exact[0] == [] and warning("d", "F64") == exact, exact
    for code, dtype, value in (("e", "F16", 2.0**-24), ("f", "BF16", 2.0**-133), ("d", "F64", 1e-300)):
        assert warning(code, dtype, value, -value)[0] == [], dtype
    for code, dtype, value in itertools.chain(
            itertools.product(["f"], ["F32", "BF16"], [infinite, nan]),
            [("e", "F16", -infinite), ("e", "F16", nan), ("d", "F64", 1e300), ("d", "F64", nan)]):
        (line, *rest), _ = warning(code, dtype, value)
        assert line.startswith(f"warning: hydralm: {model}: {name}: expected finite weights, found "
                               f"NaN or infinity in 1 tensor ({name}); "), line
        assert all("expected a finite number" in line for line in rest), rest
    assert warning("e", "F16", 1.0)[1] != "", "F16 weights give no score"


def shards(directory):
    model, score = scoring(directory)
    expected = run(*score)
    header, data = parts_of(model)
    metadata = header.pop("__metadata__")
    names = list(header)
    parts = names[:3], names[3:]
    for i, part in enumerate(parts):
        entries, content = {"__metadata__": metadata}, b""
        for name in part:
            first, last = header[name]["data_offsets"]
            entries[name] = {**header[name], "data_offsets": [len(content), len(content) + last - first]}
            content += data[first:last]
        (directory / f"{i}.safetensors").write_bytes(safetensors(entries, content))
    index = directory / "model.safetensors.index.json"
    lines = {name: f"{i}.safetensors" for i, part in enumerate(parts) for name in part}
    index.write_text(json.dumps({"weight_map": lines}))
    of_index = ("score", "--model", index, "--ids", directory / "ids")
    of_directory = ("score", "--model", directory, "--ids", directory / "ids")
    refused([directory, "found both"], *of_directory)
    model.unlink()
    assert run(*of_index) == run(*of_directory) == expected
    (directory / "1.safetensors").rename(directory / "elsewhere")
    refused([index, "1.safetensors: expected every shard beside the index", "no such file",
             "copy or download the missing shard"], *of_index)
    (directory / "1.safetensors").mkdir()
    refused(["1.safetensors: expected a regular file, found a directory"], *of_index)
    index.write_text(json.dumps({"weight_map": {**lines, "a": "../1"}}))
    refused([index, "a: expected the name of a file beside the index"], *of_index)
    index.unlink()
    refused([directory, "found neither"], *of_directory)


def readers(model, directory):
    """Every option that names a file to read: what it is, and a command that ends with its value."""
    out = ("--out", directory / "new" / "out")
    ids = directory / "ids"
    with_ids = ("--model", model, "--ids", ids)
    return {
        "ids": [("logits", *out, "--model", model, "--ids"), ("score", "--model", model, "--ids"),
                ("gradients", *out, "--model", model, "--ids"),
                ("generate", "--tokens", 1, "--model", model, "--ids")],
        "text": [("score", "--model", model, "--text"), ("stream", "--model", model, "--text")],
        "model": [("logits", *out, "--ids", ids, "--model"), ("score", "--ids", ids, "--model"),
                  ("generate", "--tokens", 1, "--ids", ids, "--model"),
                  ("generate", "--tokens", 1, *with_ids, "--draft"),
                  ("stream", "--text", ids, "--model"),
                  ("gradients", *out, "--ids", ids, "--model"),
                  ("task", "mqar", "--evaluate", "--model")],
        "tensors": [("kernel", "delta_rule", *out, "--in"), ("kernel", "retrieval", *out, "--in")],
        "stages": [("train", *out, "--task", "mqar", "--stages")],
        "corpus": [("train", *out, "--text")],
    }


def read_paths(directory):
    """Missing, empty and unreadable files, a directory where a file is expected."""
    directory.chmod(0o755)
    program = directory / "hydralm"  # where a user without rights can run it
    shutil.copy(PROGRAM, program)
    model = initialised(directory)
    (directory / "ids").write_text("1 2 3")
    empty, locked, folder = directory / "empty", directory / "locked", directory / "folder"
    empty.touch()
    locked.write_text("1 2 3")
    locked.chmod(0)
    folder.mkdir()
    for kind, commands in readers(model, directory).items():
        for command in commands:
            refused([directory / "none", "No such file"], *command, directory / "none")
            if kind == "corpus":
                refused([folder, "at least one byte of text"], *command, folder)
            else:
                found = "neither" if kind == "model" else "a directory"
                refused([folder, f"found {found}"], *command, folder)
            refused([empty, "expected", "found"], *command, empty)
            refused([locked, "Permission denied", "permissions"], *command, locked,
                    executable=program, **({"user": NOBODY} if os.geteuid() == 0 else {}))
    assert not (directory / "new").exists(), "a refused command made a directory"
    refused(["--prompt: expected a text with at least one byte"],
            "generate", "--model", model, "--tokens", 1, "--prompt", "")
    text = directory / "text"
    for length in 1, 2, 3, 20, 256:
        text.write_text("x" * length)
        refused(["expected", "bytes"], "train", "--text", text, "--out", directory / "out")
    text.write_text(TEXT)
    refused([directory / "none", "a checkpoint, step-<number>.train", "found none"], "train",
            "--text", text, "--batch", 1, "--seq-len", 1, "--out", directory / "out",
            "--resume", directory / "none")
    assert not (directory / "none").exists(), "--resume made a directory"


def ids(directory):
    model, _ = scoring(directory)
    path = directory / "ids"
    commands = readers(model, directory)["ids"]
    for content, parts in {
            b"": ["ids: expected at least one, found none", "decimal integers"],
            b" \n\t": ["ids: expected at least one, found none"],
            b"1 2 x": ["id 2: expected an integer in [0, 256), found 'x'"],
            b"1 -2": ["id 1: expected an integer in [0, 256), found '-2'"],
            b"256": ["id 0", "found '256'", "vocabulary"],
            b"1 2.0": ["id 1", "found '2.0'"],
            b"0x10": ["id 0", "found '0x10'"],
            b"1,2": ["id 0", "found '1,2'"],
            b"99999999999999999999999": ["id 0", "found '99999999999999999999999'"],
            b"18446744073709551617": ["id 0", "found '18446744073709551617'"],
            b"1" * 100_000: ["id 0", "found '" + "1" * 40 + "'"],
            b"1 \0": ["id 1", "found '?'"],
            b"1 2\0 3": ["id 1", "found '2?'"],
            b"\xef\xbb\xbf1 2": ["id 0", "found a byte-order mark before it", "plain text"],
            b"1 \xef\xbb\xbf2": ["id 1", "found '?2'"],
            "1\u00a02".encode(): ["id 0", "found '1?2'"],
            "1 \u200b2".encode(): ["id 1", "found '?2'"],
            b"\xff\xfe1": ["id 0"],
            b"\x1b[2J": ["id 0", "found '?[2J'"]}.items():
        path.write_bytes(content)
        for command in commands:
            line = subprocess.run([PROGRAM, *map(str, command), path], capture_output=True)
            text = line.stderr.decode("utf-8", "replace")
            assert line.returncode == 1 and len(text.splitlines()) == 1, text
            assert all(part in text for part in [str(path), *parts]), text
    for command in commands:
        refused(["/dev/zero: id 0: expected an integer"], *command, "/dev/zero",
                preexec_fn=within(2**29))
    path.write_text("\r\n 007\t8 \f")
    assert json_of(*commands[1], path)["tokens"] == 2


def text(directory):
    """Any bytes are text; what is written for a person is UTF-8 all the same."""
    model, _ = scoring(directory)
    path = directory / "text"
    path.write_bytes(bytes(range(256)) + b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf" + b"\xe2\x82")
    assert json_of("score", "--model", model, "--text", path)["tokens"] == 256 + 11
    assert json_of("stream", "--model", model, "--text", path)["tokens"] == 256 + 11
    endless = json_of("stream", "--model", model, "--text", "/dev/zero", "--tokens", 100)
    assert endless["tokens"] == 100, endless
    run("generate", "--model", model, "--ids", directory / "ids", "--tokens", 50, "--temperature",
        2, "--seed", 5).decode("utf-8")
    # os.fsencode turns the surrogate into the byte 0xff, which is no UTF-8.
    run("generate", "--model", model, "--prompt", "\udcff", "--tokens", 1).decode("utf-8")


def stages(directory):
    path = directory / "stages"
    good = {"length": 32, "pairs": 2, "queries": 2, "batch": 8, "steps": 1}
    for content, *parts in (
            ("", "an empty file"), ("{", "expected JSON"),
            ("\ufeff" + json.dumps([good]), "expected JSON, found a byte-order mark before it"),
            (json.dumps([good]) + "\0", "expected JSON, found a zero byte at"), ("{}", "a list of stages, found {}"),
            ("[]", "a list of stages, found []"), ("[3]", "stage 0: expected an object, found 3"),
            ('[{"length":1,"length":2}]', "each key once"),
            *(([{**good, field: value}], f"stage 0: {field}: expected a whole number in [1, 2^40]",
               f"found {json.dumps(value)}")
              for field in good for value in (0, -1, 1.5, "1", None, 2**40 + 1, 2**63)),
            *(([good, {key: value for key, value in good.items() if key != field}],
               f"stage 1: {field}: expected a number, found nothing") for field in good),
            ([{**good, "skip_deltanet": 1}], "skip_deltanet: expected true or false, found 1"),
            ([{**good, "facts": 1}], "stage 0: facts: expected only the fields of a stage"),
            ([{**good, "length": 4}], "stage 0: length: expected at least 8"),
            ([{**good, "pairs": 2**40}], "stage 0: facts: expected 1 to"),
            ([{**good, "batch": 2**40}], "batch: expected 1 to 2^20 sequences")):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        refused(parts, "train", "--task", "mqar", "--stages", path, "--out", directory / "out")
    assert {entry.name for entry in directory.iterdir()} == {"stages"}


def writers(model, directory):
    """Every command that writes a file, without the file."""
    with_ids = ("--model", model, "--ids", directory / "ids")
    return [("init", "--out"), ("logits", *with_ids, "--out"), ("gradients", *with_ids, "--out"),
            ("train", "--text", directory / "text", "--steps", 1, "--batch", 1, "--seq-len", 8,
             "--out"),
            ("kernel", "delta_rule", "--in", GOLDEN / "delta_rule" / "d128_n33.safetensors", "--out"),
            ("kernel", "retrieval", "--in", GOLDEN / "retrieval" / "c8_k2.safetensors", "--out")]


def write_paths(directory):
    """Where nothing can be written nothing is, and nothing is left behind."""
    model = initialised(directory)
    (directory / "ids").write_text("1 2 3")
    (directory / "text").write_text(TEXT)
    (directory / "folder").mkdir()
    before = sorted(directory.rglob("*"))
    for command in writers(model, directory):
        refused([directory / "folder", "found a directory"], *command, directory / "folder")
        refused([directory / "ids", "Not a directory", "choose one you may write"],
                *command, directory / "ids" / "out")
        refused(["/dev/null", "found a device"], *command, "/dev/null")
        refused(["/proc/out", "No such file"], *command, "/proc/out")
        refused(["the path of a file, found none"], *command, "")
        if command[0] != "train":  # which makes the directory of its checkpoints
            refused([directory / "none", "No such file", "create the directory"],
                    *command, directory / "none" / "out")
        assert sorted(directory.rglob("*")) == before, f"{command} left something behind"


def output(directory):
    """Output that cannot be written ends a command, however much is to come; closed streams are no
    file's; nothing takes the place of what it is made from."""
    model = initialised(directory)
    ids, text = directory / "ids", directory / "text"
    ids.write_text("1 2 3")
    text.write_text(TEXT)
    endless = ("--tokens", 10**9, "--prompt", "It")
    for command in (["score", "--model", model, "--ids", ids], ["--help"], ["--version"],
                    ["generate", "--model", model, *endless],
                    ["task", "mqar", "--print", "--count", 10**9, "--lengths", 64]):
        with open("/dev/full", "w") as full:
            line = refusal(*command, stdout=full, timeout=60)
        assert line.startswith("hydralm: standard output: expected to be writable"), line
    out = directory / "out"
    command = [PROGRAM, "logits", "--model", model, "--ids", ids, "--out", out]
    subprocess.run(command, check=True)
    expected = out.read_bytes()
    out.unlink()
    subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], check=True)
    assert out.read_bytes() == expected
    for command in (["info"], ["score", "--model", model, "--ids", ids],
                    ["generate", "--model", model, "--prompt", "It", "--tokens", 1]):
        result = subprocess.run(["sh", "-c", '"$@" >&-', "sh", PROGRAM, *map(str, command)],
                                capture_output=True, text=True)
        assert result.returncode == 1 and "standard output" in result.stderr, (command, result)
    corpus = directory / "corpus"
    (corpus / "deep").mkdir(parents=True)
    (corpus / "deep" / "part").write_text(TEXT)
    stages = directory / "stages"
    stages.write_text(json.dumps(
        [{"length": 32, "pairs": 2, "queries": 2, "batch": 8, "steps": 1}]))
    kernel = directory / "kernel.safetensors"
    kernel.write_bytes((GOLDEN / "delta_rule" / "d16_n7.safetensors").read_bytes())
    of_model = ["--model", model, "--ids", ids]
    training, task = ["train", "--steps", 1, "--text"], ["train", "--task", "mqar", "--stages"]
    for command, read in ((["logits", *of_model], ids), (["logits", *of_model], model),
                          (["gradients", *of_model], ids), (["gradients", *of_model], model),
                          (["kernel", "delta_rule", "--in", kernel], kernel),
                          ([*training, text], text), ([*training, directory / "none", text], text),
                          ([*training, corpus], corpus / "deep" / "part"),
                          ([*task, stages], stages)):
        before = read.read_bytes()
        here = read.parent / "." / read.name
        refused([here, "--out: expected a file that is not used otherwise, found the same as"],
                *command, "--out", here)
        assert read.read_bytes() == before
    for read in (text, model):
        before = read.read_bytes()
        refused([read, "--log: expected a file that is not used otherwise, found the same as"],
                *training, text, "--init", model, "--out", out, "--log", read)
        assert read.read_bytes() == before
    run(*training, text, "--init", model, "--out", model)  # what it becomes


# A process in a mount namespace of its own, where it may mount what it likes.
APART = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount"]
# $1: directory, $2: where the outcome goes, $3: options of the disk, $4: options once it is filled.
ON_A_DISK = """
    mount -t tmpfs tmpfs /mnt && cp -a "$1/." /mnt && mount -t tmpfs -o "$3" tmpfs "$1" &&
    cp -a /mnt/. "$1" && mount -o "remount,bind,$4" "$1" && mkdir "$2" || exit 99
    here=$1 there=$2; shift 4; "$@"; code=$?
    cp -a "$here/." "$there" && exit $code"""


def on_a_disk(size, then, directory, command):
    """Runs a command with the directory's files on a disk of this size, remounted with an option;
    (exit status, last line of its errors, the files it left there)."""
    after = directory.with_name("after")
    shutil.rmtree(after, ignore_errors=True)
    result = subprocess.run([*APART, "sh", "-c", ON_A_DISK, "sh", directory, after, f"size={size}",
                             then, PROGRAM, *map(str, command)], capture_output=True, text=True)
    left = {path.name: path.read_bytes() for path in after.rglob("*") if path.is_file()}
    return result.returncode, result.stderr.splitlines()[-1], left


def disks(directory):
    """A disk that is full or may not be written: an error, the files on it as they were."""
    disk = directory / "disk"
    disk.mkdir()
    model = initialised(directory)
    (directory / "ids").write_text(" ".join(["7"] * 1200))
    (directory / "text").write_text(TEXT)
    target = disk / "old.safetensors"
    for command in writers(model, directory):
        size, old = ("8k", 4000) if command[0] == "kernel" else ("600k", 250_000)
        target.write_bytes(b"x" * old)
        for size, then, found in ((size, "rw", "No space left"),
                                  ("16m", "ro", "Read-only file system")):
            code, last, left = on_a_disk(size, then, disk, [*command, target])
            assert code == 1 and found in last and str(disk) in last, (command, code, last)
            assert left == {target.name: target.read_bytes()}, (command, left.keys())


checks = [headers, floods, weights, shards, read_paths, ids, text, stages, write_paths, output]
if subprocess.run([*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode == 0:
    checks.append(disks)
else:
    print("nothing can be mounted here: full disks are tested by a limit of file sizes only")
run_checks(checks)
