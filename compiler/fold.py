"""Thresholds on dot products become thresholds on mismatch counts: exact, in integers."""

import numpy as np

__all__ = ["fold_attention", "fold_linear", "fold_numbers", "never"]


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
