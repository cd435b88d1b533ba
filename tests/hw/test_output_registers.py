"""Registers behind block RAM go into it, and only those that do what its own do."""

import copy

import pytest

from bivit.hw.flow.output_registers import absorb

CLOCK, ENABLE = 2, 3


def ram(width, outputs):
    ports = {"CLKA": CLOCK, "CLKB": CLOCK, "CEA": "1", "CEB": "1", "OCEA": "0", "OCEB": "1",
             "RSTA": "0", "RSTB": "0"}
    return {"type": "DP16KD",
            "parameters": {"DATA_WIDTH_A": f"{width:b}", "REGMODE_A": "NOREG",
                           "REGMODE_B": "NOREG", "CLKAMUX": "CLKA", "CLKBMUX": "CLKB"},
            "port_directions": dict.fromkeys(ports, "input") | dict.fromkeys(outputs, "output"),
            "connections": {port: [bit] for port, bit in (ports | outputs).items()}}


def register(data, out, **more):
    ports = {"CLK": CLOCK, "DI": data, "LSR": "0", **more}
    return {"type": "TRELLIS_FF",
            "parameters": {"CEMUX": "CE" if "CE" in more else "1 ", "CLKMUX": "CLK"},
            "port_directions": dict.fromkeys(ports, "input") | {"Q": "output"},
            "connections": {port: [bit] for port, bit in (ports | {"Q": out}).items()}}


def netlist(width=36):
    """Two bits of a block RAM, each with a register, and a block RAM whose bits are not read."""
    return {"ports": {"q": {"direction": "output", "bits": [20, 21]}},
            "cells": {"ram": ram(width, {"DOA0": 10, "DOB0": 11, "DOB1": 12}),
                      "idle": ram(width, {"DOA0": 13}),
                      "low": register(10, 20), "high": register(11, 21)}}


def test_wide_read_port():
    module = netlist()
    assert absorb(module) == 2
    assert set(module["cells"]) == {"ram", "idle"}
    pins, parameters = (module["cells"]["ram"][name] for name in ("connections", "parameters"))
    assert (pins["DOA0"], pins["DOB0"], pins["DOB1"]) == ([20], [21], [12])
    assert parameters["REGMODE_A"] == parameters["REGMODE_B"] == "OUTREG"
    assert module["cells"]["idle"]["parameters"]["REGMODE_B"] == "NOREG"
    assert absorb(module) == 0


def test_ports_apart():
    module = netlist(width=18)  # the output register of port A is off
    assert absorb(module) == 1
    assert set(module["cells"]) == {"ram", "idle", "low"}
    parameters = module["cells"]["ram"]["parameters"]
    assert (parameters["REGMODE_A"], parameters["REGMODE_B"]) == ("NOREG", "OUTREG")


@pytest.mark.parametrize("change", [
    lambda module: module["cells"].update(other=register(10, 22)),
    lambda module: module["cells"].update(high=register(11, 21, CE=ENABLE)),
    lambda module: module["cells"].update(high=register(11, 21, LSR=ENABLE)),
    lambda module: module["cells"].update(high=register(11, 21, CLK=ENABLE)),
    lambda module: module["cells"]["high"].update(type="LUT4"),
    lambda module: module["ports"]["q"]["bits"].append(11),
    lambda module: module["cells"]["ram"]["connections"].update(CEB=[ENABLE]),
    lambda module: module["cells"]["ram"]["connections"].update(RSTB=[ENABLE]),
    lambda module: module["cells"]["ram"]["parameters"].update(CLKBMUX="INV"),
])
def test_left_alone(change):
    module = netlist()
    change(module)
    before = copy.deepcopy(module)
    assert absorb(module) == 0 and module == before
