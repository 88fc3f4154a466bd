"""The products of matmul_benchmark beside OpenBLAS and PyTorch, where they are installed.

Every row is measured in turn, ours and the others' behind each other, several times over; a figure is
the median. An OpenBLAS that does not know the processor takes kernels of an older one; it is told of
AVX-512 where there is, unless OPENBLAS_CORETYPE says something else.
"""

import argparse
import ctypes
import ctypes.util
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import time

TURNS = 5
ROW = re.compile(r"(?P<kind>prefill|decode)/(?P<dtype>float|bf16)/(?P<threads>\d+)/(?P<rows>\d+)/"
                 r"(?P<inputs>\d+)/(?P<outputs>\d+)/real_time")


def seconds_of(run, least=0.2):
    """Of one call: the mean of as many as take `least` seconds, behind one that is not counted."""
    run()
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < least:
        run()
        count += 1
    return passed / count


class OpenBlas:
    """y = x Wᵀ by cblas_sgemm."""

    name, dtypes = "OpenBLAS", ("float",)

    def __init__(self):
        if "avx512f" in pathlib.Path("/proc/cpuinfo").read_text():
            os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
        self.library = ctypes.CDLL(ctypes.util.find_library("openblas") or "libopenblas.so.0")
        self.library.openblas_get_config.restype = ctypes.c_char_p
        self.version = self.library.openblas_get_config().decode().strip()

    @staticmethod
    def numbers(count):
        few = (ctypes.c_float * 4096)(*(random.uniform(-1, 1) for _ in range(4096)))
        made = (ctypes.c_float * count)()
        for begin in range(0, count, 4096):
            ctypes.memmove(ctypes.byref(made, 4 * begin), few, 4 * min(4096, count - begin))
        return made

    def product(self, dtype, threads, rows, inputs, outputs):
        self.library.openblas_set_num_threads(threads)
        x, w, y = (self.numbers(n) for n in (rows * inputs, outputs * inputs, rows * outputs))
        row_major, as_is, transposed = 101, 111, 112
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        return lambda: self.library.cblas_sgemm(row_major, as_is, transposed, rows, outputs, inputs, one,
                                                x, inputs, w, inputs, zero, y, outputs)


class PyTorch:
    """y = x Wᵀ by torch.mm, into a tensor that exists."""

    name, dtypes = "PyTorch", ("float", "bf16")

    def __init__(self):
        import torch
        self.torch = torch
        self.version = f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"

    def product(self, dtype, threads, rows, inputs, outputs):
        torch = self.torch
        torch.set_num_threads(threads)
        kind = {"float": torch.float32, "bf16": torch.bfloat16}[dtype]
        x, w = torch.randn(rows, inputs).to(kind), torch.randn(outputs, inputs).to(kind)
        y, turned = torch.empty(rows, outputs, dtype=kind), w.t()

        def run():
            with torch.inference_mode():
                torch.mm(x, turned, out=y)
        return run


def installed():
    """The peers there are, and what is missing."""
    found, missing = [], []
    for kind in (OpenBlas, PyTorch):
        try:
            found.append(kind())
        except (ImportError, OSError) as error:
            missing.append(f"{kind.name} is not installed: {error}")
    return found, missing


def our_rows(program, chosen):
    names = subprocess.run([program, "--benchmark_list_tests"], text=True, check=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    return [(name, match) for name in names if (match := ROW.fullmatch(name)) and re.search(chosen, name)]


def our_seconds(program, name):
    said = subprocess.run([program, f"--benchmark_filter=^{name}$", "--benchmark_format=json"], text=True,
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    (row,) = json.loads(said)["benchmarks"]
    return row["real_time"] * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[row["time_unit"]]


def figures(program, name, shape, peers):
    """{who: median seconds}"""
    dtype, sizes = shape["dtype"], [int(shape[key]) for key in ("threads", "rows", "inputs", "outputs")]
    calls = {peer.name: peer.product(dtype, *sizes) for peer in peers if dtype in peer.dtypes}
    taken = {who: [] for who in ("HydraLM", *calls)}
    for _ in range(TURNS):
        taken["HydraLM"].append(our_seconds(program, name))
        for who, call in calls.items():
            taken[who].append(seconds_of(call))
    return {who: statistics.median(times) for who, times in taken.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("rows", nargs="?", default="", help="regular expression: those rows only")
    options = parser.parse_args()
    peers, missing = installed()
    names = ["HydraLM", *(peer.name for peer in peers)]
    lines = [*(f"{peer.name}: {peer.version}" for peer in peers), *missing, "",
             "GFLOP/s of products of M rows; of HydraLM's, the last column says how many times the best "
             "of the others.", "",
             "| product | threads | M × in × out | " + " | ".join(names) + " | ratio |",
             "|---|---:|---:|" + "---:|" * (len(names) + 1)]
    print("\n".join(lines), flush=True)
    for name, match in our_rows(options.program, options.rows):
        shape = match.groupdict()
        if int(shape["threads"]) > os.cpu_count():
            continue
        found = figures(options.program, name, shape, peers)
        rows, inputs, outputs = (int(shape[key]) for key in ("rows", "inputs", "outputs"))
        speed = {who: 2e-9 * rows * inputs * outputs / taken for who, taken in found.items()}
        best = max((s for who, s in speed.items() if who != "HydraLM"), default=None)
        cells = [f"{speed[who]:.1f}" if who in speed else "–" for who in names]
        cells.append(f"{speed['HydraLM'] / best:.2f}" if best else "–")
        lines.append(f"| {shape['kind']}, {shape['dtype']} | {shape['threads']} "
                     f"| {rows} × {inputs} × {outputs} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
