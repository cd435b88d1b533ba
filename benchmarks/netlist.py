"""Digits through the pins of a board whose netlist, as it is placed and routed, is simulated."""

import pathlib
import tempfile
import time

from bivit.compiler import compile, load_build
from bivit.host.run import run_build
from bivit.hw.boards import BOARDS
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow.mapped import BoardDesign, map_board
from bivit.hw.flow.synthesis import Cells
from bivit.models.digits import SMALL_CHECKPOINT

__all__ = ["measure"]

BOARD = "colorlight-i5"
TARGET = "colorlight-i5-digits"
IMAGES = 5


def measure() -> dict:
    """Cells of the netlist, and images with other logits than those of the integer model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "digits"
        compile(SMALL_CHECKPOINT, TARGET, folder)
        build = load_build(folder)
        _, mapped = map_board(BoardDesign(build.arch, build.memories, BOARDS[BOARD]),
                              lambda text: None)
        start = time.perf_counter()
        result = run_build(folder, netlist=BOARD, count=IMAGES)
        seconds = time.perf_counter() - start
    family = DEVICES[BOARDS[BOARD].device].family
    used = Cells(mapped["all"]).resources(family)
    return {"board": BOARD, "target": TARGET,
            "resources": {family.units[kind]: used[kind] for kind in RESOURCES},
            "synthesis_seconds": mapped["seconds"], "seconds": round(seconds),
            **{key: result[key] for key in ("images", "mismatches", "refused", "top1",
                                            "cycles_per_image")}}
