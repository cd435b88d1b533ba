"""The netlist of a board's bitstream answers as the integer model does."""

import pytest

from bivit.compiler import compile
from bivit.host.run import run_build
from bivit.hw.flow.tools import FlowError
from bivit.models.digits import SMALL_CHECKPOINT


@pytest.mark.slow
def test_digits_through_a_netlist(tmp_path):
    compile(SMALL_CHECKPOINT, "colorlight-i5-digits", tmp_path / "digits")
    result = run_build(tmp_path / "digits", netlist="colorlight-i5", count=2)
    assert (result["images"], result["mismatches"], result["refused"]) == (2, 0, [])


def test_a_board_that_is_not_there(tmp_path):
    compile(SMALL_CHECKPOINT, "colorlight-i5-digits", tmp_path / "digits")
    with pytest.raises(FlowError, match="there is no board 'x'"):
        run_build(tmp_path / "digits", netlist="x", count=1)
