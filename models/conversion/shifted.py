"""BinaryViT's layers to integer layers: BatchNorm, RPReLU, shifts, pooling, its attention bits.

A *unit* is what one is in some numbers, any real number. Numbers of different units meet in the
constants alone.
"""

import math

import torch

from bivit.compiler.ir.numeric import (
    ATTENTION_FRACTION,
    EXPONENTIAL_SHIFT,
    SCORE_FRACTION,
)
from bivit.models import integer
from bivit.models.conversion.attention import NEVER, product_constants
from bivit.models.conversion.constants import (
    ConvertError,
    double,
    rescale_constants,
    sum_constants,
)
from bivit.models.indices import neighbours
from bivit.models.shifted import Affine, BatchNorm, BinaryConv, RPReLU

__all__ = ["BITS", "absolute_softmax", "bend", "branches", "folded", "mean_of", "normed",
           "number_bits", "parts_first", "product", "steepness", "sum_of", "weighted"]

BITS = 16


def folded(norm: BatchNorm):
    """Scale and bias of a BatchNorm as it is in use."""
    scale = double(norm.weight) / torch.sqrt(double(norm.running_var) + norm.eps)
    return scale, double(norm.bias) - double(norm.running_mean) * scale


def weighted(index, part, source, scale, bias, name):
    """A weighted sum whose scales and biases are real numbers."""
    return integer.WeightedSum(
        index=index, part=torch.as_tensor(part), source=torch.as_tensor(source), bits=BITS,
        **sum_constants(scale, bias, name))


def normed(norm, tokens, unit, out_unit, name):
    """BatchNorm of numbers."""
    scale, bias = folded(norm)
    return weighted(torch.arange(tokens)[:, None], [0], [0], scale[None] * (out_unit / unit),
                     bias * out_unit, name)


def number_bits(move, unit):
    """``sign(x + move)``."""
    threshold = torch.ceil(-double(move).flatten() * unit).clamp(-2**15, 2**15)
    return integer.Threshold(threshold=threshold.to(torch.int64),
                             descending=torch.zeros(len(threshold), dtype=torch.int64))


def _product(layer, norm, name):
    """Bits of a weight, and real scale and bias of its products behind their BatchNorm."""
    if isinstance(layer, BinaryConv):
        weight = double(layer.weight)
        bits = (parts_first(weight) >= 0).to(torch.int64)
        scale, bias = weight.flatten(1).abs().mean(1), 0.0
    else:
        bits, scale, bias = product_constants(layer, name)
    gain, offset = folded(norm)
    return bits, scale * gain, bias * gain + offset


def parts_first(weight):
    """Weight (O, C, 2, 2) of a convolution as a matrix for four tokens side by side."""
    return weight.flatten(2).transpose(1, 2).flatten(1)


def product(layer, norm, unit, name):
    """Binary product, of a 2x2 convolution for four tokens side by side, and its BatchNorm."""
    bits, scale, bias = _product(layer, norm, name)
    constants = rescale_constants(scale * unit, bias * unit, name)
    return integer.BinaryLinear(weight=bits), integer.Rescale(**constants, bits=BITS)


def steepness(layer, norm):
    """Greatest scale of a product."""
    return float(_product(layer, norm, "product")[1].abs().max())


def bend(rprelu: RPReLU, unit, out_unit, name, affine: Affine | None = None):
    """RPReLU, and the affine behind it."""
    before, after, slope = (double(value) for value in (
        rprelu.move1, rprelu.move2, rprelu.prelu.weight))
    gain, offset = (1.0, 0.0) if affine is None else (double(affine.alpha), double(affine.move))
    above, below = gain * torch.ones_like(slope), gain * slope
    start = gain * after + offset
    constants = rescale_constants(
        torch.cat([above, below]) * (out_unit / unit),
        torch.cat([start - above * before, start - below * before]) * out_unit, name)
    scales, biases = constants["scale"].chunk(2), constants["bias"].chunk(2)
    knee = torch.ceil(before * unit).clamp(-2**15, 2**15 - 1).to(torch.int64)
    return integer.Bend(knee=knee, scale_above=scales[0], bias_above=biases[0],
                        scale_below=scales[1], bias_below=biases[1], shift=constants["shift"],
                        bits=BITS)


def mean_of(index, channels, name, ratio=1.0):
    """Mean of the tokens that each row of `index` names, times `ratio`."""
    taps = index.shape[1]
    return weighted(index, [0] * taps, [0],
                    torch.full((1, channels), ratio / taps, dtype=torch.float64),
                    torch.zeros(channels, dtype=torch.float64), name)


def sum_of(indices, channels, name, ratio=1.0):
    """Sum of a token of each of several inputs, times `ratio`."""
    count = len(indices)
    return weighted(torch.stack(indices, 1), range(count), range(count),
                    torch.full((count, channels), ratio, dtype=torch.float64),
                    torch.zeros(channels, dtype=torch.float64), name)


def branches(affines, side, unit, stream_unit, name):
    """The residual stream plus the four poolings of normalised numbers.

    Taps of the same weight are one part: the token itself, its neighbours, and those two away.

    Parameters
    ----------
    affines : dict of str to Affine
        ``h3``, ``w3``, ``h5``, ``w5``.
    """
    gain = {key: double(affine.alpha) * (stream_unit / unit) for key, affine in affines.items()}
    offset = sum(double(affine.move) for affine in affines.values()) * stream_unit
    down, across = ([gain[f"{letter}3"] / 3 + gain[f"{letter}5"] / 5, gain[f"{letter}5"] / 5]
                    for letter in "hw")
    scale = torch.stack([torch.ones_like(offset), down[0] + across[0], down[0], across[0],
                         down[1], across[1]])
    rows, columns = neighbours(side, (5, 1)), neighbours(side, (1, 5))
    itself = torch.arange(side * side)[:, None]
    index = torch.cat([itself, itself, rows[:, [1, 3]], columns[:, [1, 3]], rows[:, [0, 4]],
                       columns[:, [0, 4]]], 1)
    return weighted(index, [0, 1, 2, 2, 3, 3, 4, 4, 5, 5], [0, 1, 1, 1, 1, 1], scale, offset,
                     name)


def absolute_softmax(clip, scale, heads, name):
    """Attention bits where the softmax of ``scale * dot`` is more than half of `clip`."""
    clip = float(clip)
    if clip <= 0:
        raise ConvertError(f"layer {name}: att_prob_clip is {clip:g} and has to be positive; "
                           "train it on, or set it to 0.005")
    multiplier = round(scale * math.log2(math.e) * 64 * 2 ** (EXPONENTIAL_SHIFT - SCORE_FRACTION))
    threshold = min(max(1, round(clip / 2 * 2**ATTENTION_FRACTION)), NEVER)
    return integer.SoftmaxAbsolute(multiplier=torch.full((heads,), multiplier),
                                   threshold=torch.full((heads,), threshold),
                                   flip=torch.zeros(heads, dtype=torch.int64))
