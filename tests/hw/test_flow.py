# amaranth: UnusedElaboratable=no
"""Flows: counts of cells, clock rate and critical path of a small design on every device."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.element import Element
from bivit.hw.blocks.memory import Ram
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.emit import place
from bivit.hw.fabric.element import FabricElement
from bivit.hw.flow import (
    FlowError,
    accelerator_design,
    component_design,
    synthesise,
    tools,
)
from bivit.hw.flow.route import critical_path
from bivit.hw.targets import TARGETS

LANES = 12
ROUTED = [name for name, device in DEVICES.items() if device.route is not None]
SLOW = ("ecp5-25f", "ecp5-85f", "gw5a-25", "gw5ast-138")  # others have the same nextpnr


class Small(wiring.Component):
    """A dot-product unit, a memory of 512 words of 16 bits with byte enables, a multiplier."""

    def __init__(self, *, fabric, depth=512):
        self.fabric, self.depth = fabric, depth
        super().__init__({
            "a": In(LANES), "b": In(LANES), "control": In(3), "count": Out(8),
            "we": In(2), "write_addr": In(range(depth)), "read_addr": In(range(depth)),
            "factor": In(16), "product": Out(32)})

    def elaborate(self, platform):
        m = Module()
        shape = {"lanes": LANES, "stages": 1, "count_bits": 8}
        element = place(m, platform, "element", Element(**shape) if self.fabric == "generic" else
                        FabricElement(fabric=self.fabric, **shape))
        m.d.comb += [element.a.eq(self.a), element.b.eq(self.b),
                     element.control.eq(self.control), self.count.eq(element.count)]
        ram = place(m, platform, "ram", Ram(width=16, depth=self.depth, granularity=8))
        product = Signal(32, reset_less=True)
        m.d.sync += product.eq(ram.read_data[0] * self.factor)
        m.d.comb += [ram.we.eq(self.we), ram.write_addr.eq(self.write_addr),
                     ram.write_data.eq(self.factor), ram.read_addr[0].eq(self.read_addr),
                     self.product.eq(product)]
        return m


def small(device, **options):
    return component_design(Small(fabric=DEVICES[device].family.fabric, **options), "small")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of this module's own."""
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path_factory.getbasetemp() / "flow-cache"))


def check(device, result):
    used = {name: row["used"] for name, row in result["resources"].items()}
    assert result["fits"] and result["too_small"] is None
    assert used["block_ram"] == (2 if device == "up5k" else 1)
    assert used["multipliers"] == (0 if device.startswith("gw5a") else 1)  # LUTs, by Yosys
    assert used["registers"] >= 8
    for name in RESOURCES:
        assert sum(unit[name] for unit in result["units"].values()) == used[name]
    assert LANES < result["units"]["element"]["luts"] < 6 * LANES + 40
    for run in result["routes"]:
        path = run["critical_path"]
        assert 10 < run["fmax_mhz"] < 1000
        assert path["nanoseconds"] == pytest.approx(1000 / run["fmax_mhz"], rel=0.02)
        assert path["logic"] + path["routing"] == pytest.approx(path["nanoseconds"], abs=0.01)
        assert path["hops"] >= 1 and path["source"] in path["words"]


def test_ecp5():
    texts = []
    result = synthesise(small("ecp5-25f"), "ecp5-25f",
                        progress=lambda done, total, text: texts.append((done, total, text)))
    check("ecp5-25f", result)
    assert result["units"]["ram"]["registers"] == 0  # its own
    assert result["fmax_mhz"] == result["routes"][0]["fmax_mhz"]
    assert {(done, total) for done, total, _ in texts} == {(0, 2), (1, 2)}
    texts.clear()
    again = synthesise(small("ecp5-25f"), "ecp5-25f", progress=lambda *text: texts.append(text))
    assert again == result and not texts  # all from the cache


@pytest.mark.slow
def test_seeds():
    result = synthesise(small("ecp5-25f"), "ecp5-25f", seeds=(4, 5, 6))
    rates = [run["fmax_mhz"] for run in result["routes"]]
    assert [run["seed"] for run in result["routes"]] == [4, 5, 6]
    assert result["fmax_mhz"] == sorted(rates)[1] and len(set(rates)) > 1


@pytest.mark.parametrize("device", ["zynq-7020", "k26"])
def test_synthesis_only(device):
    result = synthesise(small(device), device)
    check(device, result)
    assert result["routes"] == [] and result["fmax_mhz"] is None


@pytest.mark.parametrize("device", [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ROUTED])
def test_place_and_route(device):
    result = synthesise(small(device), device)
    check(device, result)
    assert len(result["routes"]) == 1


def test_too_small():
    result = synthesise(small("ecp5-25f", depth=1 << 16), "ecp5-25f")
    assert not result["fits"] and result["routes"] == []
    assert "LFE5U-25F" in result["too_small"]
    assert "needs 64 DP16KD (18 kbit) of 56 (114 %)" in result["too_small"]


def test_refusals(monkeypatch, tmp_path):
    with pytest.raises(FlowError, match="there is no device 'xyz'; take one of ecp5-25f, "):
        synthesise(small("ecp5-25f"), "xyz")
    broken = component_design(Small(fabric="ecp5"), "broken", "module accelerator(")
    with pytest.raises(FlowError, match="Yosys failed: .*syntax error"):
        synthesise(broken, "ecp5-25f")
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlowError, match=r"Yosys is not installed; pip install 'bivit\[synth\]'"):
        synthesise(small("ecp5-25f"), "ecp5-25f")


def test_critical_path():
    def step(kind, delay, net=None):
        cell = {"cell": "accelerator.post.sum_TRELLIS_FF_Q_3", "port": "Q"}
        end = {"cell": "accelerator.array.tile.count_LUT4_Z", "port": "A"}
        return {"type": kind, "delay": delay, "from": cell, "to": end, "net": net}

    steps = [step("clk-to-q", 0.5), step("routing", 2.0, "accelerator.post.sum[3]"),
             step("logic", 0.2), step("routing", 1.0, "x"), step("setup", 0.1)]
    path = critical_path([
        {"from": "<async>", "to": "posedge clk", "path": [step("routing", 9.0, "y")]},
        {"from": "posedge clk", "to": "posedge clk", "path": steps}])
    assert path.words == ("from post.sum to array.tile.count: 3.80 ns, of it 0.80 in cells and "
                          "3.00 on 2 wires, the slowest (2.00 ns) post.sum[3]")


def test_named_targets_take_their_devices_fabric():
    for name, target in TARGETS.items():
        if name in DEVICES:
            assert target.fabric == DEVICES[name].family.fabric


@pytest.mark.slow
def test_whole_accelerator():
    arch = Arch(name="whole", rows=1, cols=2, lanes=16, fabric="ecp5", program_depth=256,
                weight_depth=256, xmem_depth=256, hmem_depth=256, bmem_depth=256, pmem_depth=256,
                resid_depth=256, vmem_depth=256)
    result = synthesise(accelerator_design(arch), "ecp5-85f")
    assert result["fits"] and len(result["routes"]) == 1
    assert {"sequencer", "load", "issue", "array", "post", "softmax", "vector"} <= set(
        result["units"])
    assert result["routes"][0]["fmax_mhz"] > 10
