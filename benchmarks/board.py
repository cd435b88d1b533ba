"""Digits through the pins of the simulated board, on a good line and on lines with faults."""

import pathlib
import tempfile

from bivit.compiler import compile
from bivit.host.run import run_build
from bivit.models.digits import CHECKPOINT

__all__ = ["measure"]

TARGET = "tiny"
IMAGES = 20
FAULTS = (None, 1, 2, 3)
"""Seeds of faults, None for a good line."""


def measure() -> dict:
    """One row for each line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "digits"
        compile(CHECKPOINT, TARGET, folder)
        rows = []
        for faults in FAULTS:
            result = run_build(folder, simulated=True, faults=faults, count=IMAGES)
            rows.append({"seed": faults, "faults": result["faults"],
                         **{key: result[key] for key in ("images", "mismatches", "top1", "refused",
                                                         "requests_repeated", "seconds")}})
    return {"target": TARGET, "lines": rows}
