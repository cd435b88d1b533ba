"""Clock rate of each unit alone, and of the whole, placed and routed on ECP5-25F, speed grade 6.

``python benchmarks/run.py units``, and ``--rows sequencer vector`` for some of it. The units are
those of the Colorlight i5's target; ``fetch`` and ``loader`` those of the same with other weights,
``.../all-parts`` those of the same with every part. Ports are the stages of shift registers.
Results of Yosys and nextpnr are cached: a unit takes half a minute to three, the whole some ten.
``BIVIT_SEEDS=1,2,3`` takes more seeds than the first: the rate is their median, the path that of
the slowest.
"""

import dataclasses
import os
import sys

from bivit.hw.arch import PARTS
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.fetch import FetchUnit
from bivit.hw.blocks.load import LoadUnit
from bivit.hw.blocks.matmul import MatmulIssue
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.blocks.registers import Registers
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.blocks.softmax import SoftmaxThreshold
from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.board.controller import NETWORK_FILE
from bivit.hw.board.link import BoardLink
from bivit.hw.board.protocol import BAUD
from bivit.hw.board.top import PATIENCE
from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.boards import BOARDS
from bivit.hw.flow import accelerator_design, component_design, synthesise
from bivit.hw.memories import MemorySize

__all__ = ["ROWS", "measure"]

BOARD = BOARDS["colorlight-i5"]
TARGET = BOARD_TARGETS["colorlight-i5-digits"]
WHOLE = "accelerator"
ALL_PARTS = "/all-parts"
"""Behind the name of a unit that the target has only some parts of."""


def _link(arch):
    """The serial line with its controller."""
    return BoardLink(arch, clock_hz=BOARD.pins.clock_hz, baud=BAUD, patience=PATIENCE)


UNITS = {
    "sequencer": Sequencer, "load": LoadUnit, "issue": MatmulIssue, "array": SystolicArray,
    "post": PostProcessing, "softmax": SoftmaxThreshold, "vector": VectorUnit,
    "fetch": lambda arch: FetchUnit(dataclasses.replace(arch, weights="streamed")),
    "loader": lambda arch: ConstantLoader(dataclasses.replace(arch, weights="loaded")),
    "registers": lambda arch: Registers(), "link": _link,
}
"""Unit to its component, by the target."""
MEMORIES = {"link": ((NETWORK_FILE, MemorySize(width=64, depth=2)),)}
"""Files of memories of constants in units."""
ROWS = (*UNITS, *(f"{unit}{ALL_PARTS}" for unit in ("sequencer", "post", "softmax", "vector")),
        WHOLE)


def measure(rows=ROWS) -> dict:
    """For each row its clock rate, what holds it, and its size."""
    return {"target": TARGET.name, "rows": {row: _row(row) for row in rows}}


def _row(row):
    result = synthesise(_design(row), BOARD.device, seeds=_seeds(),
                        progress=lambda done, total, text: print(
                            f"\r\033[K  {row}: {text}", end="", file=sys.stderr))
    print("\r\033[K", end="", file=sys.stderr)
    slowest = min(result["routes"], key=lambda run: run["fmax_mhz"])
    return {
        "fmax_mhz": result["fmax_mhz"], "critical_path": slowest["critical_path"]["words"],
        "used": {name: found["used"] for name, found in result["resources"].items()},
        "seeds": [run["seed"] for run in result["routes"]],
        "processor_seconds": sum(run["processor_seconds"] for run in result["routes"]),
        "device": result["title"], "versions": result["versions"],
    }


def _design(row):
    if row == WHOLE:
        return accelerator_design(TARGET)
    unit, target = row.removesuffix(ALL_PARTS), TARGET
    if unit != row:
        target = dataclasses.replace(TARGET, **dict.fromkeys(PARTS, True))
    return component_design(UNITS[unit](target), row, memories=MEMORIES.get(unit, ()))


def _seeds():
    return [int(seed) for seed in os.environ.get("BIVIT_SEEDS", "1").split(",")]
