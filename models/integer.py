"""The integer layers: what the hardware computes, in PyTorch, on integer tensors only.

Every layer is one operation of :mod:`bivit.compiler.ir.ops`, takes a batch first and holds its
constants as integer buffers. Networks are composed of them in any way; :func:`bivit.models.export`
traces the composition. The definitions are those of :mod:`bivit.compiler.ir.numeric`, written
again with PyTorch's integer operations; no value is ever a float.
"""

import torch
from torch import nn

from bivit.compiler.ir.numeric import (
    BIAS_FRACTION,
    NORM_FRACTION,
    RESCALE_SHIFTS,
    THRESHOLD_FRACTION,
)

__all__ = [
    "Attend", "BinaryLinear", "Embed", "IntegerLayer", "LAYERS", "NormBits", "NormCodes",
    "Patchify", "PlaneLinear", "Rescale", "Scores", "Select", "SoftmaxThreshold", "Threshold",
    "bit_length", "integer_square_root",
]


def integer_square_root(x):
    """Floor of the square root of non-negative int64 below 2**56, one result bit at a time."""
    root = torch.zeros_like(x)
    for position in range(27, -1, -1):
        candidate = root | (1 << position)
        root = torch.where(candidate * candidate <= x, candidate, root)
    return root


def bit_length(x):
    """Bits of non-negative int64 below 2**32, as int64."""
    return sum((x >= (1 << position)).to(torch.int64) for position in range(32))


def _signs(bits):
    return 2 * bits.to(torch.int32) - 1


def _matmul(x, weight):
    """Exact int32 product of (..., K) and (M, K)."""
    product = x.reshape(-1, x.shape[-1]).to(torch.int32) @ weight.T
    return product.reshape(*x.shape[:-1], weight.shape[0])


def _saturate(x, bits):
    return x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _row_sigma(x, eps):
    x = x.to(torch.int64)
    count, total = x.shape[-1], x.sum(-1, keepdim=True)
    squares = (x * x).sum(-1, keepdim=True)
    return count * x - total, integer_square_root(count * squares - total * total + eps)


