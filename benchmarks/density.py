"""Binary operations per cycle and thousand LUTs: array alone and whole accelerator of each target.

``python benchmarks/run.py density``, and ``--rows ecp5-85f/array ecp5-85f/whole`` for some of it:
Yosys alone, whose results are cached; an array takes seconds to minutes, an accelerator minutes, or
far more with LUTs of six inputs, so there are also rows ``.../predicted``, by the resource model.
Beside each, the model of BISMO's dot-product units for the same rows, columns and lanes.
"""

import sys

from bivit.hw.arch import Arch, ArchError
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow import accelerator_design, component_design, synthesise
from bivit.hw.resources import predict
from bivit.hw.targets import TARGETS

__all__ = ["ROWS", "measure"]

PARTS = {
    "array": lambda arch: component_design(SystolicArray(arch), f"array-{arch.name}"),
    "whole": accelerator_design,
}
"""Part of a target to its design."""
OTHERS = "ecp5-85f"
"""Device of the targets that are named after none."""

BISMO = 1.17, 44
"""LUTs of six inputs for a bit, and for a dot-product unit, of BISMO's compressor trees."""


def _device(name):
    name = name.removesuffix("-streamed")
    return name if name in DEVICES else OTHERS


def _predicted(name):
    """Resources of a whole target by the model, None if there is none."""
    try:
        blocks = predict(TARGETS[name], DEVICES[_device(name)].family).values()
    except ArchError:
        return None
    return {kind: sum(block[kind] for block in blocks) for kind in RESOURCES}


ROWS = tuple(f"{name}/{part}" for name in TARGETS for part in (*PARTS, "predicted")
             if part in PARTS or _predicted(name))
"""Target and part."""


def measure(rows=ROWS) -> dict:
    """One row for each target and part."""
    return {"bismo": BISMO, "rows": {row: _row(*row.split("/")) for row in rows}}


def _row(name, part):
    arch, device = TARGETS[name], _device(name)
    print(f"{name}, {part}", file=sys.stderr)
    used = _predicted(name) if part == "predicted" else _synthesised(PARTS[part](arch), device)
    return {
        "device": device, "luts_have_inputs": DEVICES[device].family.lut_inputs,
        "shape": f"{arch.rows}x{arch.cols}x{arch.lanes}", "post_rows": arch.post_rows,
        "used": used, "operations_per_cycle": 2 * arch.macs_per_cycle,
        "density": _density(arch, used["luts"]), "bismo_density": _density(arch, _bismo(arch)),
    }


def _synthesised(design, device):
    """Resources by Yosys."""
    result = synthesise(design, device, place=False)
    return {kind: count["used"] for kind, count in result["resources"].items()}


def _density(arch: Arch, luts: float) -> float:
    """An XNOR and its addition are two operations."""
    return round(2 * arch.macs_per_cycle / luts * 1000, 1)


def _bismo(arch: Arch) -> float:
    """LUTs of its units alone: neither buffers nor anything around them."""
    bit, unit = BISMO
    return arch.rows * arch.cols * (bit * arch.lanes + unit)
