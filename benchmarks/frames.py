"""Whole frames of networks for 224x224 images: utilisation, program size, and one image in RTL.

A simulator takes a minute or two to build, the largest network some minutes to run.
"""

import pathlib
import tempfile
import time

from common import load
from full_size import ARRAYS, PAIRS, ROOM, checkpoint_of, images_of

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.hw.isa import INSTR_BITS
from bivit.sim.report import report
from bivit.sim.simulate import simulate

__all__ = ["ROWS", "measure"]

ROWS = PAIRS
"""Network and array of each row."""


def measure(rows=ROWS) -> dict:
    """One row for each network and array."""
    with tempfile.TemporaryDirectory() as scratch:
        return {"memories": ROOM,
                "rows": {row: _row(*row.split("/"), pathlib.Path(scratch)) for row in rows}}


def _row(network, array, scratch):
    arch, folder, before = ARRAYS[array], scratch / f"{network}-{array}", load()
    checkpoint = checkpoint_of(network, scratch)
    begin = time.perf_counter()
    compile(checkpoint, arch, folder)
    seconds = time.perf_counter() - begin
    found, words = report(folder), len(load_build(folder).words)
    run = simulate(folder, images_of(1), engine="rtl", check=True, observe=1)
    return {
        "array": f"{arch.rows}x{arch.cols}x{arch.lanes}", "post_rows": arch.post_rows,
        "macs_per_cycle": arch.macs_per_cycle, "binary_macs": found["binary_macs"],
        "binary_cycles": found["binary_cycles"], "utilization": found["utilization"],
        "cycles_per_image": found["cycles_per_image"],
        "frames_per_second_at_100_mhz": 1e8 / found["cycles_per_image"],
        "instructions": words, "program_kbit": words * INSTR_BITS / 1024,
        "executed": found["executed"], "compile_seconds": round(seconds, 1),
        "spent": found["spent"], "rtl_cycles_per_image": run.cycles_per_image,
        "mismatches": run.mismatches, "first_mismatch": run.first_mismatch,
        "observation_points": run.observation_points,
        "simulated_cycles_per_second": round(run.simulated_cycles_per_second), "load": before,
    }
