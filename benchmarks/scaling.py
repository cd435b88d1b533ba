"""Cycles as work grows, and as the array does, by the cycle model.

`work`: binary cycles of DeiT-Tiny, Small and Base against their binary MACs, and how far they lie
from the straight line with the least relative errors. `columns`: DeiT-Small on 8 rows and twice as
many columns each time, with the part of the machine that the report names as the limit.
"""

import dataclasses
import pathlib
import tempfile

import numpy as np
from full_size import ARRAYS, checkpoint_of

from bivit.compiler.ir import checkpoint
from programs import program_of

__all__ = ["ROWS", "measure", "summary"]

WORK = ("bivit_deit_tiny", "bivit_deit_small", "bivit_deit_base")
COLUMNS = (8, 16, 32, 64)
ROWS = (*WORK, *(f"{columns} columns" for columns in COLUMNS))
"""Networks at 8 x 8 x 64, and columns of the array for DeiT-Small."""


def measure(rows=ROWS) -> dict:
    """One row for each network and number of columns."""
    with tempfile.TemporaryDirectory() as scratch:
        return {"rows": {row: _row(row, pathlib.Path(scratch)) for row in rows}}


def summary(rows: dict[str, dict]) -> dict:
    """What the rows say together, as far as they are there."""
    found = {}
    if set(WORK) <= set(rows):
        macs, cycles = (np.array([rows[name][key] for name in WORK], float)
                        for key in ("binary_macs", "binary_cycles"))
        line = np.stack([macs, np.ones(len(WORK))], 1)
        slope, start = np.linalg.lstsq(line / cycles[:, None], np.ones(len(WORK)), rcond=None)[0]
        errors = (slope * macs + start) / cycles - 1
        found |= {"cycles_per_mac": slope, "cycles_without_work": start,
                  "errors": dict(zip(WORK, errors.tolist(), strict=True)),
                  "greatest_error": float(abs(errors).max())}
    steps = [[rows.get(f"{columns} columns") for columns in pair]
             for pair in zip(COLUMNS, COLUMNS[1:], strict=False)]
    found["time_taken_off"] = {
        f"{few['cols']} to {many['cols']} columns": 1 - many["binary_cycles"] / few["binary_cycles"]
        for few, many in steps if few and many}
    return found


def _row(row, scratch):
    columns = COLUMNS[0] if row in WORK else int(row.split()[0])
    network = row if row in WORK else "bivit_deit_small"
    arch = dataclasses.replace(ARRAYS["8x8x64"], name=f"8x{columns}x64", cols=columns)
    _, figures = program_of(checkpoint.load(checkpoint_of(network, scratch)), arch)
    return {"network": network, "rows": arch.rows, "cols": arch.cols, "lanes": arch.lanes,
            "post_rows": arch.post_rows,
            **{key: figures[key] for key in ("binary_macs", "binary_cycles", "utilization", "limit",
                                             "demands", "spent")}}
