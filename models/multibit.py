"""Layers with 1-bit weights and activations of more bits (BiViT's MLP), and 8-bit inputs."""

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.layers import BinaryLinear, OddLinear, odd_weight, straight_through
from bivit.models.magnitudes import magnitudes

__all__ = ["BinaryWeightLinear", "BinaryWeightMlp", "CodedBinaryLinear", "CodedBinaryMlp",
           "CodedConv", "CodedLinear", "fit_steps"]

LEVELS = 255


class _Codes(torch.autograd.Function):
    """Nearest of ``{-255, -253, ..., 255} * step``; the gradient passes inside the range."""

    @staticmethod
    def forward(ctx, x, step):
        ctx.save_for_backward(x.abs() <= LEVELS * step)
        return (2 * torch.floor(x / (2 * step)) + 1).clamp(-LEVELS, LEVELS) * step

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


class BinaryWeightLinear(BinaryLinear):
    """``scaling_factor * (x . sign(W - mean of the row)) + bias`` with x in float (W1A32)."""

    products = "binary_weights"

    def forward(self, x):
        y = F.linear(x, self.signs()) * self.scaling_factor[:, 0]
        return y if self.bias is None else y + self.bias


class _Coded:
    """A layer whose input is rounded to 8-bit odd numbers times `step`, a buffer."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.register_buffer("step", torch.tensor(4 / LEVELS))

    def forward(self, x):
        return super().forward(_Codes.apply(x, self.step))


class CodedBinaryLinear(_Coded, BinaryWeightLinear):
    """1-bit weights, 8-bit activations (W1A8)."""


class CodedLinear(_Coded, OddLinear):
    """8-bit weights, 8-bit activations."""


class CodedConv(_Coded, nn.Conv2d):
    """Convolution with 8-bit weights and 8-bit activations.

    Odd numbers have no zero: beyond the border lies one `step`.
    """

    def forward(self, x):
        codes = _Codes.apply(x, self.step)
        (height, width) = self.padding
        if height or width:
            border = float(self.step)
            codes = F.pad(codes, (width, width, height, height), value=border)
        weight = self.weight.flatten(1)
        odd, scale = odd_weight(weight)
        weight = straight_through(weight, odd * scale).reshape(self.weight.shape)
        return F.conv2d(codes, weight, self.bias, self.stride)


class BinaryWeightMlp(nn.Module):
    """MLP with 1-bit weights, as BiViT's ImageNet results have it: W1A32 with GELU."""

    linear = BinaryWeightLinear

    def __init__(self, config):
        super().__init__()
        self.fc1 = self.linear(config.embed_dim, config.hidden_dim)
        self.act = nn.GELU()
        self.fc2 = self.linear(config.hidden_dim, config.embed_dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class CodedBinaryMlp(BinaryWeightMlp):
    """MLP with 1-bit weights and 8-bit activations."""

    linear = CodedBinaryLinear


def fit_steps(model: nn.Module, images: torch.Tensor, *, batch=64) -> None:
    """Set the step of every coded layer to the greatest magnitude that it meets, over 255.

    Parameters
    ----------
    images : uint8 tensor (N, C, H, W)
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _Coded)]
    if not layers:
        return
    found = magnitudes(model, images, {layer: [(layer, "input")] for layer in layers}, batch=batch)
    for layer, greatest in found.items():
        layer.step.fill_(max(greatest, 1e-12) / LEVELS)
