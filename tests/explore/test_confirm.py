"""Designs of the front, built: predicted beside measured."""

import json
import types

import pytest

from bivit.cli.main import main
from bivit.explore import confirm
from bivit.hw.devices import RESOURCES
from explore_space import SPACE

SMALLEST = SPACE.replace('["ecp5-25f", "ecp5-85f"]', '"zynq-7020"').replace(
    "rows = [2, 3]", "rows = 1").replace("{{ low = 2, high = 4, times = 2 }}", "2").replace(
    "lanes = 16", "lanes = 8").replace('["rom", "loaded"]', '"rom"')
"""A space of one design."""


@pytest.fixture
def confirmed(network, tmp_path, capsys):
    """A function that confirms the design: arguments and exit status to what is printed."""
    def run(*more, status=0):
        (tmp_path / "space.toml").write_text(SMALLEST.format(
            network=network, method="grid", designs=1))
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(["explore", str(tmp_path / "space.toml"), "-o", str(tmp_path / "out"),
                  "--workers", "0", "--confirm", "1", *more])
        out, err = capsys.readouterr()
        assert exit_.value.code == status, err
        return out
    return run


@pytest.mark.slow
def test_in_rtl_and_by_synthesis(confirmed, tmp_path):
    """Every bit and cycle; block RAM of memories and multipliers as often as Yosys makes them."""
    result = json.loads(confirmed("--json"))
    [one] = result["confirmed"]
    assert one["passed"] and one["mismatches"] == 0 and one["too_small"] is None
    figures = {figure["name"]: figure for figure in one["figures"]}
    assert {"cycles", *RESOURCES} <= figures.keys()
    assert figures["cycles"]["measured"] == figures["cycles"]["predicted"]
    for name in RESOURCES:
        assert figures[name]["measured"] > 0
    assert (tmp_path / "out" / f"design-{one['number']}" / "accelerator.v").exists()


@pytest.mark.parametrize("cycles, mismatches, too_small", [
    (0, 0, None), (1, 0, None), (0, 1, None), (0, 0, "the device is too small")])
def test_what_is_printed(confirmed, monkeypatch, cycles, mismatches, too_small):
    """Predicted beside measured; a cycle, a bit or a resource too many is a failed check."""
    def simulate_design(record, space, build):
        return types.SimpleNamespace(cycles_per_image=record["cycles"] + cycles,
                                     mismatches=mismatches)

    measured = {"luts": 4321, "registers": 1, "block_ram": 9, "multipliers": 2}
    monkeypatch.setattr(confirm, "simulate_design", simulate_design)
    monkeypatch.setattr(confirm, "_synthesised", lambda *_: (measured, too_small))
    text = confirmed(status=int(bool(cycles or mismatches or too_small)))
    assert "Predicted and measured" in text and "4,321" in text
    assert (too_small or "") in text
