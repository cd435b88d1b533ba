"""Networks with random weights: equal seeds give equal networks; the bits of every layer vary."""

import json

import pytest
import torch

from bivit.cli.main import main
from bivit.models.floats import save_float
from bivit.models.random_networks import random_network
from bivit.models.tracing import load

pytestmark = pytest.mark.usefixtures("one_thread")

ALIVE = ("bivit_deit_micro", "bi_vit_deit_micro", "bivit_w1a8_swin_micro", "bi_vit_swin_micro",
         "bibert_nest_micro", "binaryvit_micro", "some_fp_binaryvit_micro")


def _convert(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, arguments)])
    return stop.value.code


def test_equal_seeds_give_equal_networks():
    first, same, other = (random_network("bi_vit_swin_micro", seed).state_dict()
                          for seed in (0, 0, 1))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("name", ALIVE)
def test_bits_of_every_layer_vary(name, tmp_path, capsys):
    out = tmp_path / "random.safetensors"
    assert not _convert("--random", 0, "--network", name, "-o", out, "--json")
    result = json.loads(capsys.readouterr().out)
    assert min(result["ones"].values()) > 0.05 and max(result["ones"].values()) < 0.9
    assert load(out).image_shape == (3, 32, 32)


def test_float_files_of_every_size_are_calibrated(tmp_path, capsys):
    source, out = tmp_path / "float.safetensors", tmp_path / "integer.safetensors"
    save_float(random_network("bivit_swin_micro", 0), source, name="bivit_swin_micro")
    assert not _convert(source, "-o", out)
    assert load(out).image_shape == (3, 32, 32)


@pytest.mark.parametrize("arguments, message", [
    ((), "there is no telling what to convert"),
    (("--random", 1), "there is no telling what to convert"),
    (("--network", "bivit_swin_micro"), "there is no telling what to convert"),
    (("file", "--random", 1, "--network", "bivit_swin_micro"), "there is no telling"),
    (("--random", 1, "--network", "nothing"), "there is no network nothing"),
    (("--random", 1, "--network", "swin_micro"), "has no integer form"),
])
def test_refusals(arguments, message, tmp_path, capsys):
    assert _convert(*arguments, "-o", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
