"""The numeric definitions (NumPy, int64): what every simulator and the RTL compute.

Every function takes and gives integers. The PyTorch integer model implements the same definitions
with torch tensors, and tests compare the two with ``==``.
"""

import math

import numpy as np

__all__ = [
    "ATTENTION_FRACTION", "BIAS_FRACTION", "CODE_BITS", "EXPONENTIALS", "EXPONENTIAL_SHIFT",
    "GELU_FRACTION", "GELU_KNOTS", "GELU_STEP", "MASKING_BIAS", "NORM_FRACTION", "RESCALE_SHIFTS",
    "SCORE_BIAS_BITS", "SCORE_FRACTION", "THRESHOLD_FRACTION", "bend", "exponential", "gelu",
    "isqrt", "normalise",
    "normalise_to_bits", "normalise_to_codes", "normalise_to_numbers", "plane_dot", "reciprocal",
    "rescale", "round_shift", "row_sigma", "saturate", "threshold_bits",
]

RESCALE_SHIFTS = (8, 14, 20, 26)
"""The right shifts that a rescale may use; a 2-bit field selects one."""
BIAS_FRACTION = 8
"""Fractional bits of a bias, in units of the output's least significant bit."""
THRESHOLD_FRACTION = 12
"""Fractional bits of a LayerNorm threshold ``k``."""
NORM_FRACTION = 10
"""Fractional bits of a normalised number ``d / sigma``."""
SCORE_FRACTION = 4
"""Fractional bits of a score to which a bias was added."""
SCORE_BIAS_BITS = 14
"""Bits of a score's bias."""
MASKING_BIAS = -(1 << (SCORE_BIAS_BITS - 1))
"""The most negative bias: its key takes no part."""
CODE_BITS = 8
"""Bits of a pixel or a code, and so planes of it."""
ATTENTION_FRACTION = 20
"""Fractional bits of an absolute attention threshold."""
EXPONENTIAL_SHIFT = 12
"""Fractional bits of a multiplier of :func:`exponential`."""
EXPONENTIALS = tuple(round(2**15 * 2 ** (-index / 64)) for index in range(64))
"""``2**(15 - i / 64)``: the mantissas of :func:`exponential`."""
GELU_FRACTION = 10
"""Fractional bits of argument and result of :func:`gelu`."""
GELU_STEP = 7
"""Knots of :func:`gelu` are ``2**GELU_STEP`` apart, in units of its argument."""
GELU_KNOTS = tuple(round(2**GELU_FRACTION * x / 2 * (1 + math.erf(x / math.sqrt(2))))
                   for x in (index / 8 - 4 for index in range(65)))
"""GELU at -4, -3.875, ... 4; the last is 4 itself."""


def round_shift(x, shift):
    """Add half, shift right arithmetically: the only rounding there is."""
    return x if shift == 0 else (x + (1 << (shift - 1))) >> shift


