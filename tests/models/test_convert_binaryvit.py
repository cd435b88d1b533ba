"""BinaryViT: every constant means what the float layer computes, and whole networks convert."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bivit.models import ConvertError, convert, settle, to_graph
from bivit.models.binaryvit import EIGHT_BITS, METHODS
from bivit.models.comparison import agreement
from bivit.models.config import BinaryViTConfig
from bivit.models.conversion import shifted
from bivit.models.indices import neighbours
from bivit.models.layers import sign
from bivit.models.shifted import (
    Affine,
    BatchNorm,
    BinaryConv,
    RPReLU,
    ShiftLinear,
    clip_bits,
    from_image,
    to_image,
)
from bivit.models.tracing import GraphModel

SIZES = {"img_size": 16, "patch_size": 2, "in_chans": 1, "num_classes": 5, "embed_dims": (16, 32),
         "depths": (1, 1), "num_heads": (1, 2), "mlp_ratios": (4, 2), "reductions": (2, 1)}
PLAIN = {"average_head": False, "branches": False, "affine": False}


def _random(module, seed):
    """The module with random parameters and statistics, for inference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.2 + torch.rand(buffer.shape, generator=generator))
    return module.double().eval().requires_grad_(False)


def _numbers(seed, *shape, reach=4000):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-reach, reach, shape, generator=generator)


def _close(found, wanted, tolerance=1.0):
    """Integers within `tolerance` of real numbers, as far as 16 bits hold them."""
    wanted = wanted.clamp(-2**15, 2**15 - 1)
    assert float((found - wanted).abs().max()) <= tolerance


seeds = st.integers(0, 2**31)
few = settings(max_examples=20, deadline=None)


@few
@given(seed=seeds)
def test_normed(seed):
    norm, x = _random(BatchNorm(6), seed), _numbers(seed, 1, 9, 6)
    layer = shifted.normed(norm, 9, 1024.0, 700.0, "norm")
    # The scale itself is rounded: to 2**-9 at the smallest shift.
    tolerance = 1 + 4000 * 2.0 ** -(layer.shift + 1)
    _close(layer(x), norm(x.double() / 1024) * 700.0, tolerance)


@few
@given(seed=seeds)
def test_bend(seed):
    rprelu, affine = _random(RPReLU(8), seed), _random(Affine(8), seed + 1)
    x = _numbers(seed, 1, 40, 8)
    for behind, wanted in ((None, rprelu), (affine, lambda x: affine(rprelu(x)))):
        layer = shifted.bend(rprelu, 1000.0, 300.0, "rprelu", behind)
        tolerance = 1 + 6000 * 2.0 ** -(layer.shift + 1)
        _close(layer(x), wanted(x.double() / 1000) * 300.0, tolerance)


@few
@given(seed=seeds)
def test_number_bits_are_signs(seed):
    x = _numbers(seed, 1, 50, 8, reach=2**15)
    move = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    move[:2] = torch.tensor([0.0, 1e9])
    bits = shifted.number_bits(move, 512.0)(x)
    assert torch.equal(bits.bool(), sign(x.double() / 512 + move.double()) > 0)


@few
@given(seed=seeds)
def test_products(seed):
    bits = torch.randint(0, 2, (1, 16, 8), generator=torch.Generator().manual_seed(seed))
    signs, norm = 2.0 * bits.double() - 1, _random(BatchNorm(5), seed + 1)
    linear, conv = _random(ShiftLinear(8, 5), seed), _random(BinaryConv(8, 5), seed)
    dense, numbers = shifted.product(linear, norm, 20.0, "dense")
    _close(numbers(dense(bits)), norm(linear(signs)) * 20)
    patches, numbers = shifted.product(conv, norm, 20.0, "conv")
    squares = bits[:, neighbours(4, (2, 2), 2)].flatten(2)
    _close(numbers(patches(squares)), norm(from_image(conv(to_image(signs)))) * 20, 1.5)


