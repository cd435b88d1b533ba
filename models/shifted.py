"""BinaryViT's layers: BatchNorm on tokens, RPReLU, shifts, binary products, its attention bits."""

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.baselines import MeanLinear, polynomial_sign, scaled_signs_product

__all__ = ["Affine", "BatchNorm", "BinaryConv", "RPReLU", "ShiftLinear", "clip_bits",
           "from_image", "to_image", "zeros"]


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm over the channels of (B, N, C)."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class RPReLU(nn.Module):
    """``PReLU(x - move1) + move2`` with one slope a channel."""

    def __init__(self, dim):
        super().__init__()
        self.move1, self.move2 = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.prelu = nn.PReLU(dim)

    def forward(self, x):
        y = x - self.move1
        return torch.where(y >= 0, y, y * self.prelu.weight) + self.move2


class Affine(nn.Module):
    """``alpha * x + move``, one of each a channel."""

    def __init__(self, dim, value=0.1):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((dim,), value))
        self.move = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return x * self.alpha + self.move


class ShiftLinear(MeanLinear):
    """Binary linear layer without bias; polynomial gradient of the input's sign."""

    input_sign = staticmethod(polynomial_sign)

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features, bias=False)


class BinaryConv(nn.Conv2d):
    """2x2 convolution of stride 2 with the signs of the weight as it is, without bias."""

    products = "binary"

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 2, 2, bias=False)

    def forward(self, x):
        weight = self.weight.flatten(1)
        patches = F.pixel_unshuffle(polynomial_sign(x), 2).permute(0, 2, 3, 1)
        y = scaled_signs_product(patches, weight, weight.detach().abs().mean(1))
        return y.permute(0, 3, 1, 2)


class _ClipBits(torch.autograd.Function):
    """``round(x)`` within 0 and 1; the gradient passes inside that range."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward((x >= 0) & (x <= 1))
        return x.round().clamp(0, 1)

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside


def clip_bits(attention, clip):
    """1 where the attention is greater than half the clip; times clip, BiT's quantizer."""
    return _ClipBits.apply(attention / clip)


def to_image(x):
    """(B, N, C) to (B, C, H, W) with H = W."""
    return x.transpose(1, 2).unflatten(2, (int(x.shape[1] ** 0.5), -1))


def from_image(x):
    """(B, C, H, W) to (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def zeros(dim):
    """A learned shift."""
    return nn.Parameter(torch.zeros(dim))
