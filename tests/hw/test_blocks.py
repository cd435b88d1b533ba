# amaranth: UnusedElaboratable=no
"""Blocks mapped apart, once, and kept: the same netlist as in one run of Yosys."""

import pytest

from bivit.hw.arch import Arch
from bivit.hw.blocks.compare import CompareLanes
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.devices import DEVICES, RULES
from bivit.hw.flow import component_design, count_blocks, output_registers, synthesis
from bivit.hw.flow.design import CORE
from bivit.hw.flow.tools import yosys

ARCH = Arch(name="array", rows=2, cols=4, lanes=16, tile_rows=2, tile_cols=2, fabric="ecp5")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path / "cache"))


def in_one_run(design, device, folder):
    folder.mkdir()
    design.write(folder)
    (folder / RULES).write_text(device.family.rules)
    yosys.run(["-q", "-p", "; ".join(synthesis.script(device))], folder)
    output_registers.rewrite(folder / synthesis.NETLIST)
    return synthesis.count_cells(folder / synthesis.NETLIST,
                                 "" if device.route is None else f"{CORE}.")


def by_blocks(design, device, folder):
    folder.mkdir()
    design.write(folder)
    return synthesis.run(device, folder, lambda text: None)


@pytest.mark.parametrize("make, device", [
    (CompareLanes, "ecp5-85f"),
    *(pytest.param(make, device, marks=pytest.mark.slow) for make, device in (
        (CompareLanes, "gw2a-18"), (CompareLanes, "up5k"), (CompareLanes, "lifcl-40"),
        (CompareLanes, "zynq-7020"), (PostProcessing, "ecp5-85f")))])
def test_blocks_apart_are_the_netlist_of_one_run(make, device, tmp_path):
    design = component_design(make(ARCH), "unit")
    assert (by_blocks(design, DEVICES[device], tmp_path / "blocks").by_unit
            == in_one_run(design, DEVICES[device], tmp_path / "run").by_unit)


def test_only_what_is_new_is_mapped(tmp_path):
    """A wider array has the same columns."""
    texts = []

    def mapped(arch, folder):
        folder.mkdir()
        del texts[:]
        component_design(CompareLanes(arch), "unit").write(folder)
        synthesis.run(DEVICES["ecp5-85f"], folder, texts.append)
        return [text for text in texts if "mapping" in text]

    wider = Arch(name="wider", rows=2, cols=6, lanes=16, tile_rows=2, tile_cols=2, fabric="ecp5")
    top = "Yosys: mapping the top"  # the pins; the others are the lanes, and the column in them
    assert mapped(ARCH, tmp_path / "1") == [top, "Yosys: mapping 2 of 3 blocks"]
    assert mapped(wider, tmp_path / "2") == [top, "Yosys: mapping 1 of 3 blocks"]
    assert mapped(wider, tmp_path / "3") == []


def test_counts_of_blocks():
    """What is counted of each kind of block is the design."""
    counts = count_blocks(component_design(CompareLanes(ARCH), "unit"), "ecp5-85f")
    assert set(counts) == {"compare_column"}
    assert counts["compare_column"]["registers"] == ARCH.rows * ARCH.cols
    assert counts["compare_column"]["luts"] > 0
