"""Exploration: predictions against RTL, designs a minute, runs that are killed, found designs.

Rows: ``exact/N`` design N of a run over digits networks, in RTL and synthesised;
``speed/NETWORK`` designs a minute by one and by two workers; ``killed`` a worker and then the whole
run, SIGKILL; and ``found/NETWORK/DEVICE`` the best design beside the named target. Networks have
random weights.
"""

import functools
import itertools
import json
import pathlib
import random
import statistics
import tempfile
import time

from common import load
from explore_found import found_row
from explore_killed import killed_row

from bivit.explore.command import run
from bivit.explore.compiled import deciding
from bivit.explore.confirm import confirm_designs
from bivit.explore.networks import Variant, prepare
from bivit.explore.space import Space
from bivit.explore.space_file import load_space
from bivit.explore.workers import workers_of
from bivit.hw.devices import RESOURCES

__all__ = ["ROWS", "measure", "summary"]

DIGITS = pathlib.Path(__file__).with_name("explore_digits.toml")
EXACT = 20
"""Designs that are drawn from a run over digits networks."""
SPACES = {
    "bivit_digits": {"device": ("ecp5-85f",), "clock": (100.0,), "rows": (2, 3, 4), "cols": (4, 6),
                     "lanes": (16, 32), "post_rows": (1, 2)},
    "bivit_deit_tiny": {
        "device": ("k26", "zcu102", "alveo-u50"), "clock": (100.0, 150.0, 200.0),
        "rows": (8, 16), "cols": (8, 16), "lanes": (32, 64), "post_rows": (2, 4, 8),
        "tile_rows": (1, 2, 4), "weights": ("rom", "streamed")}}
"""Network to the hardware of the designs whose evaluation is timed."""
SPEED = 1000
"""Designs that are timed, at most."""
NETWORKS = ("bivit_deit_tiny", "bivit_deit_small", "bivit_swin_tiny", "binaryvit")
DEVICES = ("ecp5-85f", "zynq-7020", "k26")
ROWS = (*(f"exact/{number}" for number in range(EXACT)),
        *(f"speed/{network}" for network in SPACES), "killed",
        *(f"found/{network}/{device}" for network in NETWORKS for device in DEVICES))


def measure(rows=ROWS) -> dict:
    """One row for each name."""
    kinds = {"exact": _exact, "speed": _speed, "killed": killed_row, "found": found_row}
    found = {}
    for row in rows:
        kind, *names = row.split("/")
        found[row] = kinds[kind](*names) | {"load": load()}
    return {"rows": found}


def summary(rows: dict) -> dict:
    """Of the designs in RTL: how many took as many cycles as predicted, and how far off predicted
    resources are."""
    exact = [row for name, row in rows.items() if name.startswith("exact/")]
    found = {"rtl_designs": len(exact),
             "equal": sum(row["measured"]["cycles"] == row["predicted"]["cycles"] for row in exact),
             "mismatches": sum(row["mismatches"] for row in exact)}
    for name in RESOURCES:
        errors = [abs(row["predicted"][name] / row["measured"][name] - 1) for row in exact
                  if row["predicted"].get(name) is not None and row["measured"].get(name)]
        if errors:
            found[name] = {"designs": len(errors), "median_error": statistics.median(errors),
                           "worst_error": max(errors)}
    return found


@functools.cache
def _drawn():
    """Designs of a run that work, drawn at random."""
    with tempfile.TemporaryDirectory() as scratch:
        run(scratch, file=DIGITS)
        records = json.loads((pathlib.Path(scratch) / "explore.json").read_text())["records"]
    return random.Random(7).sample(
        [record for record in records if record["status"] == "done"], EXACT)


def _exact(number):
    """A design of the run: its cycles, its bits and its resources, predicted and measured."""
    record = _drawn()[int(number)]
    with tempfile.TemporaryDirectory() as scratch:
        found, = confirm_designs([record], load_space(DIGITS), pathlib.Path(scratch),
                                 lambda *progress: None)
    return {"design": record["design"], "mismatches": found["mismatches"],
            **{side: {figure["name"]: figure[side] for figure in found["figures"]}
               for side in ("predicted", "measured")}}


def _speed(network):
    """Designs a minute by one and by two workers, on warm workers, one after the other."""
    space = Space(hardware=SPACES[network], network={"name": (network,)})
    variant, rates = Variant(name=network), {}
    prepare(variant)
    points = list(itertools.product(*space.varied.values()))
    designs = [space.design(dict(zip(space.varied, point, strict=True)))
               for point in random.Random(3).sample(points, min(SPEED, len(points)))]
    for workers in (1, 2):
        with workers_of(space, workers) as pool:
            list(pool.run({f"warm-{index}": (designs[index] | {"lanes": 16}, variant)
                           for index in range(2 * workers)}))
            begin = time.perf_counter()
            jobs = {str(index): (design, variant) for index, design in enumerate(designs)}
            records = [record for _, record in pool.run(jobs)]
            rates[workers] = 60 * len(designs) / (time.perf_counter() - begin)
    return {"designs": len(designs), "of_other_cycles": len(set(map(deciding, designs))),
            "done": sum(record["status"] == "done" for record in records),
            "a_minute": {str(workers): round(rate, 1) for workers, rate in rates.items()},
            "two_over_one": round(rates[2] / rates[1], 2)}
