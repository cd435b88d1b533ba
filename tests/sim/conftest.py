"""The shipped digits network as a build, compiled once."""

import pathlib

import pytest

from bivit.compiler import build


@pytest.fixture(scope="session")
def digits_build(tmp_path_factory):
    """Build folder for the target of the demo; its Verilog, which no report reads, is left out."""
    checkpoint = pathlib.Path(__file__).parents[2] / "models/checkpoints/digits.safetensors"
    folder = tmp_path_factory.mktemp("digits") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_verilog", lambda arch: "")
        build.compile(checkpoint, "zynq-7020", folder)
    return folder
