"""Images in a row: latency of one, interval between them, with a stem engine and on planes.

By the cycle model, and for some networks in RTL, too. The binary window runs from the first binary
layer's first product to the last one's end, without the cycles that the 8-bit head takes of it.
"""

import dataclasses
import pathlib
import tempfile

import numpy as np
from full_size import ARRAYS, PAIRS, checkpoint_of, images_of

from bivit.compiler import compile
from bivit.compiler.ir import checkpoint
from bivit.sim.cycles import simulate_cycles
from bivit.sim.simulate import simulate
from programs import program_of

__all__ = ["FRAMES", "ROWS", "measure"]

FRAMES = 5
"""Images in a row, so one interval fewer."""
ENGINES = {"bivit_deit_tiny/8x8x64": (96, 1), "bivit_deit_tiny/16x16x64": (384, 2),
           "bivit_deit_small/8x8x64": (52, 1), "bivit_deit_base/8x8x64": (28, 1),
           "bivit_swin_tiny/8x8x64-g8": (14, 1), "bivit_swin_small/8x8x64-g8": (14, 1),
           "binaryvit/8x8x64-g8": (14, 1), "bivit_deit_micro/8x8x64": (32, 2)}
"""Multipliers of the stem engine, and pixels a cycle."""
SIZES = {"bivit_deit_micro": 32}
"""Images that are not of 224x224."""
BATCHES = {"bivit_deit_tiny/16x16x64/batch": 2}
"""Rows whose programs take several images, which share the head; their figures are an image's."""
RTL = ("bivit_deit_tiny/8x8x64/rtl", "bivit_deit_micro/8x8x64/rtl")
ROWS = (*(f"{pair}/{stem}" for pair in PAIRS for stem in ("engine", "planes")),
        *BATCHES, *RTL)
"""Network, array, and who multiplies the pixels; some are run in RTL."""


def measure(rows=ROWS) -> dict:
    """One row for each network, array and stem."""
    with tempfile.TemporaryDirectory() as scratch:
        return {"frames": FRAMES,
                "rows": {row: _row(*row.split("/"), pathlib.Path(scratch)) for row in rows}}


def _row(network, array, stem, scratch):
    arch = ARRAYS[array]
    if stem != "planes":
        macs, simd = ENGINES[f"{network}/{array}"]
        arch = dataclasses.replace(arch, name=f"{array}-stem", stem_macs=macs, stem_simd=simd)
    size = SIZES.get(network, 224)
    path = checkpoint_of(network, scratch, size)
    if stem == "rtl":
        return _row_in_rtl(arch, path, images_of(FRAMES, size), scratch / network)
    batch = BATCHES.get(f"{network}/{array}/{stem}", 1)
    program, figures = program_of(checkpoint.load(path), arch, batch)
    timing = simulate_cycles(arch, program.words, frames=FRAMES)
    intervals = np.diff(timing.frame_cycles).tolist()
    interval = max(intervals) / batch
    window = (figures["binary_cycles"] - figures["spent"]["8-bit layers"]) / batch
    ideal = figures["binary_macs"] / arch.macs_per_cycle / batch
    return {
        "array": f"{arch.rows}x{arch.cols}x{arch.lanes}", "post_rows": arch.post_rows,
        "stem_macs": arch.stem_macs, "stem_simd": arch.stem_simd,
        "batch": batch, "latency": timing.frame_cycles[0], "intervals": intervals,
        "interval_of_image": interval, "binary_window": window,
        "interval_over_window": interval / window,
        "ideal_cycles": ideal, "utilization": figures["utilization"],
        "frames_per_second_at_100_mhz": 1e8 / interval,
        "ideal_frames_per_second_at_100_mhz": 1e8 / ideal,
        "array_cycles": figures["array_cycles"],
        "stem_cycles": sum(row["busy"] for row in figures["layers"]
                           if row["unit"] == "LOAD"),
    }


def _row_in_rtl(arch, path, images, folder):
    compile(path, arch, folder)
    run = simulate(folder, images, in_a_row=True, observe=1)
    return {"array": f"{arch.rows}x{arch.cols}x{arch.lanes}", "stem_macs": arch.stem_macs,
            "stem_simd": arch.stem_simd, "latency": run.frame_cycles[0],
            "intervals": np.diff(run.frame_cycles).tolist(),
            "predicted_intervals": np.diff(run.predicted_frame_cycles).tolist(),
            "mismatches": run.mismatches, "first_mismatch": run.first_mismatch,
            "observation_points": run.observation_points,
            "simulated_cycles_per_second": round(run.simulated_cycles_per_second)}
