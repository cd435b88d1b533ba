"""Cycles and utilisation of the shipped network on every target: predicted, and in RTL.

The simulator of the largest target takes minutes to build.
"""

import pathlib
import tempfile

from bivit.compiler import compile
from bivit.hw.targets import DEFAULT, TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.sim.demo import simulate_build
from bivit.sim.report import report

__all__ = ["measure"]


def measure() -> dict:
    """One row for each target."""
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, arch in TARGETS.items():
            folder = pathlib.Path(scratch) / name
            compile(CHECKPOINT, name, folder)
            result = report(folder)
            run = simulate_build(folder, count=2, engine="rtl", check=True)
            rows[name] = {
                "array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
                **{key: result[key] for key in ("macs_per_cycle", "cycles_per_image",
                                                "utilization", "binary_cycles", "spent")},
                "rtl_cycles_per_image": run["cycles_per_image"], "mismatches": run["mismatches"]}
    return {"default": DEFAULT, "targets": rows}
