"""Every small network on two targets: both engines against PyTorch, cycles against predictions."""

import dataclasses

import pytest

from bivit.hw.targets import TARGETS as NAMED
from bivit.models.conversion import ConvertError
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.models.registry import networks
from both_engines import check_engines
from named_networks import MICRO

TARGETS = ("tiny", "odd")
QUICK = {
    "bivit_deit_micro": "tiny", "bivit_w1a8_deit_micro": "odd", "bi_vit_deit_micro": "odd",
    "bi_real_deit_micro": "tiny", "bibert_deit_micro": "odd",
    "bivit_swin_micro": "odd", "bivit_fp_merging_swin_micro": "odd",
    "bivit_w1a8_swin_micro": "odd", "bi_vit_swin_micro": "tiny", "bi_real_swin_micro": "odd",
    "bibert_swin_micro": "odd",
    "bivit_nest_micro": "odd", "bivit_w1a8_nest_micro": "odd", "bibert_nest_micro": "odd",
    "binaryvit_micro": "tiny", "some_fp_binaryvit_micro": "odd",
}
"""The target of each network in the short run of the tests."""


@pytest.mark.parametrize("name, target", [
    pytest.param(name, target, marks=() if QUICK.get(name) == target else pytest.mark.slow)
    for name in MICRO for target in TARGETS])
def test_both_engines(name, target, tmp_path):
    images = photographs((3, 32, 32))
    ones = convert_random(name, 1, tmp_path / "net.safetensors", images)["ones"]
    assert 0 < min(ones.values())
    check_engines(tmp_path / "net.safetensors", target, tmp_path / "build", images[:1].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name, target", [("bivit_deit_micro", "tiny"),
                                          ("bi_vit_swin_micro", "odd")])
def test_loops_on_both_engines(name, target, tmp_path):
    images = photographs((3, 32, 32))
    convert_random(name, 1, tmp_path / "net.safetensors", images)
    arch = dataclasses.replace(NAMED[target], name="small", program_depth=700)
    check_engines(tmp_path / "net.safetensors", arch, tmp_path / "build", images[:1].numpy())


def test_no_small_network_is_left_out():
    assert QUICK.keys() == set(MICRO)
    images = photographs((3, 32, 32))
    for name in networks().keys() - set(MICRO):
        if name.endswith("_micro"):
            with pytest.raises(ConvertError):
                convert_random(name, 1, "unwritten", images)