class IntegerLayer(nn.Module):
    """A leaf of the integer model: one operation with integer attributes and buffers.

    Attributes
    ----------
    op : str
        Key of :data:`bivit.compiler.ir.ops.OPS`.
    attribute_names : tuple of str
        Python integers of the layer that a checkpoint holds.
    """

    op: str
    attribute_names: tuple[str, ...] = ()

    def _hold(self, dtype=torch.int64, **tensors):
        for name, value in tensors.items():
            value = torch.as_tensor(value)
            if value.is_floating_point() or value.is_complex():
                raise TypeError(f"{type(self).__name__}: {name} is {value.dtype}, not integer")
            self.register_buffer(name, value.to(dtype))

    def attributes(self) -> dict[str, int]:
        """Integer attributes by name."""
        return {name: int(getattr(self, name)) for name in self.attribute_names}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Integer constants by name."""
        return dict(self.named_buffers(recurse=False))

    def extra_repr(self):
        shapes = {name: tuple(value.shape) for name, value in self.tensors().items()}
        return ", ".join(f"{k}={v}" for k, v in {**self.attributes(), **shapes}.items())


class Patchify(IntegerLayer):
    """Pixels (B, C, H, W) to patches (B, N, C * size * size): order channel, row, column."""

    op, attribute_names = "patchify", ("patch_size",)

    def __init__(self, *, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x):
        batch, channels, height, width = x.shape
        size = self.patch_size
        grid = x.reshape(batch, channels, height // size, size, width // size, size)
        patches = grid.permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(batch, (height // size) * (width // size), channels * size * size)


class PlaneLinear(IntegerLayer):
    """Codes ``p`` (odd numbers ``2 p - 255``) times odd 8-bit weights (out, in)."""

    op = "plane_linear"

    def __init__(self, *, weight):
        super().__init__()
        self._hold(torch.int32, weight=weight)

    def forward(self, x):
        return _matmul(2 * x.to(torch.int32) - 255, self.weight)


class BinaryLinear(IntegerLayer):
    """Bits times weight bits (out, in), both as signs."""

    op = "binary_linear"

    def __init__(self, *, weight):
        super().__init__()
        self._hold(torch.uint8, weight=weight)

    def forward(self, x):
        return _matmul(_signs(x), _signs(self.weight))


class _Scaled(IntegerLayer):
    """Per-channel ``scale`` (16 bits) and ``bias`` (24 bits) with one right shift.

    ``shift`` is one of ``RESCALE_SHIFTS`` in :mod:`bivit.compiler.ir.numeric`.
    """

    def __init__(self, *, scale, bias, shift):
        super().__init__()
        if shift not in RESCALE_SHIFTS:
            raise ValueError(f"shift {shift} is not one of {RESCALE_SHIFTS}")
        self._hold(scale=scale, bias=bias)
        self.shift = shift

    def _rescale(self, x):
        offset = (self.bias << (self.shift - BIAS_FRACTION)) + (1 << (self.shift - 1))
        return (x.to(torch.int64) * self.scale + offset) >> self.shift


class Rescale(_Scaled):
    """Dot products to fixed-point numbers of `bits`, with an optional addend."""

    op, attribute_names = "rescale", ("shift", "bits")

    def __init__(self, *, scale, bias, shift, bits=16):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.bits = bits

    def forward(self, x, addend=None):
        y = self._rescale(x)
        return _saturate(y if addend is None else y + addend, self.bits)


class Embed(_Scaled):
    """Dot products to numbers, plus a table; its first `prefix` rows are tokens of their own."""

    op, attribute_names = "embed", ("shift", "bits", "prefix")

    def __init__(self, *, scale, bias, table, shift, prefix, bits=16):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self._hold(table=table)
        self.bits, self.prefix = bits, prefix

    def forward(self, x):
        tokens = _saturate(self._rescale(x) + self.table[self.prefix:], self.bits)
        prefix = self.table[:self.prefix].expand(x.shape[0], -1, -1)
        return torch.cat([prefix, tokens], 1)


class Threshold(IntegerLayer):
    """Bits: ``x >= threshold``, or ``x <= threshold`` in channels that are `descending`."""

    op = "threshold"

    def __init__(self, *, threshold, descending):
        super().__init__()
        self._hold(threshold=threshold)
        self._hold(torch.uint8, descending=descending)

    def forward(self, x):
        down = self.descending.to(torch.bool)
        return torch.where(down, x <= self.threshold, x >= self.threshold).to(torch.uint8)


class NormBits(IntegerLayer):
    """LayerNorm and sign: the deviation against ``k`` times the standard deviation."""

    op, attribute_names = "norm_bits", ("eps",)

    def __init__(self, *, k, kind, eps):
        super().__init__()
        self._hold(k=k, kind=kind)
        self.eps = eps

    def forward(self, x):
        deviation, sigma = _row_sigma(x, self.eps)
        deviation, limit = deviation << THRESHOLD_FRACTION, sigma * self.k
        bits = torch.where(self.kind == 0, deviation >= limit, deviation <= limit)
        return torch.where(self.kind >= 2, self.kind == 3, bits).to(torch.uint8)


class NormCodes(_Scaled):
    """LayerNorm to 8-bit codes of the odd grid."""

    op, attribute_names = "norm_codes", ("shift", "eps")

    def __init__(self, *, scale, bias, shift, eps):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.eps = eps

    def forward(self, x):
        deviation, sigma = _row_sigma(x, self.eps)
        exponent = bit_length(sigma)
        leading = torch.where(exponent > 16, sigma >> (exponent - 16).clamp(min=0),
                              sigma << (16 - exponent).clamp(min=0))
        mantissa = torch.div(torch.full_like(leading, 2**32 - 1), leading, rounding_mode="floor")
        shift = exponent + (16 - NORM_FRACTION)
        half = torch.ones_like(shift) << (shift - 1)
        normalised = _saturate((deviation * mantissa + half) >> shift, 16)
        return self._rescale(normalised).clamp(0, 255).to(torch.uint8)


class Scores(IntegerLayer):
    """Query bits times key bits in each head: (B, num_heads, queries, keys)."""

    op, attribute_names = "scores", ("num_heads",)

    def __init__(self, *, num_heads):
        super().__init__()
        self.num_heads = num_heads

    def forward(self, queries, keys):
        queries, keys = (_signs(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                         for x in (queries, keys))
        return queries @ keys.transpose(2, 3)


class SoftmaxThreshold(IntegerLayer):
    """Attention bits: a score is at most `delta` below the greatest of its row."""

    op, attribute_names = "softmax_threshold", ("delta",)

    def __init__(self, *, delta):
        super().__init__()
        self.delta = delta

    def forward(self, x):
        return (x >= x.amax(-1, keepdim=True) - self.delta).to(torch.uint8)


class Attend(IntegerLayer):
    """Sum of the value signs that each query attends to: (B, queries, channels)."""

    op = "attend"

    def forward(self, attention, values):
        values = _signs(values).unflatten(-1, (attention.shape[1], -1)).transpose(1, 2)
        return (attention.to(torch.int32) @ values).transpose(1, 2).flatten(2)


class Select(IntegerLayer):
    """One token of the sequence, kept as a sequence of one."""

    op, attribute_names = "select", ("token",)

    def __init__(self, *, token):
        super().__init__()
        self.token = token

    def forward(self, x):
        return x[:, self.token:self.token + 1]


LAYERS = {layer.op: layer for layer in (
    Patchify, PlaneLinear, BinaryLinear, Rescale, Embed, Threshold, NormBits, NormCodes, Scores,
    SoftmaxThreshold, Attend, Select)}
"""Layer class of every operation."""
