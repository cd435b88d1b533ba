"""Every integer layer computes what its operation's NumPy definition says."""

import numpy as np
import pytest
import torch

from bivit.compiler.ir import numeric
from bivit.compiler.ir.ops import OPS
from bivit.models.integer import LAYERS, bit_length, integer_square_root

RANDOM = np.random.default_rng


def _bits(random, *shape):
    return random.integers(0, 2, shape, np.uint8)


def _rescale(random, channels):
    return {"scale": random.integers(-2**15, 2**15, channels),
            "bias": random.integers(-2**23, 2**23, channels)}


def _case(op, random, tokens, channels, heads, shift):
    """Inputs of one image, attributes and tensors of an operation."""
    width = channels * heads
    dot = random.integers(-3 * width, 3 * width, (tokens, width))
    numbers = random.integers(-2**15, 2**15, (tokens, width))
    if random.integers(2):
        numbers = numbers // 2**12  # small rows, where the root and its reciprocal are coarse
    weights = random.integers(-128, 128, (5, width)) * 2 + 1
    return {
        "patchify": ([random.integers(0, 256, (2, 3 * heads, 6), np.uint8)], {"patch_size": 3}, {}),
        "plane_linear": ([random.integers(0, 256, (tokens, width), np.uint8)], {},
                         {"weight": weights}),
        "binary_linear": ([_bits(random, tokens, width)], {}, {"weight": _bits(random, 7, width)}),
        "rescale": ([dot, numbers], {"shift": shift, "bits": 12}, _rescale(random, width)),
        "embed": ([dot], {"shift": shift, "bits": 16, "prefix": heads},
                  {**_rescale(random, width),
                   "table": random.integers(-2**15, 2**15, (tokens + heads, width))}),
        "threshold": ([dot], {}, {"threshold": random.integers(-width, width, width),
                                  "descending": _bits(random, width)}),
        "norm_bits": ([numbers], {"eps": int(random.integers(1, 2**20))},
                      {"k": random.integers(-2**13, 2**13, width),
                       "kind": random.integers(0, 4, width)}),
        "norm_codes": ([numbers], {"eps": 1, "shift": shift},
                       {"scale": random.integers(-2**(shift - 3), 2**(shift - 3), width)
                        .clip(-2**15, 2**15 - 1),
                        "bias": random.integers(0, 2**16, width)}),
        "scores": ([_bits(random, tokens, width), _bits(random, tokens + 2, width)],
                   {"num_heads": heads}, {}),
        "softmax_threshold": ([random.integers(-9, 9, (heads, tokens, tokens))],
                              {"delta": int(random.integers(0, 12))}, {}),
        "attend": ([_bits(random, heads, tokens, tokens), _bits(random, tokens, width)], {}, {}),
        "select": ([numbers], {"token": tokens - 1}, {}),
    }[op]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("seed", range(12))
def test_layer_is_its_definition(op, seed):
    random = RANDOM(seed)
    tokens, channels, heads = (int(random.integers(1, limit)) for limit in (9, 40, 4))
    shift = numeric.RESCALE_SHIFTS[seed % len(numeric.RESCALE_SHIFTS)]
    images = [_case(op, RANDOM((seed, image)), tokens, channels, heads, shift)[0]
              for image in range(2)]
    _, attributes, tensors = _case(op, random, tokens, channels, heads, shift)
    layer = LAYERS[op](**attributes, **{n: torch.from_numpy(v) for n, v in tensors.items()})
    batch = [torch.from_numpy(np.stack(values)) for values in zip(*images, strict=True)]
    result = layer(*batch)
    assert not result.is_floating_point()
    for index, inputs in enumerate(images):
        expected = OPS[op].evaluate(inputs, attributes, tensors)
        assert np.array_equal(result[index].numpy(), expected)
    assert layer.attributes() == attributes
    assert {n: v.tolist() for n, v in layer.tensors().items()} == {
        n: v.tolist() for n, v in tensors.items()}


def test_layers_have_the_operations_names():
    for name, op in OPS.items():
        assert LAYERS[name].op == name
        assert LAYERS[name].attribute_names == op.attributes


def test_rescale_without_addend():
    layer = LAYERS["rescale"](scale=torch.tensor([256, -256]), bias=torch.tensor([128, 0]), shift=8)
    assert layer(torch.tensor([[[3, 3]]])).tolist() == [[[4, -3]]]


def test_root_and_bit_length_are_exact():
    values = torch.tensor([0, 1, 2, 3, 4, 2**32 - 1, 2**54 - 1, 2**56 - 1]
                          + [n * n + d for n in (2**20 + 1, 2**27 + 3) for d in (-1, 0, 1)])
    roots = integer_square_root(values)
    assert bool(((roots * roots <= values) & ((roots + 1) ** 2 > values)).all())
    small = torch.tensor([0, 1, 2, 255, 256, 2**31 - 1, 2**31])
    assert bit_length(small).tolist() == [int(v).bit_length() for v in small]


def test_a_float_constant_is_refused():
    with pytest.raises(TypeError, match="weight is torch.float32, not integer"):
        LAYERS["plane_linear"](weight=torch.ones(2, 2))
