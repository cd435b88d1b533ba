# amaranth: UnusedElaboratable=no
"""The resource model: what follows by rule is what synthesis gives."""

import dataclasses
import json

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.explore.costs import costs_of
from bivit.hw.arch import Arch, ArchError
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.memory import Ram, Rom
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.emit import place
from bivit.hw.flow import component_design, synthesise
from bivit.hw.memories import MemorySize
from bivit.hw.memory_resources import (
    block_ram,
    memory_block_ram,
    memory_places,
    memory_resources,
)
from bivit.hw.resources import BLOCKS, COEFFICIENTS, FEATURES, elements, predict
from bivit.hw.targets import TARGETS

RAMS = [
    {"width": 72, "depth": 1024, "granularity": 72},
    {"width": 64, "depth": 1024, "granularity": 8},
    {"width": 48, "depth": 512, "granularity": 6},
    {"width": 40, "depth": 2048, "granularity": 20},
]


class Around(wiring.Component):
    """A memory as it is placed: a primitive, and not its twin."""

    def __init__(self, memory):
        self.memory = memory
        super().__init__(dict(memory.signature.members.items()))

    def elaborate(self, platform):
        m = Module()
        inner = place(m, platform, "memory", self.memory)
        for name, member in self.signature.members.items():
            own, other = getattr(self, name), getattr(inner, name)
            m.d.comb += other.eq(own) if member.flow is In else own.eq(other)
        return m


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of this module's own."""
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path_factory.getbasetemp() / "resources-cache"))


def used(design, device):
    result = synthesise(design, device, place=False)
    return {name: row["used"] for name, row in result["resources"].items()}


