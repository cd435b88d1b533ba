"""Every integer layer computes what its operation's NumPy definition says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bivit.compiler.ir.ops import OPS
from bivit.models.integer import LAYERS, bit_length, integer_square_root
from bivit.models.integer.layer import matmul
from operations import CASES, make


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_layer_is_its_definition(name, seed):
    case = make(name, seed)
    kind = {"input_kind": case.types[0].kind} if OPS[case.op].variants else {}
    layer = LAYERS[case.op](**case.attributes, **kind, **{
        name: torch.from_numpy(value) for name, value in case.tensors.items()})
    batch = [torch.from_numpy(np.stack(values)) for values in zip(*case.images, strict=True)]
    result = layer(*batch)
    assert not result.is_floating_point()
    assert np.array_equal(result.numpy(), np.stack(case.evaluate()))
    assert layer.attributes() == case.attributes
    assert {n: v.tolist() for n, v in layer.tensors().items()} == {
        n: v.tolist() for n, v in case.tensors.items()}


def test_every_operation_has_a_layer():
    assert set(LAYERS) == set(OPS) == {name.split()[0] for name in CASES}
    for name, op in OPS.items():
        assert LAYERS[name].op == name
        of_one_image = tuple(name for name in op.attributes if name != "images")
        assert LAYERS[name].attribute_names == of_one_image
        assert (LAYERS[name].input_kind is None) or op.variants


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


@pytest.mark.parametrize("length", (258, 259, 4095))
def test_products_are_exact_on_either_side_of_single_precision(length):
    generator = torch.Generator().manual_seed(length)
    a = 255 - 2 * torch.randint(0, 3, (4, length), generator=generator, dtype=torch.int32)
    b = 255 - 2 * torch.randint(0, 3, (length, 5), generator=generator, dtype=torch.int32)
    expected = a.numpy().astype(np.int64) @ b.numpy().astype(np.int64)
    assert np.array_equal(matmul(a, b, 255 * 255).numpy(), expected)


def test_products_beyond_32_bits_are_refused():
    with pytest.raises(ValueError, match="do not fit 32 bits"):
        matmul(torch.ones(1, 2**16), torch.ones(2**16, 1), 255 * 255)


def test_a_float_constant_is_refused():
    with pytest.raises(TypeError, match="weight is torch.float32, not integer"):
        LAYERS["plane_linear"](weight=torch.ones(2, 2))
