"""Exploration: predictions against RTL, designs a minute, found designs beside hand-written ones.

``BIVIT_EXPLORE=exact,speed,found`` takes some parts. Designs are of small and of shipped digits
networks; DeiT-Tiny has random weights.
"""

import json
import os
import pathlib
import random
import tempfile
import time

from common import RESULTS

from bivit.compiler.structures import CompileError
from bivit.explore.command import run
from bivit.explore.confirm import simulate_design
from bivit.explore.costs import costs_of
from bivit.explore.evaluate import evaluate
from bivit.explore.front import title
from bivit.explore.goal import Goal
from bivit.explore.networks import Variant, prepare
from bivit.explore.space import Search, Space
from bivit.explore.workers import workers_of
from bivit.hw.devices import DEVICES
from bivit.hw.targets import TARGETS
from bivit.sim.estimate import predict_cycles

__all__ = ["measure"]

DESIGNS = int(os.environ.get("BIVIT_EXPLORE_DESIGNS", 20))
DIGITS = Space(
    hardware={"device": ("ecp5-85f",), "clock": (100.0,), "rows": (2, 3, 4), "cols": (4, 6),
              "lanes": (16, 32), "post_rows": (1, 2), "weights": ("rom", "loaded", "streamed")},
    network={"name": ("bivit_digits",), "embed_dim": (32, 64), "depth": (1, 2),
             "num_heads": (1, 2), "activations": ("W1A1", "W1A8")},
    search=Search(method="random", designs=200, seed=1))
GOALS = (("digits", "ecp5-85f"), ("digits", "zynq-7020"), ("digits", "k26"),
         ("bivit_deit_tiny", "ecp5-85f"), ("bivit_deit_tiny", "zynq-7020"),
         ("bivit_deit_tiny", "k26"))


def measure() -> dict:
    """The parts that are chosen; others stay as they were."""
    path = RESULTS / "explore.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored.pop("machine", None)
    parts = {"exact": _exact, "speed": _speed, "found": _found}
    for name in os.environ.get("BIVIT_EXPLORE", ",".join(parts)).split(","):
        stored[name] = parts[name]()
    return stored


def _exact():
    """Random designs of digits networks: cycles of the record and of RTL."""
    rows, chance = [], random.Random(7)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        while len(rows) < DESIGNS:
            design = DIGITS.design({name: chance.choice(values)
                                    for name, values in DIGITS.varied.items()})
            variant = Variant(name=design["network"], overrides=tuple(
                (name, design[name]) for name in DIGITS.network if name != "name"))
            record = evaluate(design, prepare(variant), {}) | {"number": len(rows)}
            if record["status"] == "done":
                found = simulate_design(record, DIGITS, scratch / str(len(rows)))
                rows.append({"design": design, "predicted": record["cycles"],
                             "rtl": found.cycles_per_image, "mismatches": found.mismatches})
    return {"designs": rows, "equal": sum(row["predicted"] == row["rtl"] for row in rows),
            "mismatches": sum(row["mismatches"] for row in rows)}


def _speed():
    """Designs a minute by one and by two workers, on warm workers, one after the other."""
    rows = {}
    for name, hardware in (("digits", DIGITS.hardware), ("bivit_deit_tiny", {
            "device": ("k26",), "clock": (100.0,), "rows": (8, 16), "cols": (8, 16),
            "lanes": (32, 64), "post_rows": (2, 4, 6, 8), "tile_rows": (1, 2, 4)})):
        space = Space(hardware=hardware, network={"name": (name,)})
        variant, chance, rates = Variant(name=name), random.Random(3), {}
        prepare(variant)
        designs = [space.design({key: chance.choice(values)
                                 for key, values in space.varied.items()}) for _ in range(24)]
        for workers in (1, 2):
            with workers_of(space, workers) as pool:
                warm = {f"warm-{index}": (designs[0], variant) for index in range(2 * workers)}
                list(pool.run(warm))
                begin = time.perf_counter()
                jobs = {str(index): (design, variant) for index, design in enumerate(designs)}
                records = [record for _, record in pool.run(jobs)]
                rates[workers] = 60 * len(designs) / (time.perf_counter() - begin)
        rows[name] = {"designs": len(designs), "a_minute": {
            str(workers): round(rate, 1) for workers, rate in rates.items()},
            "done": sum(record["status"] == "done" for record in records),
            "two_over_one": round(rates[2] / rates[1], 2)}
    return rows


def _found():
    """The best design that is found for a device, beside the target that is called like it."""
    rows = []
    for network, device in GOALS:
        by_hand = _by_hand(network, device)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                result = run(scratch, goal=Goal(network=network, device=device, designs=48))
                best = max(result["front"], key=lambda record: record["fps"], default=None)
                reason = result["verdict"]
            except ValueError as error:  # nothing fits
                best, reason = None, str(error)
        found = best and {"design": title(best), "fps": best["fps"],
                          "device_share": best["device_share"], "target": best["target"]}
        rows.append({"network": network, "device": device, "by_hand": by_hand, "found": found,
                     "refusal": reason})
    return rows


def _by_hand(network, device):
    """Images a second at 100 MHz of the named target, and whether it fits."""
    arch = TARGETS[device]
    costs = costs_of(arch, DEVICES[device])
    row = {"device_share": costs["device_share"], "fits": costs["device_share"] <= 1}
    try:
        cycles = predict_cycles(prepare(Variant(name=network)).graph, arch).cycles
    except CompileError as error:
        return row | {"fps": None, "refusal": str(error)}
    return row | {"fps": 1e8 / cycles, "refusal": None}
