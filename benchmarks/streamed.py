"""Streamed weights: a frame of DeiT-Tiny in RTL behind memories of 16 and of 128 bits a cycle.

Bits and cycles against PyTorch and the cycle model, for two stated memories and a seeded trace of
stalls; under unknown stalls, bits equal and cycles at least the predicted ones. Beside it, the
cycles of the same array with all constants in ROM.
"""

import dataclasses
import pathlib
import tempfile

from bivit.compiler import compile
from bivit.compiler.build import load_build
from bivit.hw.arch import Arch
from bivit.hw.isa import INSTR_BITS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.external import memory_timing
from bivit.sim.report import report
from bivit.sim.simulate import simulate

__all__ = ["ROWS", "measure"]

NETWORK = "bivit_deit_tiny"
ROWS = ("16 bits", "128 bits")
"""Widths of the port."""
MEMORIES = ("latency=32,interval=1", "latency=150,interval=3", "latency=32,interval=1,stalls=1")
ARRAY = Arch(
    name="8x8x64-streamed", rows=8, cols=8, lanes=64, tile_rows=4, tile_cols=4, post_rows=3,
    pop_stages=2, weights="streamed", program_depth=128, weight_depth=3072, thr_depth=512,
    scale_depth=256, norm_depth=128, pos_depth=2048, bend_depth=16, bias_depth=16, imem_depth=256,
    xmem_depth=256, hmem_depth=512, pmem_depth=512, bmem_depth=512, kmem_depth=16, pv_depth=64,
    resid_depth=2048, vmem_depth=16, sums_depth=2)
"""An array with room for the values of DeiT-Tiny, and for the weights of two layers."""
ROM = dataclasses.replace(ARRAY, name="8x8x64-rom", weights="rom", weight_depth=1 << 14,
                          thr_depth=1 << 11, scale_depth=1 << 10, norm_depth=1 << 10)


def measure(rows=ROWS) -> dict:
    """One row for each width of the port, with a run for each memory."""
    images = photographs((3, 224, 224))[:1]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        checkpoint = scratch / "network.safetensors"
        convert_random(NETWORK, 0, checkpoint, images)
        compile(checkpoint, ROM, scratch / "rom")
        rom = report(scratch / "rom")["cycles_per_image"]
        rows = {row: _port(checkpoint, int(row.split()[0]), images.numpy(), rom, scratch / row)
                for row in rows}
    sizes = {field.name: getattr(ARRAY, field.name) for field in dataclasses.fields(ARRAY)
             if field.name.endswith("_depth") and field.name != "queue_depth"}
    return {"network": NETWORK, "memories": sizes, "rom_cycles": rom, "rows": rows}


def _port(checkpoint, bits, images, rom, folder):
    arch = dataclasses.replace(ARRAY, name=f"{ARRAY.name}-{bits}", port_bits=bits)
    compile(checkpoint, arch, folder)
    build = load_build(folder)
    runs = {text: _run(folder, images, rom, memory=memory_timing(text)) for text in MEMORIES}
    runs["unknown stalls"] = _run(folder, images, rom, stall_seed=1)
    return {"instructions": len(build.words), "program_kbit": len(build.words) * INSTR_BITS / 1024,
            "external_bytes": (folder / "rom" / "external.bin").stat().st_size, "runs": runs}


def _run(folder, images, rom, **options):
    run = simulate(folder, images, engine="rtl", check=True, observe=1, **options)
    return {"mismatches": run.mismatches, "first_mismatch": run.first_mismatch,
            "observation_points": run.observation_points, "cycles": run.cycles_per_image,
            "predicted_cycles": run.predicted_cycles_per_image,
            "cycles_over_rom": run.cycles_per_image / rom,
            "simulated_cycles_per_second": round(run.simulated_cycles_per_second)}
