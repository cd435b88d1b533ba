"""The whole machine as Verilog under cocotb; the tests are in ``check_accelerator.py``."""

import pytest
from networks import TOP, Network, arch_of
from runner import build, run_module

from bivit.compiler.files import write_words
from bivit.hw.accelerator import Accelerator


@pytest.mark.parametrize("weights", ["rom", "loaded"])
def test_accelerator(weights, tmp_path):
    arch = arch_of(weights)
    if weights == "rom":
        write_words(tmp_path, Network.on(arch).program)
    folder = build(Accelerator(arch), TOP)
    run_module("check_accelerator", TOP, folder, tmp_path, extra_env={"BIVIT_WEIGHTS": weights})
