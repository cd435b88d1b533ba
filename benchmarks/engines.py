"""Simulated cycles per second: RTL, instruction-set simulator, cycle model; medians of three."""

import pathlib
import statistics
import tempfile
import time

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.hw.targets import DEFAULT
from bivit.models.digits import CHECKPOINT
from bivit.sim.cycles import simulate_cycles
from bivit.sim.demo import simulate_build

__all__ = ["measure"]

IMAGES = {"rtl": 360, "iss": 360}


def measure() -> dict:
    """The demo's build on the default target."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "build"
        compile(CHECKPOINT, DEFAULT, folder)
        speed = {}
        for engine, count in IMAGES.items():
            speed[engine] = statistics.median(
                simulate_build(folder, count=count, engine=engine)["simulated_cycles_per_second"]
                for _ in range(3))
        build = load_build(folder)
        start = time.perf_counter()
        cycles = simulate_cycles(build.arch, build.words).cycles
        speed["cycle model"] = cycles / (time.perf_counter() - start)
    return {"target": DEFAULT, "images": IMAGES, "cycles_per_second": speed,
            "iss_over_rtl": speed["iss"] / speed["rtl"]}
