"""Threshold folding, for every value there is."""

import numpy as np
import pytest

from bivit.compiler.fold import fold_attention, fold_linear, fold_numbers, fold_sums, never
from bivit.compiler.ir import numeric
from bivit.compiler.row_parts import fold_steps
from bivit.hw.targets import TARGETS

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


@pytest.mark.parametrize("bits", (2, 4))
@pytest.mark.parametrize("descending", (0, 1))
def test_thresholds_of_numbers_are_exact(bits, descending):
    half = 1 << (bits - 1)
    numbers = np.arange(-half, half)[:, None]
    flags = np.full(len(LIMITS), descending)
    thr, flip = fold_numbers(LIMITS[:-3], flags[:-3], bits)
    expected = numeric.threshold_bits(numbers, np.array(LIMITS[:-3]), flags[:-3])
    assert ((numbers >= thr) ^ flip.astype(bool) == expected).all()
    assert abs(thr).max() <= half


@pytest.mark.parametrize("shift", (8, 14))
@pytest.mark.parametrize("descending", (0, 1))
def test_thresholds_of_sums_are_exact(shift, descending):
    bits, limits = 4, np.arange(-6, 7)
    sums = np.arange(-20 << shift, 20 << shift, (1 << shift) // 32)[:, None]
    sums = np.concatenate([sums - 1, sums, sums + 1])
    for bias in (-300, 0, 77, 128):
        for limit in limits:
            flags = np.array([descending])
            folded = fold_sums(np.array([limit]), flags, np.array([bias]), bits)
            numbers = numeric.saturate(numeric.round_shift(
                sums + (bias << (shift - 8)), shift), bits)
            if folded is None:
                assert limit + descending <= -8 or limit + descending >= 8
                continue
            bias_of_bits, flip = folded
            found = (sums + (bias_of_bits << (shift - 8)) >= 0) ^ flip.astype(bool)
            assert (found == numeric.threshold_bits(numbers, np.array([limit]), flags)).all()


def test_limits_of_sums_that_do_not_fit():
    bias, flags = np.array([0]), np.array([0])
    assert fold_sums(np.array([8]), flags, bias, 4) is None
    assert fold_sums(np.array([-8]), flags, bias, 4) is None
    assert fold_sums(np.array([-32767]), flags, np.array([200]), 16) is None


@pytest.mark.parametrize("target, steps, fours", [("odd", 7, 0), ("zynq-7020", 2, 1)])
def test_four_columns_at_once_need_a_multiple_of_four(target, steps, fours):
    """16 channels: words of five hold parts of groups of four, words of eight whole ones."""
    arch = TARGETS[target]
    chunks = tuple((first, min(arch.cols, 16 - first)) for first in range(0, 16, arch.cols))
    found = fold_steps(arch, chunks, ((0, 4),), 4)
    assert [descriptor >> 10 for _, _, descriptor in found] == [fours] * steps
