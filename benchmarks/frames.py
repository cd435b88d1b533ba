"""Whole frames of networks for 224x224 images: utilisation, program size, and one image in RTL.

Weights are random; memories are as large as the largest network asks for. The simulators take a
minute or two each to build, DeiT-Base a few minutes to run.
"""

import pathlib
import tempfile
import time

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.hw.arch import Arch
from bivit.hw.isa import INSTR_BITS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.report import report
from bivit.sim.simulate import simulate

__all__ = ["ARRAYS", "NETWORKS", "measure"]

_ROOM = {
    "pop_stages": 2, "program_depth": 1 << 16, "thr_depth": 1 << 16,
    "scale_depth": 1 << 16, "norm_depth": 1 << 16, "pos_depth": 1 << 16, "bend_depth": 1 << 16,
    "bias_depth": 1 << 16, "imem_depth": 1 << 16, "xmem_depth": 1 << 16, "hmem_depth": 1 << 16,
    "pmem_depth": 1 << 14, "bmem_depth": 1 << 16, "kmem_depth": 1 << 14, "pv_depth": 1 << 12,
    "resid_depth": 1 << 16, "vmem_depth": 1 << 16, "sums_depth": 1 << 8,
}
ARRAYS = {arch.name: arch for arch in (
    Arch(name="8x8x64", rows=8, cols=8, lanes=64, tile_rows=4, tile_cols=4, post_rows=3,
         weight_depth=1 << 18, **_ROOM),
    Arch(name="8x8x64-g8", rows=8, cols=8, lanes=64, tile_rows=4, tile_cols=4, post_rows=8,
         weight_depth=1 << 18, **_ROOM),
    Arch(name="16x16x64", rows=16, cols=16, lanes=64, tile_rows=4, tile_cols=4, post_rows=6,
         weight_depth=1 << 16, **_ROOM),
)}
"""Arrays by name: rows, columns, lanes, and the rows of arithmetic lanes where they differ."""
NETWORKS = {"bivit_deit_tiny": ("8x8x64", "16x16x64"), "bivit_deit_small": ("8x8x64",),
            "bivit_deit_base": ("8x8x64",), "bivit_swin_tiny": ("8x8x64-g8",),
            "bivit_swin_small": ("8x8x64-g8",), "binaryvit": ("8x8x64-g8",)}
"""Networks, and the arrays that each runs on."""


def measure(networks=NETWORKS) -> dict:
    """One row for each network and array."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for network, arrays in networks.items():
            images, checkpoint = photographs((3, 224, 224))[:1], scratch / f"{network}.safetensors"
            convert_random(network, 0, checkpoint, images)
            for array in arrays:
                folder = scratch / f"{network}-{array}"
                rows.append(_row(network, ARRAYS[array], checkpoint, images, folder))
    return {"memories": {name: getattr(ARRAYS["8x8x64"], name) for name in _ROOM}, "rows": rows}


def _row(network, arch, checkpoint, images, folder):
    begin = time.perf_counter()
    compile(checkpoint, arch, folder)
    seconds = time.perf_counter() - begin
    found, words = report(folder), len(load_build(folder).words)
    run = simulate(folder, images.numpy(), engine="rtl", check=True, observe=1)
    return {
        "network": network, "array": arch.name, "post_rows": arch.post_rows,
        "macs_per_cycle": arch.macs_per_cycle, "binary_macs": found["binary_macs"],
        "binary_cycles": found["binary_cycles"], "utilization": found["utilization"],
        "cycles_per_image": found["cycles_per_image"],
        "frames_per_second_at_100_mhz": 1e8 / found["cycles_per_image"],
        "instructions": words, "program_kbit": words * INSTR_BITS / 1024,
        "executed": found["executed"], "compile_seconds": round(seconds, 1),
        "spent": found["spent"], "rtl_cycles_per_image": run.cycles_per_image,
        "mismatches": run.mismatches, "first_mismatch": run.first_mismatch,
        "observation_points": run.observation_points,
        "simulated_cycles_per_second": round(run.simulated_cycles_per_second),
    }
