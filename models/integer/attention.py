"""Layers that turn scores into attention bits."""

import torch

from bivit.compiler.ir.numeric import (
    ATTENTION_FRACTION,
    EXPONENTIAL_SHIFT,
    EXPONENTIALS,
    MASKING_BIAS,
    SCORE_FRACTION,
)
from bivit.compiler.ir.ops_attention import MASKED
from bivit.models.integer.layer import IntegerLayer

__all__ = ["ScoreBias", "ScoreThreshold", "SoftmaxAbsolute", "SoftmaxThreshold"]


class ScoreBias(IntegerLayer):
    """Scores in sixteenths plus the bias of the window's kind; masked by `MASKING_BIAS`."""

    op = "score_bias"

    def __init__(self, *, bias, kind):
        super().__init__()
        self._hold(torch.int32, bias=bias)
        self._hold(kind=kind)

    def forward(self, x):
        heads = self.bias.shape[1]
        bias = self.bias[self.kind].transpose(0, 1).reshape(heads, -1, x.shape[-1])
        scores = (x << SCORE_FRACTION) + bias
        return torch.where(bias == MASKING_BIAS, MASKED, scores)


class SoftmaxThreshold(IntegerLayer):
    """Attention bits: a score is at most `delta` below the greatest of its row."""

    op, attribute_names = "softmax_threshold", ("delta",)

    def __init__(self, *, delta):
        super().__init__()
        self.delta = delta

    def forward(self, x):
        return (x >= x.amax(-1, keepdim=True) - self.delta).to(torch.uint8)


class ScoreThreshold(IntegerLayer):
    """Attention bits: a score is at least `limit`."""

    op, attribute_names = "score_threshold", ("limit",)

    def __init__(self, *, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        return (x >= self.limit).to(torch.uint8)


class SoftmaxAbsolute(IntegerLayer):
    """Attention bits: the softmax is at least a threshold, one of each constant a head.

    Parameters
    ----------
    multiplier, threshold, flip : (num_heads,)
    input_kind : {"dot", "scores"}
        What the input holds: products, or those in sixteenths with a bias.
    """

    op = "softmax_absolute"

    def __init__(self, *, multiplier, threshold, flip, input_kind="dot"):
        super().__init__()
        self._hold(multiplier=multiplier, threshold=threshold, flip=flip)
        self.input_kind = input_kind
        self._mantissas = torch.tensor(EXPONENTIALS)

    def forward(self, x):
        multiplier, threshold, flip = (getattr(self, name)[:, None, None]
                                       for name in ("multiplier", "threshold", "flip"))
        distance = (x.amax(-1, keepdim=True) - x).to(torch.int64)
        if self.input_kind == "dot":
            distance = distance << SCORE_FRACTION
        steps = (distance * multiplier) >> EXPONENTIAL_SHIFT
        power = self._mantissas.to(x.device)[steps & 63] >> (steps >> 6).clamp(max=16)
        present = x != MASKED
        power = power * present
        share = power << ATTENTION_FRACTION
        bits = (share >= threshold * power.sum(-1, keepdim=True)) != flip.bool()
        return (bits & present).to(torch.uint8)
