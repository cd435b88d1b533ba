"""Seconds, memory and cycles a second of bivit itself on networks for 224x224 images.

Each row is measured in a process of its own, with the load of the machine beside it: wall times are
figures of an idle machine only where that is well below its cores. `processor_seconds` depend
on it less.
"""

import dataclasses
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

from common import load
from full_size import ARRAYS, checkpoint_of, images_of

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.sim.cycles import simulate_cycles
from bivit.sim.rtl_build import build_program
from bivit.sim.simulate import simulate

__all__ = ["ROWS", "measure"]

ARRAY = "8x8x64"
LIMITS = {
    "compile bivit_deit_tiny": {"seconds": 20}, "compile bivit_deit_small": {},
    "compile bivit_deit_base": {"seconds": 120, "peak_gibibytes": 6},
    "iss bivit_deit_tiny": {"seconds": 5}, "cycles bivit_deit_tiny": {},
    "verilator 8x8x64": {"seconds": 120}, "rtl bivit_deit_tiny": {"cycles_per_second": -80_000},
}
"""Row to what is wanted of it: at most, or at least if negative."""
ROWS = tuple(LIMITS)


def measure(rows=ROWS) -> dict:
    """One row for each task."""
    return {"array": ARRAY, "rows": {row: _row(row) for row in rows}}


def _row(row):
    before = load()
    answer = subprocess.run([sys.executable, __file__, *row.split()], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    return {**json.loads(answer.splitlines()[-1]), "limits": LIMITS[row], "load_before": before,
            "load_after": load()}


def _compile(network, folder):
    """The whole of `bivit compile` but the start of Python, from a checkpoint that is there."""
    path = checkpoint_of(network, folder)
    code = ("import json, os, sys, time; begin = time.perf_counter(); "
            "from bivit.compiler import compile; from bivit.hw.arch import Arch; "
            "compile(sys.argv[1], Arch(**json.loads(sys.argv[2])), sys.argv[3]); "
            "print(time.perf_counter() - begin, sum(os.times()[:4])); "
            "print(open('/proc/self/status').read())")
    answer = subprocess.run(
        [sys.executable, "-c", code, path, json.dumps(dataclasses.asdict(ARRAYS[ARRAY])),
         folder / "build"], check=True, capture_output=True, text=True).stdout
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", answer)[1])
    seconds, processor = map(float, answer.split()[:2])
    return {"seconds": seconds, "processor_seconds": processor, "peak_gibibytes": peak / 2**20}


def _iss(network, folder):
    _compiled(network, folder)
    first, second = (simulate(folder / "build", images_of(1), engine="iss", check=False)
                     for _ in range(2))
    return {"seconds": second.wall_seconds, "first_seconds": first.wall_seconds}


def _cycles(network, folder):
    """The cycle model on an encoded program."""
    build = _compiled(network, folder)
    first, second = (_timed(lambda: simulate_cycles(build.arch, build.words)) for _ in range(2))
    return {"seconds": second[0], "processor_seconds": second[1], "first_seconds": first[0]}


def _verilator(array, folder):
    """Translation and C++ compilation on all cores, nothing in the cache."""
    from bivit.hw.accelerator import accelerator_verilog
    verilog = accelerator_verilog(ARRAYS[array])
    os.environ["BIVIT_CACHE"] = str(folder)
    seconds, processor = _timed(lambda: build_program(verilog))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "processor_seconds": processor,
            "peak_gibibytes_of_one": peak / 2**20}


def _rtl(network, folder):
    """One thread; nothing is recorded for comparison."""
    _compiled(network, folder)
    simulate(folder / "build", images_of(1), check=False)  # builds the simulator
    before = os.times()
    run = simulate(folder / "build", images_of(1), check=False)
    after = os.times()
    processor = sum(after[2:4]) - sum(before[2:4])  # of the simulator alone
    return {"cycles_per_second": run.simulated_cycles_per_second, "seconds": run.wall_seconds,
            "processor_seconds": processor, "cycles": run.cycles_per_image}


def _compiled(network, folder):
    compile(checkpoint_of(network, folder), ARRAYS[ARRAY], folder / "build")
    return load_build(folder / "build")


def _timed(work):
    """Seconds, and seconds of processors, children's too."""
    begin, before = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - begin, sum(os.times()[:4]) - before


TASKS = {"compile": _compile, "iss": _iss, "cycles": _cycles, "verilator": _verilator, "rtl": _rtl}


def main():
    task, subject = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(TASKS[task](subject, pathlib.Path(folder))))


if __name__ == "__main__":
    main()
