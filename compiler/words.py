"""Arrays of constants to memory words (``docs/architecture.md``, section 2)."""

import numpy as np

from bivit.hw.arch import Arch
from bivit.hw.memories import BIAS_BITS, SCALE_BITS

__all__ = ["column_order", "number_words", "pos_words", "scale_words", "thr_words",
           "weight_words"]


def number_words(rows) -> tuple[int, ...]:
    """Rows of bits (words, width), lowest first, as integers."""
    packed = np.packbits(np.asarray(rows, np.uint8), axis=1, bitorder="little")
    return tuple(int.from_bytes(row.tobytes(), "little") for row in packed)


def _bits(values, width):
    """Lowest `width` bits of integers, along a new last axis."""
    return (np.asarray(values, np.int64)[..., None] >> np.arange(width)) & 1


def column_order(arch: Arch, tiles) -> np.ndarray:
    """Channel of every column of `tiles` (first channel, count); -1 where there is none."""
    order = np.full((len(tiles), arch.cols), -1, np.int64)
    for row, (first, count) in zip(order, tiles, strict=True):
        row[:count] = np.arange(first, first + count)
    return order


def _gather(values, order, missing):
    """`values` by channel, in column order."""
    values = np.asarray(values, np.int64)
    return np.where(order < 0, missing, values[np.maximum(order, 0)])


def weight_words(arch: Arch, weight, planes: int, positions, tiles, k_words: int):
    """Weights (outputs, K) of `planes` bits to words: by tile, plane, word of K.

    Parameters
    ----------
    positions : int array (K,)
        Place along K of every input channel.
    tiles : sequence of (first channel, count)
        Output channels in the columns.
    """
    order = column_order(arch, tiles).reshape(-1)
    codes = np.zeros((len(order), k_words * arch.lanes), np.uint8)
    used = order >= 0
    codes[np.ix_(used, positions)] = weight[order[used]]
    codes = codes.reshape(len(tiles), arch.cols, k_words, arch.lanes)
    bits = np.stack([codes >> plane & 1 for plane in range(planes)], 1)  # tile plane col k lane
    return number_words(bits.transpose(0, 1, 3, 2, 4).reshape(-1, arch.cols * arch.lanes))


def thr_words(arch: Arch, threshold, flip, tiles, missing: int):
    """Thresholds and flips; columns without a channel get `missing`, so that their bit is 0."""
    order = column_order(arch, tiles)
    fields = np.concatenate([_bits(_gather(threshold, order, missing), arch.count_bits + 1),
                             _bits(_gather(flip, order, 0), 1)], -1)
    return number_words(fields.reshape(len(tiles), -1))


def scale_words(arch: Arch, scale, bias, tiles):
    """Scales and biases, for SCALE and NORM."""
    order = column_order(arch, tiles)
    fields = np.concatenate([_bits(_gather(scale, order, 0), SCALE_BITS),
                             _bits(_gather(bias, order, 0), BIAS_BITS)], -1)
    return number_words(fields.reshape(len(tiles), -1))


def pos_words(arch: Arch, table, tiles):
    """Numbers (tokens, channels) as whole blocks of RESID words."""
    table = np.asarray(table, np.int64)
    blocks, groups = -(-len(table) // arch.rows), arch.drain_cycles
    order = column_order(arch, tiles)
    full = np.zeros((blocks, groups * arch.post_rows, len(tiles), arch.cols), np.int64)
    for token, row in enumerate(table):
        full[token // arch.rows, token % arch.rows] = _gather(row, order, 0)
    full = full.reshape(blocks, groups, arch.post_rows, len(tiles), arch.cols)
    full = full.transpose(0, 3, 1, 2, 4)  # block tile group row column
    return number_words(_bits(full, arch.resid_bits).reshape(
        blocks * len(tiles) * groups, arch.post_rows * arch.cols * arch.resid_bits))
