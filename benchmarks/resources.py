"""Fit the resource model to synthesis, and say how far off it is on other configurations.

``python benchmarks/run.py resources``. The configurations to fit are synthesised block by block,
those held out as whole accelerators, by Yosys alone. Every result is kept in the cache, and an
interrupted sweep goes on where it was. ``BIVIT_SWEEP=5`` takes so many of those held out, 0 fits
the blocks alone.
"""

import collections
import dataclasses
import json
import os
import statistics
import sys

import numpy as np
from scipy.optimize import nnls

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.load import LoadUnit
from bivit.hw.blocks.matmul import MatmulIssue
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.blocks.registers import Registers
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.blocks.softmax import SoftmaxThreshold
from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow import accelerator_design, component_design, count_blocks, synthesise
from bivit.hw.resources import BLOCKS, COEFFICIENTS, FEATURES, elements, predict

__all__ = ["measure"]

SWEPT = {"ecp5": "ecp5-85f"}
"""Fabric to the device that it is synthesised for."""

UNITS = {
    "registers": (lambda arch: Registers(), 0), "sequencer": (Sequencer, 0),
    "load_unit": (LoadUnit, 2), "matmul_issue": (MatmulIssue, 2),
    "systolic_array": (SystolicArray, 9), "post_processing": (PostProcessing, 2),
    "softmax_threshold": (SoftmaxThreshold, 2), "vector_unit": (VectorUnit, 2),
    "constant_loader": (ConstantLoader, 1),
}
"""Block that is a unit to what makes it, and the last of the configurations that it is fitted to:
the sequencer and the registers hardly depend on them."""

FITTED_RESOURCES = ("luts", "registers", "multipliers")
"""Block RAM follows by rule."""

DEPTHS = {
    "program_depth": 512, "weight_depth": 512, "thr_depth": 128, "scale_depth": 128,
    "norm_depth": 128, "pos_depth": 128, "bend_depth": 128, "bias_depth": 128, "imem_depth": 128,
    "xmem_depth": 128, "hmem_depth": 256, "pmem_depth": 128, "bmem_depth": 256, "kmem_depth": 64,
    "resid_depth": 256, "vmem_depth": 128, "score_tiles": 16, "sums_depth": 16, "pv_depth": 32}
"""Small memories: what block RAM they take is known, and synthesis is quicker."""


def _arch(rows, cols, lanes, tile_rows, tile_cols, post_rows, **others):
    shape = f"{rows}x{cols}x{lanes}"
    return Arch(name=f"{shape}-{tile_rows}x{tile_cols}-{post_rows}", rows=rows, cols=cols,
                lanes=lanes, tile_rows=tile_rows, tile_cols=tile_cols, post_rows=post_rows,
                **(DEPTHS | {"weights": "loaded"} | others))


FITTED = (
    _arch(2, 4, 16, 2, 2, 1), _arch(8, 8, 64, 4, 4, 3, pop_stages=2, program_depth=2048),
    _arch(4, 8, 32, 2, 4, 4), _arch(3, 4, 32, 3, 2, 3), _arch(4, 4, 16, 2, 2, 2),
    _arch(2, 2, 16, 1, 1, 1), _arch(4, 6, 64, 2, 2, 1), _arch(6, 6, 16, 3, 3, 2),
    _arch(2, 6, 32, 2, 3, 1), _arch(4, 4, 32, 4, 4, 4, pop_stages=2),
)
HELD_OUT = tuple(
    _arch(rows, cols, lanes, rows if rows < 4 else 2, 2, post_rows, pop_stages=stages)
    for (rows, cols), lanes, post_rows, stages in (
        ((2, 2), 16, 1, 1), ((2, 4), 32, 1, 1), ((1, 4), 24, 1, 1), ((2, 2), 64, 2, 1),
        ((3, 4), 16, 1, 1), ((2, 6), 24, 1, 1), ((4, 4), 24, 1, 1), ((2, 2), 32, 2, 2),
        ((2, 4), 24, 2, 2), ((2, 4), 48, 2, 1), ((3, 4), 48, 2, 1), ((3, 6), 16, 3, 1),
        ((3, 6), 24, 1, 2), ((4, 4), 48, 2, 2), ((4, 4), 64, 1, 1), ((4, 6), 16, 4, 1),
        ((4, 6), 32, 2, 1), ((4, 8), 16, 1, 1), ((2, 8), 32, 2, 1), ((6, 6), 24, 1, 1)))


