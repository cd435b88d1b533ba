"""Arrays of constants to memory words (``docs/architecture.md``, section 2).

Words are made when somebody looks at them: a prediction of cycles never does.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from bivit.compiler.ir.numeric import CODE_BITS, MASKING_BIAS, SCORE_BIAS_BITS
from bivit.compiler.structures import Rows
from bivit.hw.arch import Arch
from bivit.hw.blocks.stem import groups_and_steps
from bivit.hw.memories import BIAS_BITS, SCALE_BITS, threshold_bits

__all__ = ["Constant", "Words", "column_order", "number_words"]


class Constant(Sequence):
    """Words that are made when one is asked for; equal to others made in the same way of the same
    values.

    Parameters
    ----------
    count : int
        How many they are.
    key : tuple
        What they are made of, and how.
    make : callable () -> tuple of int
    """

    def __init__(self, count: int, key: tuple, make: Callable[[], tuple[int, ...]]):
        self._count, self._key, self._make, self._words = count, key, make, None

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if self._words is None:
            self._words = self._make()
            assert len(self._words) == self._count, self._key[0]
        return self._words[index]

    def __iter__(self):
        return iter(self[:])

    def __eq__(self, other):
        return isinstance(other, Constant) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


def _constant(count):
    """A method that makes words makes a :class:`Constant`; `count` of its arguments is its length.
    """
    def later(method):
        @functools.wraps(method)
        def constant(self, *arguments):
            return Constant(count(self, *arguments),
                            (method.__name__, *map(_identity, arguments)),
                            functools.partial(method, self, *arguments))
        return constant
    return later


def _identity(value):
    """Something small that is equal for equal arguments alone."""
    if isinstance(value, np.ndarray):
        digest = hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=16).digest()
        return value.shape, value.dtype.str, digest
    if isinstance(value, dict):
        return tuple((name, _identity(value[name])) for name in sorted(value))
    if not isinstance(value, (list, tuple)):
        return value
    try:
        hash(value := tuple(value))
    except TypeError:  # there are arrays in it
        return tuple(map(_identity, value))
    return value


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


class Words:
    """Makes words for a target.

    Parameters
    ----------
    arch : Arch
    fill : int, optional
        0 or -1 in the place of every parameter: what is then equal in both is padding.
    """

    def __init__(self, arch: Arch, fill: int | None = None):
        self.arch, self.fill = arch, fill

    def _filled(self, values):
        values = np.asarray(values, np.int64)
        return values if self.fill is None else np.full_like(values, self.fill)

    def _columns(self, values, order, missing=0):
        """Parameters by channel, in column order."""
        return np.where(order < 0, missing, self._filled(values)[np.maximum(order, 0)])

    def _parameters(self, tiles, *fields):
        """Words of fields (values, width, missing) of every column, the first lowest."""
        order = column_order(self.arch, tiles)
        bits = [_bits(self._columns(values, order, missing), width)
                for values, width, missing in fields]
        return number_words(np.concatenate(bits, -1).reshape(len(tiles), -1))

    @_constant(lambda self, weight, planes, odd, positions, tiles, k_words:
               len(tiles) * planes * k_words)
    def weight(self, weight, planes: int, odd: bool, positions, tiles, k_words: int):
        """Weights (outputs, K) of `planes` bits: by tile, plane, word of K.

        Parameters
        ----------
        odd : bool
            They are odd numbers on a grid around 0, stored as their place in the grid.
        positions : int array (K,)
            Place along K of every input channel.
        tiles : sequence of (first channel, count)
            Output channels in the columns.
        """
        arch = self.arch
        if odd:
            weight = (weight.astype(np.int64) + (1 << planes) - 1) // 2
        order = column_order(arch, tiles).reshape(-1)
        codes = np.zeros((len(order), k_words * arch.lanes), np.uint8)
        used = order >= 0
        codes[np.ix_(used, positions)] = self._filled(weight)[order[used]] & 0xFF
        codes = codes.reshape(len(tiles), arch.cols, k_words, arch.lanes)
        bits = np.stack([codes >> plane & 1 for plane in range(planes)], 1)
        return number_words(bits.transpose(0, 1, 3, 2, 4).reshape(-1, arch.cols * arch.lanes))

    @_constant(lambda self, weight, tiles: math.prod(groups_and_steps(
        self.arch, weight.shape[1], len(tiles) * self.arch.cols)))
    def stem(self, weight, tiles):
        """Odd weights (outputs, pixels) of the columns of `tiles`, for the stem engine."""
        arch, order = self.arch, column_order(self.arch, tiles).reshape(-1)
        groups, steps = groups_and_steps(arch, weight.shape[1], len(order))
        halves = np.zeros((groups * arch.stem_lanes, steps * arch.stem_simd), np.int64)
        halves[np.flatnonzero(order >= 0), :weight.shape[1]] = (
            self._filled(weight >> 1)[order[order >= 0]])
        words = halves.reshape(groups, arch.stem_lanes, steps, arch.stem_simd)
        words = words.transpose(0, 2, 1, 3).reshape(-1, arch.stem_macs)
        return number_words(_bits(words, CODE_BITS).reshape(len(words), -1))

    @_constant(lambda self, scale, bias, tiles: len(tiles) * self.arch.cols)
    def stem_scale(self, scale, bias, tiles):
        """A scale and a bias for each column of `tiles`, for the stem engine."""
        words = self.scale(scale, bias, tiles)
        width = SCALE_BITS + BIAS_BITS
        return tuple(word >> column * width & (1 << width) - 1
                     for word in words for column in range(self.arch.cols))

    @_constant(lambda self, threshold, flip, tiles, missing: len(tiles))
    def thr(self, threshold, flip, tiles, missing: int):
        """Thresholds and flips; columns without a channel get `missing`: their bit is 0."""
        return self._parameters(tiles, (threshold, threshold_bits(self.arch), missing),
                                (flip, 1, 0))

    @_constant(lambda self, limit, tiles: tiles)
    def thr_constant(self, limit: int, tiles: int):
        """The same threshold in every column."""
        word = _bits(np.full(self.arch.cols, limit), threshold_bits(self.arch) + 1)
        word[:, -1] = 0
        return number_words(word.reshape(1, -1)) * tiles

    @_constant(lambda self, scale, bias, tiles: len(tiles))
    def scale(self, scale, bias, tiles):
        """Scales and biases, for SCALE and NORM."""
        return self._parameters(tiles, (scale, SCALE_BITS, 0), (bias, BIAS_BITS, 0))

    @_constant(lambda self, k, kind, tiles: len(tiles))
    def norm_kinds(self, k, kind, tiles):
        """LayerNorm to bits; columns without a channel are always 0."""
        return self._parameters(tiles, (k, SCALE_BITS, 0), (kind, BIAS_BITS, 2))

    @_constant(lambda self, scale, tiles: len(tiles))
    def unit(self, scale: int, tiles):
        """The same scale for every channel, no bias: no parameter of the network."""
        order = column_order(self.arch, tiles)
        bits = _bits(np.where(order < 0, 0, scale), SCALE_BITS + BIAS_BITS)
        return number_words(bits.reshape(len(tiles), -1))

    @_constant(lambda self, bias, flip, tiles: len(tiles))
    def sign(self, bias, flip, tiles):
        """Biases and flips of ROWS_OUT to bits; columns without a channel are always 0."""
        return self._parameters(tiles, (flip, SCALE_BITS, 1), (bias, BIAS_BITS, 0))

    @_constant(lambda self, tensors, tiles: len(tiles))
    def bend(self, tensors, tiles):
        """Bends, by the names of their tensors."""
        return self._parameters(
            tiles, (tensors["knee"], SCALE_BITS, 0),
            *((tensors[f"{name}_{side}"], width, 0) for side in ("above", "below")
              for name, width in (("scale", SCALE_BITS), ("bias", BIAS_BITS))))

    @_constant(lambda self, steps, scale, group, tiles: len(steps))
    def fold(self, steps, scale, group: int, tiles):
        """Steps of a FOLD, by ``tile_rows.fold_steps``; `scale` by output channel."""
        order = column_order(self.arch, tiles)
        rows = order[[tile for tile, _, _ in steps]]
        outputs, ends = np.array([step[1] for step in steps]).T[:, :, None]
        chosen = (rows >= 0) & (rows // group >= outputs) & (rows // group < ends)
        scales = np.where(chosen, self._filled(scale)[np.maximum(rows, 0) // group], 0)
        biases = np.zeros_like(scales)
        biases[:, 0] = [descriptor for _, _, descriptor in steps]
        fields = np.concatenate([_bits(scales, SCALE_BITS), _bits(biases, BIAS_BITS)], -1)
        return number_words(fields.reshape(len(steps), -1))

    @_constant(lambda self, table, rows, tiles: (rows.segments * rows.segment_blocks(self.arch.rows)
                                                 * len(tiles) * self.arch.drain_cycles))
    def pos(self, table, rows: Rows, tiles):
        """Numbers (tokens, channels) as whole blocks of RESID words."""
        arch, table = self.arch, self._filled(table)
        blocks, groups = rows.segments * rows.segment_blocks(arch.rows), arch.drain_cycles
        order = column_order(arch, tiles)
        full = np.zeros((blocks, groups * arch.post_rows, len(tiles), arch.cols), np.int64)
        for block, low, high, begin, end in rows.blocks(arch.rows):
            full[block, low:high] = np.where(order < 0, 0, table[begin:end, np.maximum(order, 0)])
        full = full.reshape(blocks, groups, arch.post_rows, len(tiles), arch.cols)
        full = full.transpose(0, 3, 1, 2, 4)  # block tile group row column
        return number_words(_bits(full, arch.resid_bits).reshape(
            blocks * len(tiles) * groups, arch.post_rows * arch.cols * arch.resid_bits))

    @_constant(lambda self, bias, low: -(-bias.shape[1] // self.arch.keys_per_group))
    def bias(self, bias, low: int):
        """Biases of scores (queries from row `low` on, keys): a word for each score tile."""
        arch = self.arch
        queries, keys = bias.shape
        tiles, group = -(-keys // arch.keys_per_group), arch.keys_per_group
        full = np.zeros((arch.rows, tiles * group), np.int64)
        full[low:low + queries, :keys] = self._filled(bias)
        words = np.zeros((tiles, arch.rows, arch.cols), np.int64)
        words[:, :, :group] = full.reshape(arch.rows, tiles, group).transpose(1, 0, 2)
        assert full.min() >= MASKING_BIAS
        return number_words(_bits(words, SCORE_BIAS_BITS).reshape(tiles, -1))