def saturate(x, bits):
    """Clamp to signed `bits`."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def threshold_bits(value, threshold, descending):
    """Bit of an integer against a per-channel threshold.

    ``value >= threshold`` where `descending` is 0, ``value <= threshold`` where it is 1.
    """
    return np.where(descending.astype(bool), value <= threshold, value >= threshold)


def rescale(dot, scale, bias, shift):
    """``round_shift(dot * scale + (bias << (shift - 8)), shift)``; not yet saturated.

    Parameters
    ----------
    dot : int64 array (..., C)
    scale : int16 array (C,)
    bias : array (C,), signed 24 bits, 8 of them fractional
    shift : int, one of ``RESCALE_SHIFTS``
    """
    dot, scale, bias = (np.asarray(v, np.int64) for v in (dot, scale, bias))
    return round_shift(dot * scale + (bias << (shift - BIAS_FRACTION)), shift)


def plane_dot(codes, weights):
    """Dot product of 8-bit codes with odd weights: ``sum((2 p - 255) * w)``."""
    return (2 * np.asarray(codes, np.int64) - 255) @ np.asarray(weights, np.int64).T


def isqrt(x):
    """Floor of the square root of non-negative int64 below 2**56, exact."""
    x = np.asarray(x, np.int64)
    root = np.floor(np.sqrt(x.astype(np.float64))).astype(np.int64)
    root = np.where(root * root > x, root - 1, root)
    return np.where((root + 1) * (root + 1) <= x, root + 1, root)


def row_sigma(x, eps):
    """``d = N x - sum(x)`` (..., N) and ``sigma = isqrt(N sum(x^2) - sum(x)^2 + eps)`` (..., 1)."""
    x = np.asarray(x, np.int64)
    n, total = x.shape[-1], x.sum(-1, keepdims=True)
    squares = (x * x).sum(-1, keepdims=True)
    return n * x - total, isqrt(n * squares - total * total + eps)


def normalise_to_bits(x, k, kind, eps):
    """LayerNorm and sign without a division.

    `kind` per channel: 0, ``(d << 12) >= sigma * k``; 1, ``(d << 12) <= sigma * k``; 2, always 0;
    3, always 1. `k` is a signed 16-bit number with 12 fractional bits; `eps` at least 1.
    """
    d, sigma = row_sigma(x, eps)
    d, limit, kind = d << THRESHOLD_FRACTION, sigma * np.asarray(k, np.int64), np.asarray(kind)
    return np.select([kind == 0, kind == 1, kind == 2], [d >= limit, d <= limit, False], True)


def reciprocal(sigma):
    """Mantissa and exponent of ``1 / sigma`` for ``sigma >= 1``.

    ``e`` is the bit length of sigma, ``m`` its leading 16 bits (shifted left if it has fewer),
    and the 17-bit mantissa is ``floor((2**32 - 1) / m)``; so ``1/sigma ~ mantissa * 2**(-16-e)``.
    """
    sigma = np.asarray(sigma, np.int64)
    exponent = np.frexp(sigma.astype(np.float64))[1].astype(np.int64)
    leading = np.where(exponent > 16, sigma >> np.maximum(exponent - 16, 0),
                       sigma << np.maximum(16 - exponent, 0))
    return (2**32 - 1) // leading, exponent


def normalise(x, eps):
    """LayerNorm without its affine: 16-bit numbers with ``NORM_FRACTION`` fractional bits.

    ``saturate(round_shift(d * mantissa, 6 + e), 16)`` with the reciprocal of sigma.
    """
    d, sigma = row_sigma(x, eps)
    mantissa, exponent = reciprocal(sigma)
    shift = 16 + exponent - NORM_FRACTION
    return saturate((d * mantissa + (np.int64(1) << (shift - 1))) >> shift, 16)


def normalise_to_codes(x, scale, bias, shift, eps):
    """LayerNorm to 8-bit codes ``p`` of the odd grid ``2 p - 255``.

    ``p = clip(rescale(normalise(x), scale, bias, shift), 0, 255)``.
    """
    return np.clip(rescale(normalise(x, eps), scale, bias, shift), 0, 255)


def normalise_to_numbers(x, scale, bias, shift, eps, bits):
    """LayerNorm to numbers: ``saturate(rescale(normalise(x), scale, bias, shift), bits)``."""
    return saturate(rescale(normalise(x, eps), scale, bias, shift), bits)


def bend(x, knee, above, below, shift):
    """Two straight pieces: ``rescale`` with `above` (scale, bias) from `knee` on, else `below`.

    RPReLU, with the affine that follows it (BinaryViT); not yet saturated.
    """
    return np.where(np.asarray(x) >= knee, rescale(x, *above, shift), rescale(x, *below, shift))


def exponential(distance, multiplier):
    """``2**15 exp(-distance * scale)`` in integers, 0 where it is below 1.

    With ``z = (distance * multiplier) >> EXPONENTIAL_SHIFT`` it is
    ``EXPONENTIALS[z % 64] >> (z // 64)``: `multiplier` is ``64 log2(e) * scale`` with 12
    fractional bits, where `scale` is that of one unit of `distance`.
    """
    z = (np.asarray(distance, np.int64) * multiplier) >> EXPONENTIAL_SHIFT
    return np.asarray(EXPONENTIALS, np.int64)[z & 63] >> np.minimum(z >> 6, 16)


def gelu(x):
    """GELU of numbers with ``GELU_FRACTION`` fractional bits, straight between ``GELU_KNOTS``.

    0 below -4, the identity from 4 on.
    """
    x = np.asarray(x, np.int64)
    knots, limit = np.asarray(GELU_KNOTS, np.int64), 4 << GELU_FRACTION
    inside = np.clip(x, -limit, limit - 1) + limit
    index, rest = inside >> GELU_STEP, inside & ((1 << GELU_STEP) - 1)
    y = knots[index] + round_shift((knots[index + 1] - knots[index]) * rest, GELU_STEP)
    return np.select([x >= limit, x < -limit], [x, 0], y)