def measure() -> dict:
    """Fit, write the coefficients, measure the errors on the configurations held out."""
    stored = json.loads(COEFFICIENTS.read_text()) if COEFFICIENTS.exists() else {}
    held_out = HELD_OUT[:int(os.environ.get("BIVIT_SWEEP", len(HELD_OUT)))]
    figures = {}
    for fabric, device in SWEPT.items():
        known = stored.setdefault(fabric, {"blocks": {}, "borders": {}})
        known["blocks"] = _fit(fabric, device)
        if held_out:
            known["borders"] = _borders(dataclasses.replace(FITTED[0], fabric=fabric),
                                        known["blocks"], device)
        COEFFICIENTS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        pairs = [_held_out(arch, fabric, device) for arch in held_out]
        figures[fabric] = {
            "errors": _errors([(pair["predicted"], pair["synthesised"]) for pair in pairs]),
            "configurations": pairs}
    return {"fitted": [arch.name for arch in FITTED], "held_out": figures}


def _fit(fabric, device):
    """Coefficients of each resource of each block."""
    rows = [_by_blocks(dataclasses.replace(arch, fabric=fabric), number, device)
            for number, arch in enumerate(FITTED)]
    return {block: _coefficients(block, [row for row in rows if block in row[1]])
            for block in BLOCKS}


def _by_blocks(arch, number, device):
    """A target, and the resources of the blocks of its units, each unit on its own."""
    blocks = {}
    for unit, (make, last) in UNITS.items():
        if number <= last:
            print(f"{arch.fabric} {arch.name}, {unit} block by block", file=sys.stderr)
            blocks |= count_blocks(component_design(make(arch), unit), device,
                                   {*BLOCKS, "ram"}, unit)
    if "systolic_array" in blocks:
        for resource, count in elements(arch, DEVICES[device].family).items():
            blocks["systolic_array"][resource] -= count
    return arch, blocks


def _borders(arch, blocks, device):
    """What the units of a target take in the whole accelerator, less what their blocks say.

    A unit on its own keeps what nobody reads in the accelerator, and has no logic of memories.
    """
    whole = synthesise(accelerator_design(arch), device, place=False)["units"]
    found = collections.defaultdict(lambda: dict.fromkeys(FITTED_RESOURCES, 0))
    for name, counts in whole.items():
        unit = "accelerator" if not name or name.endswith(("_ram", "_rom")) else name
        for resource in FITTED_RESOURCES:
            found[unit][resource] += counts[resource]
    known = predict(arch, DEVICES[device].family, {"blocks": blocks, "borders": {}})
    return {unit: {resource: count - known.get(unit, {}).get(resource, 0)
                   for resource, count in counts.items()} for unit, counts in found.items()}


def _coefficients(block, rows):
    """None negative, by least squares of shares, from pairs of a target and its blocks."""
    features = BLOCKS[block].features
    values = np.array([[FEATURES[name](arch) for name in features] for arch, _ in rows], float)
    found = {}
    for resource in FITTED_RESOURCES:
        counts = np.array([blocks[block][resource] for _, blocks in rows], float)
        weight = 1 / np.maximum(counts, 1)
        factors, _ = nnls(values * weight[:, None], counts * weight)
        found[resource] = {name: round(float(factor), 4)
                           for name, factor in zip(features, factors, strict=True) if factor > 1e-6}
    return found


def _held_out(arch, fabric, device):
    """Resources of a whole accelerator, predicted and synthesised."""
    arch = dataclasses.replace(arch, fabric=fabric)
    print(f"{fabric} {arch.name}, whole", file=sys.stderr)
    result = synthesise(accelerator_design(arch), device, place=False)
    units = predict(arch, DEVICES[device].family)
    return {"name": arch.name, "seconds": result["synthesis_seconds"],
            "synthesised": {name: row["used"] for name, row in result["resources"].items()},
            "predicted": {name: sum(unit[name] for unit in units.values()) for name in RESOURCES}}


def _errors(pairs):
    """Median and worst relative error of each resource, and how many are exact."""
    found = {}
    for resource in RESOURCES:
        errors = [abs(guess[resource] - true[resource]) / max(true[resource], 1)
                  for guess, true in pairs]
        if errors:
            found[resource] = {"median": round(statistics.median(errors), 4),
                               "worst": round(max(errors), 4), "exact": errors.count(0),
                               "configurations": len(errors)}
    return found
