"""Registers that many block RAMs read, copied: each copy is for a few block RAMs.

Block RAMs of ECP5 lie in a few rows of the device, and a wire from one register to all those of a
wide memory gets long.
"""

import collections
import copy
import itertools
import pathlib

from bivit.hw.flow.many_loads import numbered
from bivit.hw.flow.rewriting import rewrite_top

__all__ = ["KEY", "copy_registers", "rewrite"]

RAMS = 4
"""Block RAMs of a memory that read one register."""

KEY = f"registers copied for each {RAMS} DP16KD"
"""For hashes of what depends on this."""


def rewrite(path: pathlib.Path) -> None:
    """Do so in the top module of a netlist of Yosys."""
    rewrite_top(path, "DP16KD", copy_registers)


def copy_registers(module: dict) -> int:
    """Do so in a module; returns the number of copies.

    Block RAMs of a memory are taken in the order of their numbers, so that those with neighbouring
    bits read the same copies. What else reads a register goes on to read it.
    """
    cells, made = module["cells"], 0
    pins = _pins(cells)
    free = 1 + max((bit for cell in cells.values() for bits in cell["connections"].values()
                    for bit in bits if isinstance(bit, int)), default=1)
    registers = [name for name, cell in cells.items() if cell["type"] == "TRELLIS_FF"]
    for name in registers:
        readers = pins.get(cells[name]["connections"]["Q"][0], {})
        for number, rams in enumerate(_groups(readers)):
            if number == 0:
                continue
            twin = cells[f"{name}_copy{number}"] = copy.deepcopy(cells[name])
            twin["connections"]["Q"] = [free]
            for ram in rams:
                cells[ram]["connections"] |= dict.fromkeys(readers[ram], [free])
            free, made = free + 1, made + 1
    return made


def _pins(cells):
    """Bit to the block RAMs that read it to their inputs of it."""
    pins = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, cell in cells.items():
        if cell["type"] == "DP16KD":
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    for bit in bits:
                        pins[bit][name].append(port)
    return pins


def _groups(rams):
    """Names of block RAMs, some of one memory in each group."""
    names = sorted(rams, key=numbered)
    for _, memory in itertools.groupby(names, key=lambda name: name.rstrip("0123456789.")):
        memory = list(memory)
        yield from (memory[first:first + RAMS] for first in range(0, len(memory), RAMS))
