"""Real constants to integers: scales, biases and thresholds, each rounded once, in float64."""

import torch

from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.numeric import BIAS_FRACTION, RESCALE_SHIFTS, THRESHOLD_FRACTION

__all__ = ["ConvertError", "double", "norm_bit_constants", "rescale_constants", "sign_constants",
           "sum_constants"]


class ConvertError(UserError):
    """A float model that has no integer form; the message names the layer and the remedy."""


def rescale_constants(scale, bias, name):
    """Integers for ``y = scale * dot + bias``, in units of the least significant bit of y.

    Parameters
    ----------
    scale, bias : float64 tensor (C,)
    name : str
        Layer that a refusal names.

    Returns
    -------
    dict
        ``scale`` (16 bits), ``bias`` (24 bits) and the largest ``shift`` with which they fit.
    """
    bias = torch.round(bias * 2**BIAS_FRACTION)
    if bias.abs().max() >= 2**23:
        raise ConvertError(f"layer {name}: a bias is beyond the range of its result; train with "
                           "smaller biases")
    for shift in reversed(RESCALE_SHIFTS):
        scaled = torch.round(scale * 2**shift)
        if scaled.abs().max() < 2**15:
            return {"scale": scaled.to(torch.int64), "bias": bias.to(torch.int64), "shift": shift}
    raise ConvertError(f"layer {name}: a scale is beyond 16 bits at the smallest shift; train "
                       "with smaller scales")


def sign_constants(scale, bias, fan_in):
    """Threshold and direction of ``sign(scale * dot + bias)`` for integers ``|dot| <= fan_in``.

    Ascending where ``scale > 0``, descending where ``scale < 0``; a threshold out of reach where
    the sign is constant.
    """
    descending = scale < 0
    ratio = -bias / torch.where(scale == 0, 1.0, scale)
    always = torch.where(bias >= 0, -fan_in, fan_in + 1).to(scale.dtype)
    threshold = torch.where(descending, torch.floor(ratio), torch.ceil(ratio))
    inward = torch.where(descending, -1, 1)
    threshold = threshold + inward
    for _ in range(2):  # the quotient was rounded: the chain itself decides
        nearer = threshold - inward
        threshold = torch.where(scale * nearer + bias >= 0, nearer, threshold)
    threshold = torch.where(scale == 0, always, threshold)
    low = torch.where(descending, -fan_in - 1, -fan_in).to(scale.dtype)
    threshold = torch.minimum(torch.maximum(threshold, low), low + 2 * fan_in + 1)
    return {"threshold": threshold.to(torch.int64), "descending": descending.to(torch.int64)}


def norm_bit_constants(gamma, beta):
    """Thresholds and kinds of ``sign(gamma * n + beta)`` for a normalised n."""
    limit = -beta / torch.where(gamma == 0, 1.0, gamma)
    kind = torch.where(gamma == 0, 2 + (beta >= 0).to(torch.int64), (gamma < 0).to(torch.int64))
    k = torch.round(limit * 2**THRESHOLD_FRACTION).clamp(-2**15, 2**15 - 1)
    return {"k": torch.where(gamma == 0, 0, k).to(torch.int64), "kind": kind}


def sum_constants(scale, bias, name):
    """Integers for a weighted sum: scales (parts, C), bias (C,) and the largest common shift."""
    constants = rescale_constants(scale.flatten(), bias, name)
    return constants | {"scale": constants["scale"].reshape(scale.shape)}


def double(tensor):
    """A parameter as plain float64."""
    return tensor.detach().double()
