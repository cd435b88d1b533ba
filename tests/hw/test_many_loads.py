"""Registers and LUTs with many loads are copied, and the netlist does what it did."""

import collections
import copy
import json

import numpy as np

from bivit.hw.flow.many_loads import LOADS, copy_drivers
from bivit.sim.netlist import Netlist


def cell(kind, inputs, outputs, **parameters):
    return {"type": kind, "parameters": parameters,
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output"),
            "connections": {port: [bit] for port, bit in (inputs | outputs).items()}}


def register(data, out):
    return cell("TRELLIS_FF", {"CLK": 2, "LSR": 3, "DI": data}, {"Q": out}, GSR="DISABLED",
                CEMUX="1", CLKMUX="CLK", LSRMUX="LSR", REGSET="RESET", SRMODE="LSR_OVER_CE")


def netlist(count=150):
    """A register, a LUT of it, and registers of that; all their outputs are ports."""
    flip = cell("LUT4", {"A": 5, "B": "0", "C": "0", "D": "0"}, {"Z": 6},
                INIT="0101010101010101")
    cells = {"source": register(4, 5), "flip": flip}
    cells |= {f"lane_{lane}.result": register(6, 100 + lane) for lane in range(count)}
    cells |= {f"lane_{lane}.other": register(5, 1000 + lane) for lane in range(count)}
    outputs = {f"o{bit}": {"direction": "output", "bits": [bit]}
               for first in (100, 1000) for bit in range(first, first + count)}
    inputs = {name: {"direction": "input", "bits": [bit]}
              for name, bit in (("clk", 2), ("rst", 3), ("d", 4))}
    return {"modules": {"top": {"attributes": {"top": "1"}, "ports": inputs | outputs,
                                "cells": cells, "netnames": {}}}}


def loads_of(cells):
    found = collections.Counter()
    for one in cells.values():
        for port, bits in one["connections"].items():
            if one["port_directions"][port] == "input" and port != "CLK":
                found.update(bits)
    return found


def test_no_driver_has_more_loads():
    top = netlist()["modules"]["top"]
    before = copy.deepcopy(top["cells"])
    assert copy_drivers(top) == 4  # two of the LUT, two of the register; resets stay
    cells, loads = top["cells"], loads_of(top["cells"])
    made = set(cells) - set(before)
    for name in {"source", "flip"} | made:
        one = cells[name]
        out = "Q" if one["type"] == "TRELLIS_FF" else "Z"
        assert loads[one["connections"][out][0]] <= LOADS
        twin = before["source" if out == "Q" else "flip"]
        assert one["parameters"] == twin["parameters"]
    assert loads[3] == len(cells) - 3  # of each register
    assert copy_drivers(top) == 0


def test_loads_of_one_block_have_one_copy():
    cells = netlist()["modules"]["top"]["cells"]
    copy_drivers({"cells": cells}, most=50)
    drivers = [cells[f"lane_{lane}.result"]["connections"]["DI"][0] for lane in range(150)]
    assert len(set(drivers)) == 3
    assert [drivers[0]] * 50 + [drivers[50]] * 50 + [drivers[100]] * 50 == drivers


def test_the_netlist_does_what_it_did():
    found = netlist()
    copied, generator = copy.deepcopy(found), np.random.default_rng(1)
    assert copy_drivers(copied["modules"]["top"], most=9) > 30
    inputs = {name: generator.integers(2, size=200) for name in ("rst", "d")}
    before, after = (Netlist(json.dumps(one)).run(inputs) for one in (found, copied))
    assert any(bits.any() for bits in before.values())
    for name, bits in before.items():
        assert np.array_equal(bits, after[name]), name
    wrong = copy.deepcopy(copied)
    name = next(name for name in wrong["modules"]["top"]["cells"] if name.startswith("flip_load"))
    wrong["modules"]["top"]["cells"][name]["parameters"]["INIT"] = "1" * 16
    after = Netlist(json.dumps(wrong)).run(inputs)
    assert any((bits != after[name]).any() for name, bits in before.items())
