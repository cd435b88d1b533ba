"""The best design that a search finds for a network on a device, beside the named target.

Both have the same clock and the same port to external memory. The design found keeps within the
device's LUTs, block RAM, ultra RAM and multipliers, and leaves out parts of the machine that the
network does not need; whether the named target does is said.
"""

import hashlib
import json
import os
import pathlib

from bivit.compiler.structures import CompileError
from bivit.explore.command import run
from bivit.explore.costs import costs_of
from bivit.explore.front import title
from bivit.explore.networks import Variant, prepare
from bivit.explore.space import ExploreError
from bivit.hw.devices import DEVICES
from bivit.hw.targets import TARGETS
from bivit.sim.estimate import predict_cycles

__all__ = ["found_row"]

BY_HAND = {"ecp5-85f": ("ecp5-85f", 16), "zynq-7020": ("zynq-7020-streamed", 64),
           "k26": ("k26-streamed", 128)}
"""Device to the named target for large networks, and for the search the bits of the port."""
SPACE = """
objectives = ["interval", "device_share"]
[hardware]
device = "{device}"
clock = 100
rows = [4, 8, 16]
cols = [8, 16]
lanes = [16, 32, 64]
post_rows = [1, 2, 4, 8]
weights = "streamed"
port_bits = {port}
constants = [0.05, 0.1, 0.15, 0.25, 0.4]
imem_depth = 512
{more}
room = [1, 2]
[network]
name = "{network}"
[search]
designs = {designs}
generation = 12
"""
DEIT = ("""program_depth = 512
row_sums = false
row_moves = false
exponentials = false
""", 1)
PYRAMID = ("sums_depth = 128", 4)
"""What else a kind of network is given, and how many times fewer designs are looked at: of a
pyramid each takes up to a minute."""
COSTS = ("luts", "registers", "block_ram", "multipliers", "array_luts", "memory_block_ram",
         "ultra_ram", "device_share")
"""What is said of the costs of both."""
FOLDER = pathlib.Path(__file__).parents[1] / "build" / "explore"
"""Where searches that are stopped go on, each space in a folder of its own."""
DESIGNS = int(os.environ.get("BIVIT_EXPLORE_DESIGNS", 48))
"""Designs that a search looks at."""


def found_row(network: str, device: str) -> dict:
    """Images a second of both at 100 MHz, share of the device's ideal, or why it cannot run."""
    target, port = BY_HAND[device]
    more, fewer = DEIT if "deit" in network else PYRAMID
    space = SPACE.format(network=network, device=device, port=port, more=more,
                         designs=DESIGNS // fewer)
    folder = FOLDER / hashlib.sha256(space.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "space.toml").write_text(space)
    try:
        run(folder, file=folder / "space.toml")
    except ExploreError:  # nothing fits: the records say why
        pass
    result = json.loads((folder / "explore.json").read_text())
    best = result["front"][0] if result["front"] else None
    return {"designs": result["designs"], "refused": result["refused"],
            "by_hand": {"target": target} | _by_hand(network, target, device),
            "found": best and _found(best, device),
            "refusal": None if best else _refusal(result, device)}


def _found(best, device):
    target = best["target"]
    per_cycle = target["rows"] * target["cols"] * target["lanes"]
    ideal = 1e8 * per_cycle * DEVICES[device].luts / best["array_luts"] / best["binary_macs"]
    return {"design": title(best), "fps": best["fps"], "cycles": best["cycles"],
            "utilization": best["utilization"], "bound": best["bound"],
            "share_of_ideal": best["fps"] / ideal, "target": target,
            "costs": {name: best[name] for name in COSTS}}


def _by_hand(network, target, device):
    """The named target: whether it fits, and its images a second."""
    costs = costs_of(TARGETS[target], DEVICES[device])
    row = {"device_share": costs["device_share"], "fits": costs["device_share"] <= 1,
           "costs": {name: costs[name] for name in COSTS}}
    try:
        cycles = predict_cycles(prepare(Variant(name=network)).graph, TARGETS[target]).cycles
    except CompileError as error:
        return row | {"fps": None, "refusal": str(error)}
    return row | {"fps": 1e8 / cycles, "cycles": cycles, "refusal": None}


def _refusal(result, device):
    """What the designs miss that come closest, in block RAM and in LUTs."""
    bits = max(width * words for width, words, _ in DEVICES[device].family.geometries)
    missing = {name: min((one["value"] - one["limit"] for record in result["records"]
                          for one in record["broken"] if one["constraint"] == name), default=None)
               for name in ("block_ram", "luts")}
    return {"verdict": result["verdict"], "missing_luts": missing["luts"],
            "missing_kbit": missing["block_ram"] and missing["block_ram"] * bits / 1024}
