"""Layers whose result is numbers: signed fixed point of at most 16 bits."""

import torch

from bivit.compiler.ir.numeric import GELU_FRACTION, GELU_KNOTS, GELU_STEP
from bivit.models.integer.layer import IntegerLayer, ScaledLayer, normalise, saturate

__all__ = ["AddTable", "Bend", "Embed", "FoldChannels", "Gelu", "MaxPool", "NormNumbers",
           "Rescale", "Select", "TileChannels", "WeightedSum"]


class Rescale(ScaledLayer):
    """Dot products to fixed-point numbers of `bits`, with an optional addend."""

    op, attribute_names = "rescale", ("shift", "bits")

    def __init__(self, *, scale, bias, shift, bits=16):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.bits = bits

    def forward(self, x, addend=None):
        y = self.rescale(x)
        return saturate(y if addend is None else y + addend, self.bits)


class Embed(ScaledLayer):
    """Dot products to numbers, plus a table; its first `prefix` rows are tokens of their own."""

    op, attribute_names = "embed", ("shift", "bits", "prefix")

    def __init__(self, *, scale, bias, table, shift, prefix, bits=16):
        super().__init__(scale=scale, bias=bias, table=table, shift=shift)
        self.bits, self.prefix = bits, prefix

    def forward(self, x):
        tokens = saturate(self.rescale(x) + self.table[self.prefix:], self.bits)
        prefix = self.table[:self.prefix].expand(x.shape[0], -1, -1)
        return torch.cat([prefix, tokens], 1)


class Bend(ScaledLayer):
    """Two straight pieces that meet at `knee`, with an optional addend."""

    op, attribute_names = "bend", ("shift", "bits")

    def __init__(self, *, knee, scale_above, bias_above, scale_below, bias_below, shift, bits=16):
        super().__init__(knee=knee, scale_above=scale_above, bias_above=bias_above,
                         scale_below=scale_below, bias_below=bias_below, shift=shift)
        self.bits = bits

    def forward(self, x, addend=None):
        y = torch.where(x >= self.knee, self.rescale(x, "scale_above", "bias_above"),
                        self.rescale(x, "scale_below", "bias_below"))
        return saturate(y if addend is None else y + addend, self.bits)


class AddTable(IntegerLayer):
    """Numbers plus a table of the same shape."""

    op, attribute_names = "add_table", ("bits",)

    def __init__(self, *, table, bits=16):
        super().__init__()
        self._hold(table=table)
        self.bits = bits

    def forward(self, x):
        return saturate(x + self.table, self.bits)


class TileChannels(IntegerLayer):
    """The channels, `copies` times over."""

    op, attribute_names = "tile_channels", ("copies",)

    def __init__(self, *, copies):
        super().__init__()
        self.copies = copies

    def forward(self, x):
        return x.repeat(1, 1, self.copies)


class FoldChannels(ScaledLayer):
    """The scaled sum of each `group` consecutive channels."""

    op, attribute_names = "fold_channels", ("group", "shift", "bits")

    def __init__(self, *, scale, bias, group, shift, bits=16):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.group, self.bits = group, bits

    def forward(self, x):
        return saturate(self.rescale(x.unflatten(-1, (-1, self.group)).sum(-1)), self.bits)


def _beyond(x, value):
    """The tokens with one of `value` behind them, which index -1 names."""
    return torch.cat([x, torch.full_like(x[:, :1], value)], 1)


class WeightedSum(ScaledLayer):
    """Scaled sums of tokens of up to four inputs.

    Tap j of output token i adds token ``index[i, j]`` (-1: nothing) of input
    ``source[part[j]]``, times ``scale[part[j]]``.
    """

    op, attribute_names = "weighted_sum", ("shift", "bits")

    def __init__(self, *, index, part, source, scale, bias, shift, bits=16):
        super().__init__(index=index, part=part, source=source, scale=scale, bias=bias,
                         shift=shift)
        self.bits = bits

    def forward(self, *inputs):
        inputs = [_beyond(x.to(torch.int64), 0) for x in inputs]
        total = 0
        for number in self.part.unique().tolist():
            x = inputs[int(self.source[number])]
            taps = self.index[:, self.part == number]
            total = total + sum(x[:, tap] for tap in taps.unbind(1)) * self.scale[number]
        return saturate(self.shifted(total), self.bits)


class MaxPool(IntegerLayer):
    """The greatest of the tokens that each row of `index` names; -1 takes no part."""

    op = "max_pool"

    def __init__(self, *, index):
        super().__init__()
        self._hold(index=index)

    def forward(self, x):
        x = _beyond(x, -2**15)
        result = x[:, self.index[:, 0]]
        for tap in self.index.unbind(1)[1:]:
            result = torch.maximum(result, x[:, tap])
        return result


class Gelu(IntegerLayer):
    """GELU of numbers with ``GELU_FRACTION`` fractional bits, straight between knots."""

    op = "gelu"

    def __init__(self):
        super().__init__()
        self._knots = torch.tensor(GELU_KNOTS)

    def forward(self, x):
        x, limit = x.to(torch.int64), 4 << GELU_FRACTION
        inside = x.clamp(-limit, limit - 1) + limit
        index, rest = inside >> GELU_STEP, inside & ((1 << GELU_STEP) - 1)
        knots = self._knots.to(x.device)
        rise = (knots[index + 1] - knots[index]) * rest
        y = knots[index] + ((rise + (1 << (GELU_STEP - 1))) >> GELU_STEP)
        return torch.where(x >= limit, x, torch.where(x < -limit, 0, y))


class NormNumbers(ScaledLayer):
    """LayerNorm to numbers."""

    op, attribute_names = "norm_numbers", ("shift", "eps", "bits")

    def __init__(self, *, scale, bias, shift, eps, bits=16):
        super().__init__(scale=scale, bias=bias, shift=shift)
        self.eps, self.bits = eps, bits

    def forward(self, x):
        return saturate(self.rescale(normalise(x, self.eps)), self.bits)


class Select(IntegerLayer):
    """One token of the sequence, kept as a sequence of one."""

    op, attribute_names = "select", ("token",)

    def __init__(self, *, token):
        super().__init__()
        self.token = token

    def forward(self, x):
        return x[:, self.token:self.token + 1]
