"""Streamed weights: digits in RTL behind memories of 16 and of 128 bits a cycle.

Bits and cycles against PyTorch and the cycle model, for two stated memories and a seeded trace of
stalls; under unknown stalls, bits equal and cycles at least the predicted ones.
"""

import dataclasses
import pathlib
import tempfile

from bivit.compiler import compile
from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.sim.demo import simulate_build
from bivit.sim.external import memory_timing

__all__ = ["measure"]

TARGET, IMAGES = "tiny", 10
PORTS = (16, 128)
MEMORIES = ("latency=32,interval=1", "latency=150,interval=3", "latency=32,interval=1,stalls=1")


def measure() -> dict:
    """One row for each width of the port and memory; one for the constants in ROM."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = {f"{bits} bits": _rows(pathlib.Path(scratch) / str(bits), bits) for bits in PORTS}
        compile(CHECKPOINT, TARGET, pathlib.Path(scratch) / "rom")
        rom = simulate_build(pathlib.Path(scratch) / "rom", count=1)["cycles_per_image"]
    return {"target": TARGET, "images": IMAGES, "rom_cycles": rom, "ports": rows}


def _rows(folder, bits):
    arch = dataclasses.replace(TARGETS[TARGET], name=f"{TARGET}-streamed", weights="streamed",
                               port_bits=bits)
    compile(CHECKPOINT, arch, folder)
    runs = {text: simulate_build(folder, count=IMAGES, check=True, memory=memory_timing(text))
            for text in MEMORIES}
    runs["unknown stalls"] = simulate_build(folder, count=IMAGES, check=True, stall_seed=1)
    return {name: {key: run[key] for key in ("mismatches", "first_mismatch", "cycles_per_image",
                                             "predicted_cycles_per_image")}
            for name, run in runs.items()}
