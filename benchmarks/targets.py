"""Cycles and utilisation of the shipped network on every target: predicted, and in RTL."""

import pathlib
import tempfile

from bivit.compiler import compile
from bivit.hw.targets import DEFAULT, TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.sim.demo import simulate_build
from bivit.sim.report import report

__all__ = ["measure"]

IN_RTL = (DEFAULT, "tiny", "odd", "ecp5-85f")
"""Targets that are also simulated; the others take minutes to build."""


def measure() -> dict:
    """One row for each target."""
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, arch in TARGETS.items():
            folder = pathlib.Path(scratch) / name
            compile(CHECKPOINT, name, folder)
            result = report(folder)
            row = {"array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
                   **{key: result[key] for key in ("macs_per_cycle", "cycles_per_image",
                                                   "utilization", "binary_cycles", "spent")},
                   "rtl_cycles_per_image": None, "mismatches": None}
            if name in IN_RTL:
                run = simulate_build(folder, count=2, engine="rtl", check=True)
                row["rtl_cycles_per_image"] = run["cycles_per_image"]
                row["mismatches"] = run["mismatches"]
            rows[name] = row
    return {"default": DEFAULT, "targets": rows}
