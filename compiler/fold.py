"""Thresholds on dot products become thresholds on mismatch counts: exact, in integers."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.hw.memories import BIAS_BITS

__all__ = ["fold_attention", "fold_linear", "fold_numbers", "fold_sums", "never"]


def never(count_bits: int) -> int:
    """A threshold that no count reaches, whatever is added from PV."""
    return -(1 << count_bits)


def fold_linear(threshold, descending, length: int):
    """Threshold and flip for ``dot = length - 2 count``.

    ``dot >= t`` is ``count <= floor((length - t) / 2)``; ``dot <= t`` is the opposite of
    ``count <= ceil((length - t) / 2) - 1``. Limits that always or never hold become `length`
    and -1.

    Returns
    -------
    tuple of int64 arrays
        So that ``bit = (count <= thr) ^ flip`` for every count in 0..length.
    """
    flip = np.asarray(descending, np.int64)
    # Beyond the range of the dot product all limits are alike; no difference overflows then.
    slack = length - np.clip(np.asarray(threshold, np.int64), -length - 1, length + 1)
    return np.clip(np.where(flip, -(-slack // 2) - 1, slack // 2), -1, length), flip


def fold_attention(threshold, descending, keys: int):
    """Threshold and flip for ``dot = ones - count``, to be compared after adding the ones.

    ``dot >= t`` is ``count <= ones - t``; ``dot <= t`` is the opposite of
    ``count <= ones - t - 1``. A limit beyond the range ``-keys..keys`` of the dot product is moved
    next to it.
    """
    threshold, flip = np.asarray(threshold, np.int64), np.asarray(descending, np.int64)
    limit = np.clip(threshold, -keys - flip, keys + 1 - flip)
    return -limit - flip, flip


def fold_numbers(threshold, descending, bits: int):
    """Threshold and flip for ``(x >= thr) ^ flip`` of numbers of at most `bits` bits.

    ``x <= t`` is the opposite of ``x >= t + 1``. Limits that always or never hold are moved next to
    the range of the numbers: its least number, and the one behind its greatest.
    """
    flip, half = np.asarray(descending, np.int64), 1 << (bits - 1)
    return np.clip(np.asarray(threshold, np.int64) + flip, -half, half), flip


def fold_sums(threshold, descending, bias, bits: int):
    """Bias and flip for ``(S + (bias << (shift - 8)) >= 0) ^ flip`` of a sum S of rows.

    The numbers are the sum with `bias`, rounded and saturated to `bits`; rounding up from one half
    is 128 in units of the bias.

    Returns
    -------
    tuple of int64 arrays, or None
        None if a limit lies beyond the numbers, or a bias beyond its field.
    """
    limit, flip = fold_numbers(threshold, descending, bits)
    half = 1 << (bits - 1)
    one = 1 << numeric.BIAS_FRACTION
    bias = np.asarray(bias, np.int64) + one // 2 - limit * one
    top = 1 << (BIAS_BITS - 1)
    if (abs(limit) == half).any() or bias.min() < -top or bias.max() >= top:
        return None
    return bias, flip
