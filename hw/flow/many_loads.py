"""Registers and LUTs of ECP5 with many loads, copied: each copy drives a part of them.

A wire to hundreds of loads spans the device, and takes longer than a cycle.
"""

import collections
import copy
import pathlib
import re

from bivit.hw.flow.rewriting import rewrite_top

__all__ = ["KEY", "copy_drivers", "numbered", "rewrite"]

LOADS = 64
"""Loads of a register or a LUT."""

ROUNDS = 3
"""A LUT that is copied loads what drives it."""

KEY = f"drivers copied for each {LOADS} loads"
"""For hashes of what depends on this."""

_OUTPUT = {"TRELLIS_FF": "Q", "LUT4": "Z"}
_CLOCKS = {"CLK", "WCK", "CLKA", "CLKB", "CLK0"}


def rewrite(path: pathlib.Path) -> None:
    """Do so in the top module of a netlist of Yosys."""
    rewrite_top(path, "TRELLIS_FF", copy_drivers)


def copy_drivers(module: dict, most: int = LOADS) -> int:
    """Do so in a module; returns the number of copies.

    Loads are taken in the order of their names, so that those of one block, lane or column have the
    same copy. A wire that does nothing but reset is left alone.
    """
    made = 0
    for _ in range(ROUNDS):
        made += _copy_once(module["cells"], most)
    return made


def numbered(name: str) -> list:
    """A name by whose order number 10 comes after number 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _copy_once(cells, most):
    drivers, loads = {}, collections.defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            for place, bit in enumerate(bits):
                if port not in _CLOCKS and cell["port_directions"][port] == "input":
                    loads[bit].append((name, port, place))
        if cell["type"] in _OUTPUT:
            drivers |= dict.fromkeys(cell["connections"][_OUTPUT[cell["type"]]], name)
    free = 1 + max((bit for cell in cells.values() for bits in cell["connections"].values()
                    for bit in bits if isinstance(bit, int)), default=1)
    first = free
    for bit, name in drivers.items():
        pins = sorted(loads[bit], key=lambda pin: numbered(pin[0]))
        if len(pins) <= most or all(port == "LSR" for _, port, _ in pins):
            continue
        parts = -(-len(pins) // most)
        for part in range(1, parts):
            twin = cells[f"{name}_load{free}"] = copy.deepcopy(cells[name])
            twin["connections"][_OUTPUT[twin["type"]]] = [free]
            for load, port, place in pins[part * len(pins) // parts:
                                          (part + 1) * len(pins) // parts]:
                bits = cells[load]["connections"][port] = list(cells[load]["connections"][port])
                bits[place] = free
            free += 1
    return free - first
