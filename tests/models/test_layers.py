"""Forward values and straight-through gradients of the trained layers."""

import torch
import torch.nn.functional as F

from bivit.models.layers import (
    BinaryLinear,
    OddLinear,
    OddNorm,
    odd_weight,
    sign,
    softmax_bits,
)


def test_sign_is_one_at_zero_and_passes_gradients_inside():
    x = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    y.backward(torch.arange(1.0, 9.0))
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0]


def test_attention_bits_have_the_gradient_of_the_softmax():
    scores = torch.tensor([[0.0, -1.3, -1.5, 2.0 - 4.0], [5.0, 5.0, 3.7, 3.5]], requires_grad=True)
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.5], [2.0, 1.0, -1.0, 4.0]])
    bits = softmax_bits(scores)
    assert bits.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    (gradient,) = torch.autograd.grad((bits * weight).sum(), scores)
    (expected,) = torch.autograd.grad((scores.softmax(-1) * weight).sum(), scores)
    assert torch.equal(gradient, expected)


def test_binary_linear():
    torch.manual_seed(0)
    layer, x = BinaryLinear(6, 3), torch.randn(5, 6)
    with torch.no_grad():
        layer.scaling_factor[1] = -0.25
    centred = layer.weight - layer.weight.mean(1, keepdim=True)
    signs = torch.where(centred >= 0, 1.0, -1.0)
    dots = torch.where(x >= 0, 1.0, -1.0) @ signs.T
    assert torch.equal(layer(x), dots * layer.scaling_factor[:, 0] + layer.bias)
    layer(x).sum().backward()
    assert torch.allclose(layer.scaling_factor.grad[:, 0], dots.sum(0))
    layer.reset_scaling_factor()
    assert torch.equal(layer.scaling_factor[:, 0], layer.weight.abs().mean(1))


def test_odd_weights_have_no_zero_and_stay():
    weight = torch.cat([torch.randn(4, 9, dtype=torch.double), torch.zeros(1, 9)])
    odd, scale = odd_weight(weight)
    assert bool((odd.abs() % 2 == 1).all()) and float(odd.abs().max()) == 255
    assert bool(((odd * scale - weight).abs() <= scale * (1 + 1e-9)).all())
    assert torch.equal(odd_weight(odd[:4] * scale[:4])[0], odd[:4])


def test_gradients_pass_the_8_bit_layers():
    torch.manual_seed(0)
    linear, norm = OddLinear(8, 3), OddNorm(8)
    x, g = torch.randn(4, 8, requires_grad=True), torch.randn(4, 3)
    linear(x).backward(g)
    assert torch.allclose(linear.weight.grad, g.T @ x)
    y = norm(x)
    codes = (y / norm.step + 255) / 2
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert float((y - F.layer_norm(x, (8,))).detach().abs().max()) <= norm.step * 1.001
