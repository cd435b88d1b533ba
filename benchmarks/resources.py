"""Fit the resource model to synthesis, and say how far off it is on other configurations.

``python benchmarks/run.py resources``, or ``--rows FABRIC/fitted FABRIC/NAME ...`` for some of it.
Row ``FABRIC/fitted`` fits and writes the coefficients; the others are configurations held out. All
are synthesised as whole accelerators, by Yosys alone, as ``bivit synth`` makes them. Every result
is kept in the cache, every block that two of them have in common too.
"""

import dataclasses
import itertools
import json
import statistics
import sys

import numpy as np
from resource_targets import FITTED, HELD_OUT
from scipy.optimize import nnls

from bivit.hw.arch import Arch
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow import accelerator_design, count_blocks
from bivit.hw.resources import BLOCKS, BORROWED, COEFFICIENTS, FEATURES, by_rule, left_out, predict

__all__ = ["ROWS", "fit", "measure", "summary"]

FABRICS = {"ecp5": "ecp5-85f", "lut6-xc7": "zynq-7020", "lut6-xcup": "k26"}
"""Fabric to the device for which all of it are synthesised."""

_FITTED = "fitted"
ROWS = tuple(f"{fabric}/{name}" for fabric in FABRICS
             for name in (*[_FITTED] * (fabric not in BORROWED), *(arch.name for arch in HELD_OUT)))
"""Fabric, and the fit or the name of a target held out."""

MEMORIES = ("ram", "rom")
"""Blocks that follow by rule."""


def measure(rows=ROWS) -> dict:
    """One row for each name: of the targets fitted, or of one held out, what is predicted and what
    is synthesised."""
    return {"rows": {row: _row(*row.split("/")) for row in rows}}


def _row(fabric, name):
    if name == _FITTED:
        return {"targets": _fit(fabric)}
    arch, = (arch for arch in HELD_OUT if arch.name == name)
    return _compared(*_synthesised(arch, fabric))


def _fit(fabric):
    """Write the coefficients of a fabric."""
    rows = [_synthesised(arch, fabric) for arch in FITTED]
    known = json.loads(COEFFICIENTS.read_text())
    known[fabric] = coefficients = fit(rows)
    COEFFICIENTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return {arch.name: _compared(arch, blocks, coefficients) for arch, blocks in rows}


def summary(rows: dict) -> dict:
    """By fabric, errors over the targets held out."""
    found = {}
    for fabric in FABRICS:
        pairs = [row for name, row in rows.items()
                 if name.startswith(f"{fabric}/") and not name.endswith(_FITTED)]
        if pairs:
            found[fabric] = _errors(pairs)
    return found


def _synthesised(arch: Arch, fabric: str) -> tuple[Arch, dict[str, dict[str, int]]]:
    """A target with the cells of a fabric, and its resources by kind of block."""
    arch = dataclasses.replace(arch, fabric=fabric)
    print(f"{fabric} {arch.name}", file=sys.stderr)
    return arch, count_blocks(accelerator_design(arch), FABRICS[fabric])


def fit(rows) -> dict:
    """Coefficients of each resource of each block.

    Parameters
    ----------
    rows : list of (Arch, dict)
        Targets, and the resources of their blocks by kind.

    Returns
    -------
    dict
        Block to resource to feature to coefficient.
    """
    unknown = {block for _, blocks in rows for block in blocks} - {*BLOCKS, *MEMORIES}
    if unknown:
        raise ValueError(f"the resource model has no {', '.join(sorted(unknown))}")
    family = DEVICES[FABRICS[rows[0][0].fabric]].family
    ruled = [by_rule(arch, family) for arch, _ in rows]
    return {block: {resource: fitted(features, [
        (arch, blocks.get(block, {}).get(resource, 0) - rule.get(block, {}).get(resource, 0))
        for (arch, blocks), rule in zip(rows, ruled, strict=True) if block not in left_out(arch)])
        for resource, fitted in METHODS.items()}
        for block, features in BLOCKS.items()}


def _exactly(features, counts):
    """Whole factors of as few features as give every number, from pairs of a target and it."""
    numbers = np.array([count for _, count in counts], float)
    for size in range(1 + len(features)):
        for chosen in itertools.combinations(features, size):
            values = np.array([[FEATURES[name](arch) for name in chosen] for arch, _ in counts],
                              float)
            factors = np.rint(np.linalg.lstsq(values, numbers, rcond=None)[0]) if size else []
            if (values @ factors == numbers).all() and min(factors, default=0) >= 0:
                return dict(zip(chosen, map(float, factors), strict=True))
    return _nearly(features, counts)


def _nearly(features, counts):
    """None negative, by least squares of shares, from pairs of a target and a number."""
    values = np.array([[FEATURES[name](arch) for name in features] for arch, _ in counts], float)
    counts = np.array([count for _, count in counts], float)
    weight = 1 / np.maximum(counts, 0.1 * max(1, counts.max()))
    scale = np.maximum(values.max(axis=0), 1)
    factors, _ = nnls(values / scale * weight[:, None], counts * weight)
    return {name: round(float(factor), 5)
            for name, factor in zip(features, factors / scale, strict=True) if factor > 1e-6}


METHODS = {"luts": _nearly, "registers": _nearly, "multipliers": _exactly}
"""Resource to how its coefficients are found."""


def _compared(arch, blocks, coefficients=None):
    """Resources of a target as they are predicted and synthesised."""
    found = predict(arch, DEVICES[FABRICS[arch.fabric]].family, coefficients)
    return {name: {resource: sum(part[resource] for part in parts.values())
                   for resource in RESOURCES}
            for name, parts in (("synthesised", blocks), ("predicted", found))}


def _errors(pairs):
    """Median and worst relative error of each resource, and how many are exact."""
    found = {}
    for resource in RESOURCES:
        errors = [abs(pair["predicted"][resource] - pair["synthesised"][resource])
                  / max(pair["synthesised"][resource], 1) for pair in pairs]
        found[resource] = {"median": round(statistics.median(errors), 4),
                           "worst": round(max(errors), 4), "exact": errors.count(0),
                           "configurations": len(errors)}
    return found
