"""The command synth: tables, JSON, exit status 1 for a device that is too small."""

import json

import pytest

from bivit.cli.main import main
from bivit.compiler.build import load_build
from bivit.compiler.ir import checkpoint
from bivit.hw.devices import DEVICES
from bivit.hw.flow import accelerator_design
from bivit.hw.flow.run import netlist_store, routed_store
from bivit.hw.flow.tools import nextpnr, yosys
from graphs import random_vit_graph

CELLS = {"": {"LUT4": 5}, "array": {"LUT4": 1000, "CCU2C": 100, "TRELLIS_FF": 2000},
         "vector": {"MULT18X18D": 3}, "weight_rom": {"DP16KD": 40}}
PATH = {"source": "post.sum", "sink": "array.count", "nanoseconds": 8.0, "logic": 3.0,
        "routing": 5.0, "hops": 4, "longest": "post.sum[3]", "longest_nanoseconds": 2.0,
        "words": "from post.sum to array.count"}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A build folder."""
    folder = tmp_path_factory.mktemp("work")
    checkpoint.save(random_vit_graph(2), folder / "net.safetensors")
    with pytest.raises(SystemExit):
        main(["compile", str(folder / "net.safetensors"), "-o", str(folder / "build"),
              "--target", "tiny"])
    return folder / "build"


def put(build, device, cells, rates=()):
    """Results of flows in the cache, which the command then finds there."""
    device = DEVICES[device]
    tools = [yosys, *([nextpnr(device.route.tool)] if rates else [])]
    versions = {tool.name: tool.version for tool in tools}
    design = accelerator_design(load_build(build).arch, (build / "accelerator.v").read_text())
    netlist = netlist_store(design, device, yosys.version)
    netlist.write({"by_unit": cells, "seconds": 12.0})
    for seed, rate in rates:
        routed_store(device, netlist, seed, versions).write(
            {"seed": seed, "fmax_mhz": rate, "seconds": 3.0, "placed": {"TRELLIS_COMB": [9, 10]},
             "critical_path": PATH})


def run(capsys, *arguments):
    """Exit status and what was printed, without its spaces."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code, " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of each test's own."""
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path / "cache"))


def test_routed(capsys, build):
    put(build, "ecp5-85f", CELLS, rates=[(7, 100.0), (8, 140.0), (9, 125.0)])
    command = ("synth", build, "--device", "ecp5-85f", "--seed", 7, "--seeds", 3)
    status, out = run(capsys, *command)
    assert status == 0
    for text in ("tiny on Lattice ECP5 LFE5U-85F", "LUT4 1,205 83,640 1.4 %",
                 "seed 8: 140.0 MHz, 3 s; critical path from post.sum to array.count",
                 "125.0 MHz, median of 3 seed(s)", "between them"):
        assert text in out
    status, out = run(capsys, *command, "--json")
    result = json.loads(out)
    assert status == 0 and result["fmax_mhz"] == 125.0 and result["fits"]
    assert result["resources"]["block_ram"]["used"] == 40
    assert result["units"]["array"]["luts"] == 1200 and result["vivado"] is None


def test_too_small(capsys, build):
    put(build, "up5k", {"array": {"SB_LUT4": 6000, "SB_DFFE": 10}}, rates=[(1, 30.0)])
    status, out = run(capsys, "synth", build, "--device", "up5k")
    assert status == 1
    assert "which needs 6,000 LUT4 of 5,280 (114 %)" in out
    assert "MHz" not in out


def test_vivado(capsys, build, tmp_path):
    put(build, "k26", {"array": {"LUT6_2": 10, "FDRE": 10}})
    folder = tmp_path / "vivado"
    status, out = run(capsys, "synth", build, "--device", "k26", "--vivado", folder)
    assert status == 0 and "implement.tcl" in out
    assert (folder / "accelerator.v").read_bytes() == (build / "accelerator.v").read_bytes()
    rom = {path.name for path in (build / "rom").iterdir()}
    assert {path.name for path in (folder / "rom").iterdir()} == rom
