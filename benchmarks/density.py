"""Binary operations per cycle and thousand LUTs: array alone and whole accelerator of each target.

``python benchmarks/run.py density``, and ``--rows ecp5-85f/array ecp5-85f/whole`` for some of it:
Yosys alone, whose results are cached; an array takes seconds to minutes, an accelerator minutes.
Beside each, the model of BISMO's dot-product units for the same rows, columns and lanes.
"""

import sys

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.devices import DEVICES
from bivit.hw.flow import accelerator_design, component_design, synthesise
from bivit.hw.targets import TARGETS

__all__ = ["ROWS", "measure"]

PARTS = {
    "array": lambda arch: component_design(SystolicArray(arch), f"array-{arch.name}"),
    "whole": accelerator_design,
}
"""Part of a target to its design."""
ROWS = tuple(f"{name}/{part}" for name in TARGETS for part in PARTS)
"""Target and part."""
OTHERS = "ecp5-85f"
"""Device of the targets that are named after none."""

BISMO = 1.17, 44
"""LUTs of six inputs for a bit, and for a dot-product unit, of BISMO's compressor trees."""


def measure(rows=ROWS) -> dict:
    """One row for each target and part."""
    return {"bismo": BISMO, "rows": {row: _row(*row.split("/")) for row in rows}}


def _row(name, part):
    arch = TARGETS[name]
    device = name.removesuffix("-streamed")
    device = device if device in DEVICES else OTHERS
    print(f"{name}, {part}", file=sys.stderr)
    result = synthesise(PARTS[part](arch), device, place=False)
    luts = result["resources"]["luts"]["used"]
    return {
        "device": device, "luts_have_inputs": 6 if "LUT6" in result["resources"]["luts"]["unit"]
        else 4, "shape": f"{arch.rows}x{arch.cols}x{arch.lanes}", "post_rows": arch.post_rows,
        "fits": result["fits"],
        "used": {kind: count["used"] for kind, count in result["resources"].items()},
        "operations_per_cycle": 2 * arch.macs_per_cycle,
        "density": _density(arch, luts), "bismo_density": _density(arch, _bismo(arch)),
        "seconds": result["synthesis_seconds"],
    }


def _density(arch: Arch, luts: float) -> float:
    """An XNOR and its addition are two operations."""
    return round(2 * arch.macs_per_cycle / luts * 1000, 1)


def _bismo(arch: Arch) -> float:
    """LUTs of its units alone: neither buffers nor anything around them."""
    bit, unit = BISMO
    return arch.rows * arch.cols * (bit * arch.lanes + unit)
