"""Registers behind block RAM, moved into the block RAM, whose own ones Yosys leaves unused.

On ECP5 the data of a block RAM is there 5.7 ns after the clock, that of its output register after
about one.
"""

import collections
import pathlib

from bivit.hw.flow.rewriting import rewrite_top

__all__ = ["KEY", "absorb", "rewrite"]

KEY = "DP16KD with OUTREG"
"""For hashes of what depends on this."""

HALVES = {"A": ("DOA",), "B": ("DOB",)}
WIDE = {"B": ("DOA", "DOB")}
"""Port to its outputs; the read port of a block RAM of 36 bits has those of both."""


def rewrite(path: pathlib.Path) -> None:
    """Do so in the top module of a netlist of Yosys."""
    rewrite_top(path, "DP16KD", absorb)


def absorb(module: dict) -> int:
    """Do so in a module; returns the number of registers that are gone."""
    cells, gone = module["cells"], 0
    rams = [cell for cell in cells.values() if cell["type"] == "DP16KD"]
    readers = _readers(module) if rams else {}
    for ram in rams:
        wide = int(ram["parameters"]["DATA_WIDTH_A"], 2) == 36
        for side, outputs in (WIDE if wide else HALVES).items():
            data = {port: bits[0] for port, bits in ram["connections"].items()
                    if port.startswith(outputs) and readers[bits[0]]}
            behind = {port: _register(ram, side, cells, readers[bit])
                      for port, bit in data.items()}
            if not behind or None in behind.values():
                continue
            for port, name in behind.items():
                ram["connections"][port] = cells.pop(name)["connections"]["Q"]
            for half in HALVES if wide else side:
                ram["parameters"][f"REGMODE_{half}"] = "OUTREG"
            gone += len(behind)
    return gone


def _readers(module):
    """Bit to the inputs of cells and the ports of the module that read it."""
    readers = collections.defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for bit in bits:
                    readers[bit].append((name, port))
    for name, port in module["ports"].items():
        if port["direction"] != "input":
            for bit in port["bits"]:
                readers[bit].append((None, name))
    return readers


def _register(ram, side, cells, readers):
    """Name of the register that alone reads a bit, if it is like the output register of `ram`."""
    always = ram["connections"][f"CE{side}"] == ram["connections"][f"OCE{side}"] == ["1"]
    plain = ram["connections"][f"RST{side}"] == ["0"] and (
        ram["parameters"][f"CLK{side}MUX"] == f"CLK{side}")
    if len(readers) != 1 or not always or not plain:
        return None
    (name, port), = readers
    if name is None or cells[name]["type"] != "TRELLIS_FF" or port != "DI":
        return None
    parameters, pins = cells[name]["parameters"], cells[name]["connections"]
    same = (pins["CLK"] == ram["connections"][f"CLK{side}"] and parameters["CLKMUX"] == "CLK"
            and parameters["CEMUX"].strip() == "1" and pins.get("LSR", ["0"]) == ["0"])
    return name if same else None
