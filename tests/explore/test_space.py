"""Spaces that cannot be explored: one sentence that says what to change, exit status 2."""

import re

import pytest

from bivit.cli.main import main
from bivit.explore.space_file import load_space


def refusal(capsys, *arguments):
    """The one line that a command refuses with."""
    with pytest.raises(SystemExit) as exit_:
        main(["explore", *map(str, arguments)])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines()  # a slow machine tells how far it is
             if not re.match(r"bivit: \d+ of \d+: ", line)]
    assert exit_.value.code == 2 and not out and len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize("old, new, words", [
    ("lanes = 16", "lanes = 16\nspeed = 3", "no parameter speed"),
    ("lanes = 16", "lanes = []", "lanes has no value"),
    ("lanes = 16", 'lanes = "many"', "lanes is 'many', but must be of type int"),
    ("lanes = 16", "lanes = 2", "no combination of the hardware parameters can be built"),
    ("lanes = 16", "lanes = [16, 16]", "lanes has a value twice"),
    ("low = 2, high = 4", "low = 4, high = 2", "the range from 4 to 2 is empty"),
    ("times = 2", "times = 1", "times 1 does not lead from 2 to 4"),
    ("times = 2", "by = 2", "must be a value, a list"),
    ('"ecp5-25f", ', '"ecp5-26f", ', "no device ecp5-26f"),
    ('weights = ["rom", "loaded"]', "port_bits = 16", "port_bits is for weights = streamed"),
    ("[hardware]", "[hard]", "no key hard"),
    ("[hardware]", "[hardware", "is not a TOML file"),
    ('"device_share"]', '"beauty"]', "no objective beauty"),
    ('["interval", "device_share"]', "[]", "there is no objective"),
    ("[search]", "[constraints]\nfps = -1\n[search]", "fps is -1, but must be a number above 0"),
    ("[search]", "depth = 3\n[search]", "depth is no parameter of"),
    ("generation = 5", "generation = 1", "generation of [search] must be 2 or more"),
    ('"nsga2"', '"magic"', "method of [search] is 'magic'"),
    (".safetensors", ".missing.safetensors", "does not exist"),
    ("[search]", "[training]\nepoch = 1\n[search]", "there is no key epoch"),
])
def test_refusals(space_file, capsys, tmp_path, old, new, words):
    path = space_file()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert words in refusal(capsys, path, "-o", tmp_path / "out", "--workers", 0)


def test_an_objective_that_no_model_knows(space_file, capsys, tmp_path):
    path = space_file()
    text = path.read_text().replace('["interval", "device_share"]', '["luts"]')
    path.write_text(text.replace('"ecp5-25f", "ecp5-85f"', '"up5k"'))
    assert "luts is not known on up5k" in refusal(capsys, path, "-o", tmp_path / "out",
                                                  "--workers", 0)


@pytest.mark.parametrize("arguments, words", [
    ((), "nothing to explore"),
    (("--network", "digits"), "nothing to explore"),
    (("--network", "digits", "--device", "ecp6"), "no device ecp6"),
    (("--network", "digit", "--device", "up5k"), "no network digit"),
    (("--network", "digits", "--device", "up5k", "--memory", "7bit"), "no memory '7bit'"),
    (("--network", "digits", "--device", "up5k", "--fps", "-1"), "fps must be above 0"),
    (("--network", "bivit_digits", "--device", "up5k", "--accuracy", "0.9"), "random weights"),
    (("space.toml", "--fps", "3"), "--fps is for a goal"),
])
def test_refusals_of_goals(capsys, tmp_path, arguments, words):
    assert words in refusal(capsys, *arguments, "-o", tmp_path / "out", "--workers", 0)


def test_a_scheduler_that_does_not_answer(space_file, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("bivit.explore.workers._PATIENCE", 1)
    assert "tcp://127.0.0.1:9 does not answer" in refusal(
        capsys, space_file(), "-o", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")


def test_a_network_that_fits_no_device(space_file, capsys, tmp_path):
    path = space_file(designs=4)
    text = path.read_text().replace('"ecp5-25f", "ecp5-85f"', '"up5k"')
    path.write_text(text)
    assert "comes closest" in refusal(capsys, path, "-o", tmp_path / "out", "--workers", 0)
    assert (tmp_path / "out" / "explore.json").exists()


def test_parameters(space_file):
    space = load_space(space_file())
    assert space.parameters["cols"] == (2, 4) and space.parameters["clock"] == (50.0,)
    assert space.size == 16 and set(space.varied) == {"device", "rows", "cols", "weights"}
