"""Square windows of an image of tokens, and attention inside them."""

import torch
from torch import nn

from bivit.models.baselines import BoolAttention, SignAttention
from bivit.models.headwise import HeadAttention
from bivit.models.layers import Attention, BinaryAttention

__all__ = [
    "BinaryWindowAttention", "BoolWindowAttention", "HeadWindowAttention", "SignWindowAttention",
    "WindowAttention", "merge", "partition", "shift_mask",
]

MASKED = -100.0
"""Added to the score of a key that is no neighbour of the query in the image."""


def partition(x, size):
    """Windows (B, windows, size * size, C) of an image (B, H, W, C), row by row."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def merge(x, size, side):
    """Image (B, side, side, C) of the windows of :func:`partition`."""
    x = x.unflatten(1, (side // size, side // size)).unflatten(3, (size, size))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(side, size, shift):
    """Additive mask (windows, size * size, size * size) of an image rolled by `shift`."""
    region = (torch.arange(side) >= side - size).long() + (torch.arange(side) >= side - shift)
    regions = partition((3 * region[:, None] + region)[None, :, :, None], size)[0, :, :, 0]
    return torch.where(regions[:, None] == regions[:, :, None], 0.0, MASKED)


def _relative_index(size):
    """Row of the bias table for every pair of tokens of a window."""
    line = torch.arange(size)
    place = torch.stack([line.repeat_interleave(size), line.repeat(size)])
    distance = place[:, :, None] - place[:, None] + size - 1
    return distance[0] * (2 * size - 1) + distance[1]


class _Windowed:
    """Attention within windows (B, windows, N, C) with a relative position bias (Swin)."""

    def __init__(self, config):
        super().__init__(config)
        size = config.window_size
        self.relative_position_bias_table = nn.Parameter(
            torch.randn((2 * size - 1) ** 2, config.num_heads) * 0.02)
        self.register_buffer("relative_position_index", _relative_index(size), persistent=False)

    def forward(self, x, mask=None):
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        return super().forward(x, bias if mask is None else bias + mask[:, None])


class WindowAttention(_Windowed, Attention):
    """Float."""


class BinaryWindowAttention(_Windowed, BinaryAttention):
    """BiViT."""


class HeadWindowAttention(_Windowed, HeadAttention):
    """Bi-ViT, which has no norm of queries and keys on Swin."""


class BoolWindowAttention(_Windowed, BoolAttention):
    """BiBERT."""


class SignWindowAttention(_Windowed, SignAttention):
    """In the way of Bi-Real Net."""
