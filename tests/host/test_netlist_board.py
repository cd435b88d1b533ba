"""The netlist of a board's bitstream answers as the integer model does."""

import pytest

from bivit.compiler import compile
from bivit.compiler.ir.errors import UserError
from bivit.host.run import run_build
from bivit.models.digits import SMALL_CHECKPOINT


@pytest.mark.slow
def test_digits_through_a_netlist(tmp_path):
    compile(SMALL_CHECKPOINT, "colorlight-i5-digits", tmp_path / "digits")
    result = run_build(tmp_path / "digits", netlist="colorlight-i5", count=2)
    assert (result["images"], result["mismatches"], result["refused"]) == (2, 0, [])


@pytest.mark.parametrize("board, words", [
    ("x", "there is no board 'x'"), ("icebreaker", "the cells of .*iCEBreaker have no")])
def test_boards_without_a_netlist(board, words, tmp_path):
    compile(SMALL_CHECKPOINT, "colorlight-i5-digits", tmp_path / "digits")
    with pytest.raises(UserError, match=words):
        run_build(tmp_path / "digits", netlist=board, count=1)
