"""Threshold folding, for every value there is."""

import numpy as np
import pytest

from bivit.compiler.fold import fold_attention, fold_linear, never
from bivit.compiler.ir import numeric

LIMITS = [*range(-14, 15), -10**6, 10**6, -2**63, 1 - 2**63, 2**63 - 1]


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("descending", (0, 1))
def test_linear_thresholds_are_exact(length, descending):
    counts = np.arange(length + 1)[:, None]
    flags = np.full(len(LIMITS), descending)
    thr, flip = fold_linear(LIMITS, flags, length)
    expected = numeric.threshold_bits(length - 2 * counts, np.array(LIMITS), flags)
    assert ((counts <= thr) ^ flip.astype(bool) == expected).all()
    assert thr.min() >= -1 and thr.max() <= length


@pytest.mark.parametrize("keys", range(1, 12))
@pytest.mark.parametrize("descending", (0, 1))
def test_attention_thresholds_are_exact(keys, descending):
    ones, counts = (x.reshape(-1, 1) for x in np.meshgrid(np.arange(keys + 1),
                                                         np.arange(keys + 1)))
    flags = np.full(len(LIMITS), descending)
    thr, flip = fold_attention(LIMITS, flags, keys)
    expected = numeric.threshold_bits(ones - counts, np.array(LIMITS), flags)
    assert ((counts <= thr + ones) ^ flip.astype(bool) == expected).all()
    count_bits = int(keys).bit_length()
    assert thr.min() >= never(count_bits) and thr.max() < 1 << count_bits


def test_padding_is_never_reached():
    assert never(13) + (1 << 13) - 1 < 0
