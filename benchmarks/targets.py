"""Cycles and utilisation of the shipped network on every target that holds it: predicted, and in
RTL.

``python benchmarks/run.py targets``, and ``--rows ecp5-85f`` for some of it. The simulator of the
largest target takes minutes to build.
"""

import pathlib
import tempfile

from bivit.compiler import compile
from bivit.hw.targets import DEFAULT, TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.sim.demo import simulate_build
from bivit.sim.report import report

__all__ = ["ROWS", "measure"]

ROWS = tuple(name for name, arch in TARGETS.items() if arch.weights != "streamed")
"""Targets."""


def measure(rows=ROWS) -> dict:
    """One row for each target."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in rows:
            arch, folder = TARGETS[name], pathlib.Path(scratch) / name
            compile(CHECKPOINT, name, folder)
            result = report(folder)
            run = simulate_build(folder, count=2, engine="rtl", check=True)
            found[name] = {
                "array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
                **{key: result[key] for key in ("macs_per_cycle", "cycles_per_image",
                                                "utilization", "binary_cycles", "spent")},
                "rtl_cycles_per_image": run["cycles_per_image"], "mismatches": run["mismatches"]}
    return {"default": DEFAULT, "rows": found}