def test_branches():
    side, channels = 6, 3
    affines = {name: _random(Affine(channels), index)
               for index, name in enumerate(("h3", "w3", "h5", "w5"))}
    stream, n = _numbers(1, 2, side**2, channels), _numbers(2, 2, side**2, channels)
    layer = shifted.branches(affines, side, 800.0, 400.0, "branches")
    wanted = stream.double() / 400
    for affine, kernel in zip(affines.values(), ((3, 1), (1, 3), (5, 1), (1, 5)),
                              strict=True):
        pooled = torch.nn.functional.avg_pool2d(to_image(n.double() / 800), kernel, 1,
                                                (kernel[0] // 2, kernel[1] // 2))
        wanted = wanted + affine(from_image(pooled))
    _close(layer(stream, n), wanted * 400, 1 + 7 * 4000 * 2.0 ** -(layer.shift + 1))


def test_attention_bits():
    generator = torch.Generator().manual_seed(0)
    dots = 2 * torch.randint(-8, 9, (1, 2, 200, 16), generator=generator)
    for clip in (0.005, 0.1, 0.7):
        share = (dots * 0.25).double().softmax(-1)
        bits = shifted.absolute_softmax(torch.tensor(clip), 0.25, 2, "attention")(dots)
        clear = (2 * share / clip - 1).abs() > 0.02
        assert clear.double().mean() > 0.9
        assert torch.equal(bits[clear].bool(), clip_bits(share, clip)[clear] > 0)


def _images(count, seed=1):
    """Smooth random images: noise alone has no structure that pooling would leave."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")
    return (255 * images).to(torch.uint8)


def _network(method, seed=0, **flags):
    """A network with random parameters and the statistics of some images."""
    family, layers = METHODS[method]
    torch.manual_seed(seed)
    model = family(BinaryViTConfig(**SIZES, **flags), **(EIGHT_BITS | layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2].startswith("move"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            if name.endswith("att_prob_clip"):
                parameter.fill_(0.06)
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 1.0
        model.train()(_images(48))
    return model.eval()


@pytest.mark.parametrize("method, flags", [("binaryvit", {}), ("some_fp", {}),
                                           ("binaryvit", PLAIN)])
def test_networks_convert(method, flags):
    model, images = _network(method, **flags), _images(24)
    settle(model, images)
    graph_model = GraphModel(to_graph(convert(model, images), model.config.image_shape))
    values = graph_model.values(images[:1])
    for name, value in graph_model.graph.evaluate(images[0].numpy()).items():
        assert torch.equal(values[name][0].to(torch.int64), torch.from_numpy(value).to(
            torch.int64)), name
    compared = agreement(model, graph_model, images)
    layers = compared["layers"]
    # Operands of two layers, a merging and a head.
    assert len(layers) == 23 and compared["images"] == 24
    first = [share for name, share in layers.items() if ".layer.0." in name]
    bits = [share for name, share in layers.items() if not name.endswith(("codes", "norm0"))]
    assert min(first) >= 0.97 and min(bits) >= 0.8
    assert compared["top1"] >= 0.8


def test_a_wrong_constant_shows_in_its_layer():
    model, images = _network("binaryvit"), _images(8)
    settle(model, images)
    converted = convert(model, images)
    attention = converted.vit["encoder"].layer[0].attention["attention"]
    attention.normq.bias += 2**17
    compared = agreement(model, GraphModel(to_graph(converted, model.config.image_shape)), images)
    path = "vit.encoder.layer.0.attention.attention"
    assert compared["layers"][f"{path}.query_bits"] > 0.99
    assert compared["layers"][f"{path}.q_bits"] < 0.97


def _set(path, value):
    def change(model):
        with torch.no_grad():
            model.get_parameter(path).fill_(value)
    return change


def _float_layer(model):
    model.classifier = torch.nn.Linear(32, 5)


def _float_merge(model):
    from bivit.models.binaryvit import FloatMerge
    model.vit["encoder"].patch_embed1 = FloatMerge(16, 32, 16, 1e-5).eval()


@pytest.mark.parametrize("change, says", [
    (_set("vit.encoder.layer.1.attention.attention.att_prob_clip", -0.1),
     "layer vit.encoder.layer.1.attention.attention: att_prob_clip is -0.1 and has to be positive"),
    (_set("vit.encoder.layer.0.intermediate.move", float("nan")),
     "layer vit.encoder.layer.0.intermediate: move holds NaN or infinite values"),
    (_set("vit.encoder.layer.0.output.rprelu.prelu.weight", 1e6),
     "layer vit.encoder.layer.0.layernorm_before: a scale is beyond 16 bits"),
    (_float_layer, "layer classifier: Linear has no integer form; train it as CodedLinear"),
    (_float_merge, "layer vit.encoder.patch_embed1: FloatMerge has no integer form; train it as"),
])
def test_refusals(change, says):
    model = _network("binaryvit")
    change(model)
    with pytest.raises(ConvertError, match=says) as refusal:
        convert(model, _images(4))
    assert "\n" not in str(refusal.value)
