"""The whole machine under cocotb; the tests are in ``check_accelerator`` and ``check_programs``."""

import pytest
from networks import TOP, Network, arch_of
from runner import build, run_module

from bivit.compiler.files import write_words
from bivit.hw.accelerator import Accelerator

MODULES = {"rom": ["check_accelerator"], "loaded": ["check_accelerator", "check_programs"]}


@pytest.mark.parametrize("weights", ["loaded", pytest.param("rom", marks=pytest.mark.slow)])
def test_accelerator(weights, tmp_path):
    arch = arch_of(weights)
    if weights == "rom":
        write_words(tmp_path, Network.on(arch).program)
    folder = build(Accelerator(arch), TOP)
    run_module(MODULES[weights], TOP, folder, tmp_path, extra_env={"BIVIT_WEIGHTS": weights})
