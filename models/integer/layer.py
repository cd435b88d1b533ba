"""What integer layers have in common: constants as buffers, and exact arithmetic."""

import torch
from torch import nn

from bivit.compiler.ir.numeric import BIAS_FRACTION, NORM_FRACTION, RESCALE_SHIFTS

__all__ = ["IntegerLayer", "ScaledLayer", "bit_length", "integer_square_root", "integer_tensor",
           "matmul", "normalise", "row_sigma", "saturate", "signs", "split_heads"]


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


def saturate(x, bits):
    """Clamp to signed `bits`."""
    return x.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def signs(bits):
    """-1 and +1 for 0 and 1."""
    return 2 * bits.to(torch.int8) - 1


def split_heads(x, heads):
    """(..., tokens, channels) to (..., heads, tokens, channels of a head)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def matmul(a, b, greatest):
    """Exact int32 product of integers, computed in floating point.

    `greatest` is the greatest magnitude of a product of two elements. Every partial sum is an
    integer of at most `greatest` times the length of the sum: below 2**24 float32 holds them all,
    below 2**53 float64 does, so no order of additions can round.
    """
    bound = greatest * a.shape[-1]
    if bound >= 2**31:
        raise ValueError(f"sums of up to {bound} do not fit 32 bits")
    dtype = torch.float32 if bound < 2**24 else torch.float64
    return (a.to(dtype) @ b.to(dtype)).to(torch.int32)


def row_sigma(x, eps):
    """Deviation ``N x - sum`` and standard deviation ``N sigma`` of the last axis."""
    x = x.to(torch.int64)
    count, total = x.shape[-1], x.sum(-1, keepdim=True)
    squares = (x * x).sum(-1, keepdim=True)
    return count * x - total, integer_square_root(count * squares - total * total + eps)


def normalise(x, eps):
    """LayerNorm without its affine: 16-bit numbers with ``NORM_FRACTION`` fractional bits."""
    deviation, sigma = row_sigma(x, eps)
    exponent = bit_length(sigma)
    leading = torch.where(exponent > 16, sigma >> (exponent - 16).clamp(min=0),
                          sigma << (16 - exponent).clamp(min=0))
    mantissa = torch.div(torch.full_like(leading, 2**32 - 1), leading, rounding_mode="floor")
    shift = exponent + (16 - NORM_FRACTION)
    half = torch.ones_like(shift) << (shift - 1)
    return saturate((deviation * mantissa + half) >> shift, 16)


def integer_tensor(value, owner, name):
    """`value` as a tensor, refused if it is not integer."""
    value = torch.as_tensor(value)
    if value.is_floating_point() or value.is_complex():
        raise TypeError(f"{owner}: {name} is {value.dtype}, not integer")
    return value


class IntegerLayer(nn.Module):
    """A leaf of the integer model: one operation with integer attributes and buffers.

    Attributes
    ----------
    op : str
        Key of :data:`bivit.compiler.ir.ops.OPS`.
    attribute_names : tuple of str
        Python integers of the layer that a checkpoint holds.
    input_kind : str or None
        Kind of the first input, in layers that compute something else for another kind. It is
        given by keyword; a checkpoint does not hold it, as the graph tells.
    """

    op: str
    attribute_names: tuple[str, ...] = ()
    input_kind: str | None = None

    def _hold(self, dtype=torch.int64, **tensors):
        for name, value in tensors.items():
            value = integer_tensor(value, type(self).__name__, name)
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


class ScaledLayer(IntegerLayer):
    """Per-channel ``scale`` (16 bits) and ``bias`` (24 bits) with one right shift.

    ``shift`` is one of ``RESCALE_SHIFTS`` in :mod:`bivit.compiler.ir.numeric`.
    """

    def __init__(self, *, shift, **tensors):
        super().__init__()
        if shift not in RESCALE_SHIFTS:
            raise ValueError(f"shift {shift} is not one of {RESCALE_SHIFTS}")
        self._hold(**tensors)
        self.shift = shift

    def rescale(self, x, scale="scale", bias="bias"):
        """``x`` times the tensor called `scale`, plus the one called `bias`, shifted."""
        return self.shifted(x.to(torch.int64) * getattr(self, scale), bias)

    def shifted(self, x, bias="bias"):
        """``x`` plus bias, rounded and shifted right."""
        offset = (getattr(self, bias) << (self.shift - BIAS_FRACTION)) + (1 << (self.shift - 1))
        return (x + offset) >> self.shift
