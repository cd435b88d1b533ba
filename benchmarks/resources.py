"""Fit the resource model to synthesis, and say how far off it is on other configurations.

``python benchmarks/run.py resources``. Units are synthesised one by one, by Yosys alone, so that
equal ones are synthesised once; every result is kept in the cache, and an interrupted sweep goes on
where it was. ``BIVIT_SWEEP=array,issue`` takes these units only and leaves the coefficients of the
others as they are.
"""

import dataclasses
import json
import os
import statistics
import sys

import numpy as np
from scipy.optimize import nnls

from bivit.hw.arch import Arch
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow import component_design, synthesise
from bivit.hw.resources import COEFFICIENTS, FEATURES, UNIT_FEATURES, UNITS, elements

__all__ = ["measure"]

SWEPT = {"ecp5": "ecp5-85f", "lut6-xc7": "zynq-7020"}
"""Fabric to the device that it is synthesised for."""


def _arch(rows, cols, lanes, tile_rows, tile_cols, post_rows, **others):
    shape = f"{rows}x{cols}x{lanes}"
    return Arch(name=f"{shape}-{tile_rows}x{tile_cols}-{post_rows}", rows=rows, cols=cols,
                lanes=lanes, tile_rows=tile_rows, tile_cols=tile_cols, post_rows=post_rows,
                **others)


FITTED = (
    _arch(1, 2, 16, 1, 2, 1, program_depth=512), _arch(2, 2, 16, 1, 1, 1), _arch(2, 4, 16, 2, 2, 1),
    _arch(2, 4, 32, 1, 4, 2), _arch(2, 6, 32, 2, 3, 1), _arch(3, 4, 32, 3, 2, 3),
    _arch(4, 4, 16, 2, 2, 2), _arch(4, 4, 32, 4, 4, 4, pop_stages=2), _arch(4, 6, 64, 2, 2, 1),
    _arch(4, 8, 32, 2, 4, 2, program_depth=8192), _arch(6, 6, 16, 3, 3, 2),
    _arch(1, 8, 64, 1, 4, 1, weights="loaded"), _arch(2, 8, 48, 2, 2, 2, weights="loaded"),
)
HELD_OUT = tuple(
    _arch(rows, cols, lanes, rows if rows < 4 else 2, 2, post_rows, pop_stages=stages)
    for (rows, cols), lanes, post_rows, stages in (
        ((2, 2), 24, 1, 1), ((2, 2), 32, 2, 2), ((2, 4), 24, 1, 2), ((2, 4), 48, 2, 1),
        ((3, 4), 16, 1, 1), ((3, 4), 48, 2, 1), ((3, 6), 16, 3, 1), ((3, 6), 24, 1, 2),
        ((4, 4), 24, 1, 1), ((4, 4), 48, 2, 2), ((4, 4), 64, 1, 1), ((4, 6), 16, 4, 1),
        ((4, 6), 32, 2, 1), ((4, 8), 16, 1, 1), ((4, 8), 24, 2, 2), ((2, 8), 16, 1, 1),
        ((2, 8), 32, 2, 1), ((2, 6), 16, 2, 1), ((6, 6), 24, 1, 1), ((6, 8), 16, 3, 1)))


def measure() -> dict:
    """Fit, write the coefficients, measure the errors on the configurations held out."""
    chosen = os.environ.get("BIVIT_SWEEP", ",".join(UNITS)).split(",")
    stored = json.loads(COEFFICIENTS.read_text()) if COEFFICIENTS.exists() else {}
    figures = {}
    for fabric, device in SWEPT.items():
        known = stored.setdefault(fabric, {})
        for unit in chosen:
            known[unit] = _fit(unit, fabric, device)
        COEFFICIENTS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        figures[fabric] = {unit: _errors(unit, fabric, device, known[unit]) for unit in chosen}
        figures[fabric]["all of these"] = _summed(chosen, fabric, device, known)
    return {"fitted": [arch.name for arch in FITTED], "held_out": [arch.name for arch in HELD_OUT],
            "errors": figures}


def _synthesised(unit, arch, fabric, device):
    """Resources of a unit without what the model knows of it, and all of them."""
    arch = dataclasses.replace(arch, fabric=fabric)
    design = component_design(UNITS[unit](arch), unit)
    print(f"{fabric} {unit} {arch.name}", file=sys.stderr)
    result = synthesise(design, device, place=False)
    whole = {name: row["used"] for name, row in result["resources"].items()}
    exact = elements(arch, DEVICES[device].family) if unit == "array" else {}
    return arch, {name: whole[name] - exact.get(name, 0) for name in RESOURCES}, whole


def _takes_part(unit, arch):
    return unit != "loader" or arch.weights == "loaded"


def _fit(unit, fabric, device):
    """Coefficients of each resource of a unit, none negative, by least squares of shares."""
    rows = [_synthesised(unit, arch, fabric, device) for arch in FITTED if _takes_part(unit, arch)]
    features = UNIT_FEATURES[unit]
    values = np.array([[FEATURES[name](arch) for name in features] for arch, _, _ in rows], float)
    found = {}
    for resource in RESOURCES:
        rest = np.array([counts[resource] for _, counts, _ in rows], float)
        weight = 1 / np.maximum([counts[resource] for _, _, counts in rows], 1)
        factors, _ = nnls(values * weight[:, None], rest * weight)
        found[resource] = {name: round(float(factor), 4)
                           for name, factor in zip(features, factors, strict=True) if factor > 1e-6}
    return found


def _predicted(unit, arch, known, family):
    exact = elements(arch, family) if unit == "array" else {}
    return {resource: round(exact.get(resource, 0) + sum(
        factor * FEATURES[name](arch) for name, factor in known[resource].items()))
        for resource in RESOURCES}


def _held_out(unit, fabric, device, known):
    """Of each configuration: resources predicted and synthesised."""
    family = DEVICES[device].family
    for configuration in HELD_OUT:
        if _takes_part(unit, configuration):
            arch, _, whole = _synthesised(unit, configuration, fabric, device)
            yield arch.name, _predicted(unit, arch, known, family), whole


def _errors(unit, fabric, device, known):
    return _shares([(guess, true) for _, guess, true in _held_out(unit, fabric, device, known)])


def _summed(units, fabric, device, known):
    """Errors of the sums over units, which small units cannot spoil."""
    total = {}
    for unit in units:
        for name, guess, true in _held_out(unit, fabric, device, known[unit]):
            sums = total.setdefault(name, [dict.fromkeys(RESOURCES, 0) for _ in range(2)])
            for part, counts in zip(sums, (guess, true), strict=True):
                for resource in RESOURCES:
                    part[resource] += counts[resource]
    return _shares(list(total.values()))


def _shares(pairs):
    """Median and worst relative error of each resource, and how many are exact."""
    found = {}
    for resource in RESOURCES:
        errors = [abs(guess[resource] - true[resource]) / max(true[resource], 1)
                  for guess, true in pairs]
        if errors:
            found[resource] = {"median": round(statistics.median(errors), 4),
                               "worst": round(max(errors), 4), "exact": errors.count(0),
                               "configurations": len(errors)}
    return found
