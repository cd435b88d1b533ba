"""Every unit as Verilog under cocotb; the tests are in ``check_<unit>.py``."""

import pytest
import units
from runner import build, run_module


@pytest.fixture(scope="module")
def simulation():
    return build(units.Units(units.ARCH), units.TOP)


@pytest.mark.parametrize("name", [
    "array", "post", "softmax", "vector", "load", "loader", "issue", "sequencer", "registers"])
def test_unit(name, simulation, tmp_path):
    run_module(f"check_{name}", units.TOP, simulation, tmp_path)
