"""Conversion: the integers mean what the real numbers meant."""

import pytest
import torch

from bivit.models import to_graph
from bivit.models.comparison import agreement
from bivit.models.config import ViTConfig
from bivit.models.conversion import (
    ConvertError,
    convert,
    rescale_constants,
    settle,
    sign_constants,
    softmax_delta,
)
from bivit.models.floats import FloatFileError, load_float, save_float
from bivit.models.integer import LAYERS
from bivit.models.tracing import GraphModel
from bivit.models.vit import build

CONFIG = ViTConfig(img_size=(4, 6), in_chans=1, patch_size=2, num_classes=3, embed_dim=18, depth=2,
                   num_heads=2)


def _model(seed=0):
    torch.manual_seed(seed)
    model = build(CONFIG, "binary")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.blocks[0].norm1.weight[:3] = torch.tensor([0.0, 0.0, -1.0])
        model.blocks[0].norm1.bias[:2] = torch.tensor([-0.5, 0.5])
        model.blocks[1].attn.qkv.scaling_factor[::5] *= -1
        model.blocks[1].mlp.fc1.scaling_factor[3] = 0
    return model.eval()


def _images(count=40):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, *CONFIG.image_shape), generator=generator).to(torch.uint8)


def test_thresholds_are_the_sign_of_the_chain():
    generator = torch.Generator().manual_seed(0)
    scale = torch.randn(400, generator=generator, dtype=torch.double)
    bias = 8 * torch.randn(400, generator=generator, dtype=torch.double)
    scale[:40], bias[20:60], bias[80:120] = 0, 0, 3 * scale[80:120]
    dots = torch.arange(-12, 13)
    layer = LAYERS["threshold"](**sign_constants(scale, bias, 12))
    assert torch.equal(layer(dots[:, None].expand(-1, 400)).bool(),
                       scale * dots[:, None] + bias >= 0)


def test_rescale_takes_the_largest_shift_that_fits():
    for scale, shift in ((127.9, 8), (1.9, 14), (2.1, 8), (0.03, 20), (1e-5, 26), (0.0, 26)):
        constants = rescale_constants(torch.tensor([scale, 0]).double(), torch.zeros(2), "x")
        assert constants["shift"] == shift
        assert abs(int(constants["scale"][0]) / 2**shift - scale) <= 2.0**-shift
    with pytest.raises(ConvertError, match="layer fc: a scale is beyond 16 bits"):
        rescale_constants(torch.tensor([128.0]), torch.zeros(1), "fc")
    with pytest.raises(ConvertError, match="layer fc: a bias is beyond the range"):
        rescale_constants(torch.ones(1), torch.tensor([2.0**15]), "fc")


def test_softmax_delta_is_the_softmax():
    assert (softmax_delta(64), softmax_delta(32)) == (11, 7)
    for head_dim in (1, 3, 9, 64):
        for distance in range(3 * head_dim):
            share = torch.exp(torch.tensor(-distance / head_dim**0.5).double())
            assert (distance <= softmax_delta(head_dim)) == bool(share >= 0.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_settled_model_and_its_integers_agree_bit_for_bit(seed):
    model, images = _model(seed), _images()
    settle(model, images)
    compared = agreement(model, GraphModel(to_graph(convert(model, images), CONFIG.image_shape)),
                         images)
    codes = compared["layers"].pop("norm")
    assert min(compared["layers"].values()) >= 0.999 and codes >= 0.98
    assert len(compared["layers"]) == CONFIG.depth * 8


def test_settling_twice_changes_nothing():
    model, images = _model(), _images()
    settle(model, images)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    settle(model, images)
    for name, value in model.state_dict().items():
        assert torch.equal(value, once[name]), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    model = _model()
    with torch.no_grad():
        model.blocks[1].mlp.fc2.weight[0, 0] = value
    with pytest.raises(ConvertError, match="layer blocks.1.mlp.fc2: weight holds NaN or infinite"):
        convert(model, _images())


def test_a_float_stage_is_refused():
    with pytest.raises(ConvertError, match="layer blocks.0.mlp: Mlp has no integer form; train"):
        convert(build(CONFIG, "binary-attention"), _images())


def test_float_files(tmp_path):
    model, images, path = _model(), _images(4), tmp_path / "float.safetensors"
    save_float(model, path)
    assert torch.equal(load_float(path)(images), model(images))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-100])
    for wrong in (damaged, tmp_path / "missing.safetensors"):
        with pytest.raises(FloatFileError, match=wrong.name):
            load_float(wrong)