@pytest.mark.parametrize("device", ["ecp5-85f", pytest.param("zynq-7020", marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [RAMS[1], *(pytest.param(size, marks=pytest.mark.slow)
                                             for size in (RAMS[0], *RAMS[2:]))])
def test_block_ram_of_rams(size, device):
    found = used(component_design(Around(Ram(**size, read_ports=2)), "ram"), device)
    assert found["block_ram"] == 2 * block_ram(**size, family=DEVICES[device].family)
    # Some for enables; a LUT and two registers a bit would imitate reads of what is being written.
    assert found["luts"] <= size["width"] // size["granularity"]
    # The output registers, which lie in the block RAM of ECP5.
    assert found["registers"] == (0 if device == "ecp5-85f" else 2 * size["width"])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["ecp5-85f", "zynq-7020"])
@pytest.mark.parametrize("width, depth", [(160, 1024), (352, 2048), (256, 8192)])
def test_block_ram_of_roms(width, depth, device):
    design = component_design(
        Around(Rom(width=width, depth=depth, file="rom/rom.hex")), "rom",
        memories=(("rom/rom.hex", MemorySize(width, depth)),))
    assert used(design, device)["block_ram"] == block_ram(
        width=width, depth=depth, granularity=width, family=DEVICES[device].family, rom=True)


@pytest.mark.parametrize("device, width, depth, granularity, luts, block_ram", [
    ("ecp5-85f", 64, 1, 16, 0, 0), ("ecp5-85f", 64, 2, 64, 64, 0), ("ecp5-85f", 64, 16, 16, 64, 0),
    ("zynq-7020", 64, 1, 16, 0, 0), ("zynq-7020", 64, 16, 64, 44, 0),
    ("zynq-7020", 64, 16, 16, 48, 0), ("zynq-7020", 64, 64, 64, 88, 0),
    ("zynq-7020", 64, 65, 64, 0, 2), ("zynq-7020", 16, 128, 16, 66, 0),
    ("zynq-7020", 32, 128, 32, 0, 1), ("k26", 64, 16, 64, 40, 0), ("k26", 64, 16, 16, 64, 0),
    ("k26", 64, 64, 64, 80, 0), ("k26", 8, 128, 8, 42, 0), ("k26", 512, 65, 64, 0, 16),
    ("zynq-7020", 32, 128, 4, 176, 0),
    ("zynq-7020", 32, 256, 4, 0, 2), ("zynq-7020", 112, 128, 112, 0, 4),
])
def test_memories_of_few_words(device, width, depth, granularity, luts, block_ram):
    """As Yosys made them, each alone."""
    found = memory_resources(MemorySize(width, depth), granularity, DEVICES[device].family)
    assert (found["luts"], found["block_ram"]) == (luts, block_ram)


@pytest.mark.parametrize("device, width, depth, luts, block_ram", [
    ("zynq-7020", 72, 60, 72, 0), ("zynq-7020", 72, 128, 144, 0), ("zynq-7020", 72, 160, 288, 0),
    ("zynq-7020", 16, 256, 64, 0), ("zynq-7020", 72, 256, 0, 2), ("k26", 72, 128, 144, 0),
])
def test_roms_of_few_words(device, width, depth, luts, block_ram):
    """As Yosys made them of noise, each alone."""
    found = memory_resources(MemorySize(width, depth), width, DEVICES[device].family, rom=True)
    assert (found["luts"], found["block_ram"]) == (luts, block_ram)


class Products(wiring.Component):
    """Products of so many bits by so many, signed or not."""

    def __init__(self, products):
        self.products = products
        super().__init__({
            f"{side}_{index}": In(signed(bits) if is_signed else bits)
            for index, (*sides, is_signed) in enumerate(products)
            for side, bits in zip(("left", "right"), sides, strict=True)} | {
            f"product_{index}": Out(signed(left + right) if is_signed else left + right)
            for index, (left, right, is_signed) in enumerate(products)})

    def elaborate(self, platform):
        m = Module()
        for index in range(len(self.products)):
            left, right, product = (getattr(self, f"{name}_{index}")
                                    for name in ("left", "right", "product"))
            m.d.sync += product.eq(left * right)
        return m


@pytest.mark.parametrize("device", ["ecp5-85f", *(pytest.param(name, marks=pytest.mark.slow)
                                                  for name in ("zynq-7020", "k26"))])
def test_multipliers_of_products(device):
    """As many as Yosys makes, at the widths where there is one more."""
    products = [(left, right, is_signed) for is_signed in (False, True) for left, right in (
        (6, 36), (6, 37), (7, 38), (16, 19), (20, 20), (25, 18))]
    result = used(component_design(Products(products), "products"), device)
    multiplier = DEVICES[device].family.multiplier
    assert result["multipliers"] == sum(
        multiplier.count(left, right, signed=is_signed) for left, right, is_signed in products)


@pytest.mark.slow
@pytest.mark.parametrize("fabric, device", [("ecp5", "ecp5-85f"), ("lut6-xc7", "zynq-7020")])
def test_elements(fabric, device):
    arch = Arch(name="array", rows=2, cols=4, lanes=32, tile_rows=2, tile_cols=2, fabric=fabric)
    found = used(component_design(SystolicArray(arch), "array"), device)
    counted = elements(arch, DEVICES[device].family)
    assert counted["luts"] <= found["luts"] <= counted["luts"] + 2 * arch.rows * arch.cols
    assert counted["registers"] < found["registers"]


def test_prediction():
    arch, family = TARGETS["ecp5-25f"], DEVICES["ecp5-25f"].family
    known = {"systolic_array": {"luts": {"one": 3.2}, "registers": {"mesh operands": 1}},
             "rescale": {"multipliers": {"arithmetic lanes": 3}},
             "element": {"luts": {"elements": 1}},
             "constant_loader": {"luts": {"loaded": 1e6}}}
    found = predict(arch, family, known)
    counted = elements(arch, family)
    assert found["element"]["luts"] == counted["luts"] + arch.rows * arch.cols
    assert found["element"]["registers"] == counted["registers"]
    assert found["systolic_array"] == {"luts": 3, "block_ram": 0, "multipliers": 0,
                                       "registers": (4 * 2 + 4 * 2) * 64}
    assert found["rescale"]["multipliers"] == found["norm_column"]["multipliers"] == 3 * 4
    assert found["norm_lane"]["multipliers"] == 6
    assert found["score memory"]["block_ram"] == 9 and found["row_sums"]["block_ram"] == 5
    assert found["weight memory"]["block_ram"] == 114 and found["constant_loader"]["luts"] == 0
    loaded = predict(dataclasses.replace(arch, weights="loaded"), family, known)
    assert loaded["constant_loader"]["luts"] == 10**6
    assert loaded["weight memory"]["block_ram"] == 116


@pytest.mark.parametrize("fabric, others, words", [
    ("generic", {}, "there is no resource model of the fabric generic"),
    ("ecp5", {"loops": False}, "this one has no loops"),
    ("ecp5", {"stem_macs": 16}, "this one has a stem engine"),
])
def test_what_the_model_does_not_know(fabric, others, words):
    arch = dataclasses.replace(TARGETS["tiny"], fabric=fabric, **others)
    with pytest.raises(ArchError, match=f"target tiny: .*{words}"):
        predict(arch, DEVICES["ecp5-25f"].family)


def test_block_ram_of_a_target():
    """As Yosys made them on the ECP5: what cannot be synthesised in a test."""
    found = memory_block_ram(TARGETS["ecp5-25f"], DEVICES["ecp5-25f"].family)
    assert found["weight_rom"] == 114 and found["hmem_ram"] == 64 and found["bmem_ram"] == 32


STREAMED = [name for name in TARGETS if name.endswith("-streamed")]


@pytest.mark.parametrize("name", STREAMED)
def test_memories_of_streamed_targets_fit_their_devices(name):
    device = DEVICES[name.removesuffix("-streamed")]
    places = memory_places(TARGETS[name], device)
    assert places["block_ram"] <= device.block_ram and places["ultra_ram"] <= device.ultra_ram


@pytest.mark.parametrize("name", STREAMED)
def test_streamed_targets_have_no_more_than_their_devices(name):
    device = DEVICES[name.removesuffix("-streamed")]
    costs = costs_of(TARGETS[name], device)
    for resource in ("luts", "registers", "multipliers"):
        assert 0 < costs[resource] <= device.available[resource]


@pytest.mark.parametrize("device", ["zynq-7020", "k26", "zcu102"])
def test_memories_of_targets_fill_their_devices(device):
    places = memory_places(TARGETS[f"{device}-streamed"], DEVICES[device])
    assert 0.9 * DEVICES[device].block_ram < places["block_ram"]
    larger = dataclasses.replace(TARGETS[f"{device}-streamed"], lanes=128)
    assert memory_places(larger, DEVICES[device])["block_ram"] > DEVICES[device].block_ram


def test_blocks_have_features_that_are_there():
    assert {name for features in BLOCKS.values() for name in features} == set(FEATURES)


def test_model_of_ecp5_is_whole():
    """Every block of the list has coefficients, of features of its own."""
    stored = json.loads(COEFFICIENTS.read_text())["ecp5"]
    assert set(stored) == set(BLOCKS)
    for block, resources in stored.items():
        for factors in resources.values():
            assert set(factors) <= set(BLOCKS[block]) and min(factors.values(), default=0) >= 0


def test_prediction_of_a_synthesised_target():
    """Target ecp5-85f as `bivit synth` made it (docs/synthesis.md), which was not fitted."""
    found = predict(TARGETS["ecp5-85f"], DEVICES["ecp5-85f"].family)
    total = {name: sum(part[name] for part in found.values()) for name in RESOURCES}
    assert total["block_ram"] == 189 and total["multipliers"] == 46
    assert abs(total["luts"] - 45075) < 0.02 * 45075
    assert abs(total["registers"] - 39179) < 0.02 * 39179


def test_prediction_of_a_machine_without_parts():
    """2x4x16 without sums and moves of rows and exponentials, as Yosys made it."""
    depths = {128: ("thr", "scale", "norm", "pos", "bend", "bias", "imem", "xmem", "pmem", "vmem"),
              256: ("hmem", "bmem", "resid"), 512: ("program", "weight"), 64: ("kmem",),
              32: ("pv",), 16: ("sums",)}
    arch = Arch(name="small", fabric="ecp5", rows=2, cols=4, lanes=16, tile_rows=2, tile_cols=2,
                weights="loaded", row_sums=False, row_moves=False, exponentials=False,
                score_tiles=16, **{f"{name}_depth": depth for depth, names in depths.items()
                                   for name in names})
    found = predict(arch, DEVICES["ecp5-85f"].family)
    total = {name: sum(part[name] for part in found.values()) for name in RESOURCES}
    assert total["block_ram"] == 74 and total["multipliers"] == 30
    assert abs(total["luts"] - 18511) < 0.02 * 18511
    assert abs(total["registers"] - 16437) < 0.02 * 16437
    assert not {"row_mover", "gelu", "exponential", "destination_walk"} & set(found)
    with_sums = predict(dataclasses.replace(arch, row_sums=True), DEVICES["ecp5-85f"].family)
    assert {"gelu", "destination_walk"} <= set(with_sums) and "row_mover" not in with_sums
