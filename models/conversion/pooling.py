"""The head of pyramids: the mean of all tokens, in codes, times 8-bit weights."""

import torch

from bivit.models import integer
from bivit.models.conversion.blocks import code_constants, odd_linear
from bivit.models.conversion.constants import sum_constants

__all__ = ["average_head"]


def average_head(head, tokens, unit, logit_unit, name) -> dict:
    """Layers ``mean``, ``codes``, ``head`` and ``logits``.

    Parameters
    ----------
    head : CodedLinear
    tokens : int
        Whose mean is classified.
    unit, logit_unit : float
        One in the numbers before and after.
    """
    channels, step = head.in_features, float(head.step)
    ones = torch.ones(channels, dtype=torch.float64)
    mean = integer.WeightedSum(
        index=torch.arange(tokens)[None], part=torch.zeros(tokens, dtype=torch.int64),
        source=torch.zeros(1, dtype=torch.int64), bits=16,
        **sum_constants(ones[None] / tokens, torch.zeros(channels, dtype=torch.float64), name))
    codes = integer.Codes(**code_constants(ones / unit, 0 * ones, step, name))
    linear, logits = odd_linear(head.weight, head.bias, step, logit_unit, name)
    return {"mean": mean, "codes": codes, "head": linear, "logits": logits}
