"""Layers whose result is bits or codes, and `Gather`, which moves both and numbers."""

import torch

from bivit.compiler.ir.numeric import THRESHOLD_FRACTION
from bivit.models.integer.layer import IntegerLayer, ScaledLayer, normalise, row_sigma

__all__ = ["Codes", "Gather", "HeadNormBits", "NormBits", "NormCodes", "Threshold"]


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
    """LayerNorm and sign: the deviation against ``k`` times the standard deviation.

    Parameters
    ----------
    k : (C,)
        Limits, with ``THRESHOLD_FRACTION`` fractional bits.
    kind : (C,)
        0, at or above the limit; 1, at or below it; 2, never; 3, always.
    """

    op, attribute_names = "norm_bits", ("eps",)

    def __init__(self, *, k, kind, eps):
        super().__init__()
        self._hold(k=k, kind=kind)
        self.eps = eps

    def bits(self, x, k, kind):
        """Bits of rows of numbers; `k` and `kind` like the last axes of `x`."""
        deviation, sigma = row_sigma(x, self.eps)
        deviation, limit = deviation << THRESHOLD_FRACTION, sigma * k
        bits = torch.where(kind == 0, deviation >= limit, deviation <= limit)
        return torch.where(kind >= 2, kind == 3, bits).to(torch.uint8)

    def forward(self, x):
        return self.bits(x, **self.tensors())


class HeadNormBits(NormBits):
    """The same for the channels of each head alone."""

    op, attribute_names = "head_norm_bits", ("eps", "num_heads")

    def __init__(self, *, k, kind, eps, num_heads):
        super().__init__(k=k, kind=kind, eps=eps)
        self.num_heads = num_heads

    def forward(self, x):
        heads = (self.num_heads, -1)
        split = {name: value.reshape(heads) for name, value in self.tensors().items()}
        return self.bits(x.unflatten(-1, heads), **split).flatten(-2)


class NormCodes(ScaledLayer):
    """LayerNorm to 8-bit codes of the odd grid."""

    op, attribute_names = "norm_codes", ("shift", "eps")

    def __init__(self, *, scale, bias, shift, eps):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.eps = eps

    def forward(self, x):
        return self.rescale(normalise(x, self.eps)).clamp(0, 255).to(torch.uint8)


class Codes(ScaledLayer):
    """Numbers to 8-bit codes of the odd grid."""

    op, attribute_names = "codes", ("shift",)

    def __init__(self, *, scale, bias, shift):
        super().__init__(scale=scale, bias=bias, shift=shift)

    def forward(self, x):
        return self.rescale(x).clamp(0, 255).to(torch.uint8)


class Gather(IntegerLayer):
    """Tokens that `index` (T', parts) names, those of a row side by side; -1 gives `fill`."""

    op, attribute_names = "gather", ("fill",)

    def __init__(self, *, index, fill=0):
        super().__init__()
        self._hold(index=index)
        self.fill = fill

    def forward(self, x):
        filled = torch.cat([x, torch.full_like(x[:, :1], self.fill)], 1)
        return filled[:, self.index].flatten(2)
