"""Estimated paths of a synthesised target on ECP5: the slowest from each unit to each other.

``python benchmarks/run.py paths``. A minute or three of Yosys in place of an hour or two of place
and route, so that a way through several units is seen before it is placed; ``units`` sees none of
these. Cells take what nextpnr says of speed grade 6, a wire ``WIRE`` and more if it has many loads:
what a placement makes of it is not known here. Paths from pins are left out.
"""

import collections
import json
import pathlib
import sys
import tempfile

from bivit.hw.devices import DEVICES
from bivit.hw.flow import accelerator_design, address_registers, many_loads, synthesise
from bivit.hw.flow.design import CORE
from bivit.hw.flow.run import netlist_store
from bivit.hw.flow.synthesis import NETLIST
from bivit.hw.flow.tools import yosys
from bivit.hw.targets import TARGETS

__all__ = ["ROWS", "measure"]

DEVICE = "ecp5-85f"
ROWS = ("ecp5-85f", "ecp5-25f")
GOAL = 10.0
"""Nanoseconds of a cycle."""

WIRE, LOADED = 0.95, ((48, 1.2), (16, 0.6), (6, 0.25))
"""Nanoseconds of a wire; what is added from so many loads on."""
CLOCKED = {"TRELLIS_FF": 0.52, "DP16KD": 5.7, "TRELLIS_DPR16X4": 1.0}
"""Cells with a clock: from it to their outputs."""
OUTPUT_REGISTER = 0.9  # of DP16KD
THROUGH = {"LUT4": 0.24, "MULT18X18D": 3.6, "TRELLIS_DPR16X4": 0.24}
"""Cells with a way through them; of a RAM of LUTs from the address."""
CHAIN = {"S0": (0.24, 0.44), "S1": (0.45, 0.45), "COUT": (0.45, 0.07)}
"""Outputs of CCU2C: from its own inputs, and from the carry."""
ENDS = {"TRELLIS_FF": ("DI", "CE", "LSR"), "TRELLIS_DPR16X4": ("DI", "WAD", "WRE")}
"""Inputs that a clock takes; of DP16KD all."""


def measure(rows=ROWS) -> dict:
    """For each target, by pairs of units: the slowest path and how many ends miss the goal."""
    return {"wire_ns": WIRE, "goal_ns": GOAL, "rows": {row: _row(row) for row in rows}}


def _row(target):
    paths = Paths(_top(accelerator_design(TARGETS[target])))
    pairs = collections.defaultdict(list)
    for time, bit, cell in paths.ends():
        way = paths.way(bit)
        if way[0] in paths.cells:
            pairs[_unit(way[0]), _unit(cell)].append((time, len(way), cell))
    slowest = sorted(((max(ends), pair) for pair, ends in pairs.items()), reverse=True)
    return {
        "slowest_ns": round(slowest[0][0][0], 2),
        "ends": sum(map(len, pairs.values())),
        "late": sum(time > GOAL for ends in pairs.values() for time, *_ in ends),
        "pairs": [{"from": source, "to": sink, "ns": round(time, 2), "cells": cells,
                   "end": end.removeprefix(f"{CORE}."),
                   "late": sum(other > GOAL for other, *_ in pairs[source, sink])}
                  for (time, cells, end), (source, sink) in slowest[:20]]}


def _top(design):
    """The netlist's top module, as nextpnr gets it."""
    device = DEVICES[DEVICE]
    synthesise(design, DEVICE, place=False, progress=lambda done, total, text: print(
        f"\r\033[K  {design.name}: {text}", end="", file=sys.stderr))
    print("\r\033[K", end="", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        netlist = pathlib.Path(folder) / NETLIST
        netlist_store(design, device, yosys.version).unpack(netlist)
        address_registers.rewrite(netlist)
        many_loads.rewrite(netlist)
        modules = json.loads(netlist.read_text())["modules"].values()
    return next(module for module in modules if "top" in module["attributes"])


def _unit(cell):
    name = cell.removeprefix(f"{CORE}.")
    return name.split(".")[0] if name != cell else "pins"


class Paths:
    """Arrival times of a netlist's wires.

    Parameters
    ----------
    top : dict
        A module of Yosys' JSON.
    """

    def __init__(self, top):
        self.cells = top["cells"]
        self._loads, self._drivers, self._arrivals = collections.Counter(), {}, {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    self._drivers |= {bit: (name, port) for bit in bits}
                else:
                    self._loads.update(bits)

    def ends(self):
        """Time at the end of its wire, wire and cell of every input that a clock takes."""
        for name, cell in self.cells.items():
            for port in ENDS.get(cell["type"], cell["connections"]
                                 if cell["type"] == "DP16KD" else ()):
                if cell["port_directions"].get(port) == "input" and not port.startswith("CLK"):
                    for bit in cell["connections"][port]:
                        if isinstance(bit, int):
                            yield self._arrival(bit)[0] + self._wire(bit), bit, name

    def way(self, bit):
        """The cells of the slowest path to a wire; the first is a pin's wire if it is none."""
        found = []
        while bit is not None:
            _, bit, name = self._arrival(bit)
            found.append(name)
        return found[::-1]

    def _wire(self, bit):
        loads = self._loads[bit]
        return WIRE + next((more for least, more in LOADED if loads >= least), 0)

    def _arrival(self, bit):
        """Time, wire and cell before."""
        if bit not in self._arrivals:
            self._arrivals[bit] = (0.0, None, "a loop")  # while it is computed
            name, port = self._drivers.get(bit, (None, None))
            self._arrivals[bit] = ((0.0, None, f"wire {bit}") if name is None
                                   else self._output(name, port))
        return self._arrivals[bit]

    def _output(self, name, port):
        cell = self.cells[name]
        kind, connections = cell["type"], cell["connections"]
        start = CLOCKED.get(kind, 0.0)
        if kind == "DP16KD" and cell["parameters"].get(f"REGMODE_{port[2]}") == "OUTREG":
            start = OUTPUT_REGISTER
        found = [(start, None, name)]
        if kind == "CCU2C":
            own, carried = CHAIN[port]
            found += [(self._arrival(bit)[0] + (
                carried if pin == "CIN" else own + self._wire(bit)), bit, name)
                for pin, bit in self._inputs(cell)
                if not (port == "S0" and pin.endswith("1"))]
        elif kind in THROUGH:
            pins = ("RAD",) if kind == "TRELLIS_DPR16X4" else connections
            found += [(self._arrival(bit)[0] + self._wire(bit) + THROUGH[kind], bit, name)
                      for pin, bit in self._inputs(cell) if pin in pins]
        return max(found, key=lambda way: way[0])

    def _inputs(self, cell):
        return ((pin, bit) for pin, bits in cell["connections"].items() for bit in bits
                if cell["port_directions"][pin] == "input" and isinstance(bit, int)
                and not pin.startswith("CLK"))
