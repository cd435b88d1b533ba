"""Seconds of an estimate and of a compilation of DeiT-Tiny, both warm; designs a minute."""

import dataclasses
import pathlib
import statistics
import tempfile
import time

from full_size import ARRAYS

from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.cycles import simulate_cycles
from bivit.sim.estimate import predict_cycles

__all__ = ["measure"]

_NETWORK = "bivit_deit_tiny"
_SIZES = ((4, 8), (8, 8), (8, 16), (16, 16))
_DESIGNS = [(*size, lanes, 4) for size in _SIZES for lanes in (32, 64)]
"""Arrays of the designs: rows, columns, lanes, rows of arithmetic lanes."""


def measure() -> dict:
    """Estimate, compilation and their ratio on two arrays; designs a minute on one core."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "net.safetensors"
        convert_random(_NETWORK, 0, path, photographs((3, 224, 224))[:1])
        graph = checkpoint.load(path)
    rows = [_row(graph, ARRAYS[name]) for name in ("8x8x64", "16x16x64")]
    times, cycles = [], []
    for height, columns, lanes, groups in _DESIGNS:
        begin, arch = time.process_time(), dataclasses.replace(
            ARRAYS["8x8x64"], name="design", rows=height, cols=columns, lanes=lanes,
            post_rows=groups, program_depth=1 << 8, weight_depth=1 << 18)
        cycles.append(predict_cycles(graph, arch).cycles)
        times.append(time.process_time() - begin)
    return {"network": _NETWORK, "rows": rows, "designs": len(_DESIGNS), "design_cycles": cycles,
            "design_seconds": statistics.median(times),
            "designs_per_minute_and_core": round(60 * len(_DESIGNS) / sum(times))}


def _row(graph, arch):
    predict_cycles(graph, arch)  # the kernels are loaded
    estimate, found = _timed(lambda: predict_cycles(graph, arch))
    compilation, program = _timed(lambda: lower(graph, arch))
    model, report = _timed(lambda: simulate_cycles(arch, program.words))
    return {"array": arch.name, "cycles": report.cycles, "equal": found.cycles == report.cycles,
            "estimate_seconds": estimate, "lower_seconds": compilation, "model_seconds": model,
            "ratio": round(estimate / (compilation + model), 3)}


def _timed(call):
    """Seconds of a processor, the least of three, and what comes back."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        result = call()
        times.append(time.process_time() - begin)
    return round(min(times), 3), result
