# amaranth: UnusedElaboratable=no
"""Registers that many block RAMs read are copied, and the netlist does what it did."""

import copy
import json

import numpy as np
import pytest

from bivit.hw.blocks.memory import Ram
from bivit.hw.devices import DEVICES
from bivit.hw.flow import component_design, route, synthesis
from bivit.hw.flow.address_registers import copy_registers
from bivit.sim.netlist import Netlist

CLOCK, DATA, ADDRESS = 2, 3, 4


def cell(kind, parameters, inputs, outputs):
    return {"type": kind, "parameters": parameters,
            "port_directions": dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output"),
            "connections": {port: [bit] for port, bit in (inputs | outputs).items()}}


def netlist():
    """A register that eleven block RAMs of a memory, one of another and a LUT read."""
    names = [*(f"wide.words.0.{number}" for number in range(11)), "other.words.0.0"]
    rams = {name: cell("DP16KD", {}, {"ADA5": ADDRESS, "ADB5": ADDRESS, "ADA6": "0", "CLKA": CLOCK},
                       {"DOA0": 100 + index}) for index, name in enumerate(sorted(names))}
    return {"cells": {
        "address": cell("TRELLIS_FF", {"REGSET": "SET"}, {"CLK": CLOCK, "DI": DATA},
                        {"Q": ADDRESS}),
        "lut": cell("LUT4", {}, {"A": ADDRESS}, {"Z": 5}), **rams}}


def test_a_copy_for_each_few():
    module = netlist()
    before = copy.deepcopy(module["cells"])
    assert copy_registers(module) == 3
    cells = module["cells"]
    assert set(cells) - set(before) == {f"address_copy{number}" for number in (1, 2, 3)}
    registers = [name for name, found in cells.items() if found["type"] == "TRELLIS_FF"]
    bits = {cells[name]["connections"]["Q"][0]: name for name in registers}
    assert len(bits) == 4
    for name in registers:  # but for its output each is the first
        assert cells[name] | {"connections": {**cells[name]["connections"], "Q": [ADDRESS]}} == (
            before["address"])
    readers = {name: set() for name in registers}
    for name, found in cells.items():
        pins = found["connections"]
        if found["type"] == "DP16KD":
            assert pins["ADA5"] == pins["ADB5"]
            assert {**pins, "ADA5": [ADDRESS], "ADB5": [ADDRESS]} == before[name]["connections"]
            readers[bits[pins["ADA5"][0]]].add(name)
    assert sorted(map(sorted, readers.values())) == sorted([
        ["other.words.0.0"], *(sorted(f"wide.words.0.{number}" for number in numbers)
                               for numbers in (range(4), range(4, 8), range(8, 11)))])
    assert cells["lut"] == before["lut"]
    assert copy_registers(module) == 0


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Netlist of a memory of nine block RAMs, with registers before it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mapped")
        patch.setenv("BIVIT_CACHE", str(folder / "cache"))
        component_design(Ram(width=324, depth=512, granularity=36), "ram").write(folder)
        synthesis.run(DEVICES["ecp5-85f"], folder, lambda text: None)
    return json.loads((folder / synthesis.NETLIST).read_text())


def stimulus(top, cycles):
    generator = np.random.default_rng(1)
    return {name: generator.integers(2, size=cycles) for name, port in top["ports"].items()
            if port["direction"] == "input" and name != "clk"}


def top_of(found):
    return next(module for module in found["modules"].values()
                if int(module["attributes"].get("top", "0"), 2))


def test_the_netlist_does_what_it_did(mapped):
    copied = copy.deepcopy(mapped)
    assert copy_registers(top_of(copied)) >= 2 * 2 * 9  # two copies of each bit of two addresses
    inputs = stimulus(top_of(mapped), 3000) | {"rst": np.zeros(3000, int)}
    before, after = (Netlist(json.dumps(found)).run(inputs) for found in (mapped, copied))
    assert any(bits.any() for bits in before.values())
    for name, bits in before.items():
        assert np.array_equal(bits, after[name]), name
    wrong = copy.deepcopy(copied)
    for name in set(top_of(copied)["cells"]) - set(top_of(mapped)["cells"]):
        top_of(wrong)["cells"][name]["connections"]["DI"] = ["1"]
    found = Netlist(json.dumps(wrong)).run(inputs)
    assert any((bits != found[name]).any() for name, bits in before.items())


def test_what_is_placed_and_routed_has_copies(mapped, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    class Tool:
        def run(self, arguments, folder, *, listen):
            raise Stop

    monkeypatch.setattr(route, "nextpnr", lambda kind: Tool())
    (tmp_path / synthesis.NETLIST).write_text(json.dumps(mapped))
    with pytest.raises(Stop):
        route.run(DEVICES["ecp5-85f"], 1, tmp_path, lambda text: None)
    found = json.loads((tmp_path / synthesis.NETLIST).read_text())
    assert len(top_of(found)["cells"]) >= len(top_of(mapped)["cells"]) + 2 * 2 * 9
