"""The constant memories of the instruction-set simulator, and what follows from their words.

Everything that depends on an instruction's fields and on constants alone is made once and kept.
"""

import functools

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS, MASKING_BIAS, SCORE_BIAS_BITS
from bivit.hw.blocks.fetch import port_beats
from bivit.hw.blocks.stem import groups_and_steps
from bivit.hw.blocks.store import STORED_AS
from bivit.hw.choices import FOLD_STEP
from bivit.hw.memories import (
    BIAS_BITS,
    SCALE_BITS,
    constant_memories,
    fetched_memories,
    memories,
    threshold_bits,
)
from bivit.sim.memory_state import (
    constant_parameters,
    read_numbers,
    unpack_bits,
    unpack_numbers,
    word_indices,
)

__all__ = ["Constants", "bits_of_columns", "exact_type", "weighted_planes"]

_PARAMETER = (SCALE_BITS, True), (BIAS_BITS, True)
_BEND = (16, True), *_PARAMETER, *_PARAMETER
_MADE_OF = {
    "weight": ("weights", "compare", "rescaled_product"), "thr": ("thresholds", "compare"),
    "scale": ("rescale", "rescaled_product"), "bend": ("bend",), "bias": ("score_bias",),
    "norm": ("norm_bits", "norm_rescale", "row_parameters", "fold"), "pos": ("positions",),
    "stem": ("stem",), "stem_scale": ("stem",),
}
"""What is kept of the words of a memory."""


class Constants:
    """Unpacked constant memories.

    Parameters
    ----------
    arch : Arch
    words : dict of str to sequence of int
        Words of the memories in :data:`constant_order` but the program, from address 0 on.
    external : bytes
        The image in external memory.
    """

    def __init__(self, arch, words, external=b""):
        self.arch, self._external = arch, bytearray(external)
        self._arrays = {name: self._unpack(name, words.get(name, ()))
                        for name in constant_memories(arch) if name != "program"}
        for name in {"pos", *fetched_memories(arch)}:
            self._arrays[name] = [_grown(array, memories(arch)[name].depth)
                                  for array in self._arrays[name]]
        for name in {name for names in _MADE_OF.values() for name in names}:
            setattr(self, name, functools.cache(getattr(self, f"_{name}_of")))
        self._fetched = functools.cache(self._fetched_words)

    def _unpack(self, name, words):
        """Arrays (words, ...) of the fields of a memory's words."""
        arch = self.arch
        if name in ("scale", "norm"):
            return constant_parameters(words, arch.cols, *_PARAMETER)
        if name == "stem_scale":
            return constant_parameters(words, 1, *_PARAMETER)
        if name == "thr":
            return constant_parameters(words, arch.cols, (threshold_bits(arch), True), (1, False))
        if name == "bend":
            return constant_parameters(words, arch.cols, *_BEND)
        bits = unpack_bits(words, memories(arch)[name].width)
        if name == "weight":
            return [bits.reshape(-1, arch.cols, arch.lanes)]
        if name == "pos":
            shape = arch.post_rows, arch.cols, arch.resid_bits
        elif name == "stem":
            shape = arch.stem_lanes, arch.stem_simd, CODE_BITS
        else:
            shape = arch.rows, arch.cols, SCORE_BIAS_BITS
        return [unpack_numbers(bits.reshape(-1, *shape), True)]

    def fetch(self, memory, source, first, count):
        """Put `count` words, from beat `source` of external memory on, into a memory."""
        indices = word_indices(memories(self.arch)[memory].depth, first, count)
        if isinstance(indices, slice):
            indices = np.arange(indices.start, indices.stop)
        for array, words in zip(self._arrays[memory], self._fetched(memory, source, count),
                                strict=True):
            present = indices < len(array)
            array[indices[present]] = words[present]
        for name in _MADE_OF[memory]:
            getattr(self, name).cache_clear()

    def store(self, numbers, target):
        """Numbers of words (words, rows, columns) to external memory, from beat `target` on."""
        arch, mask = self.arch, (1 << self.arch.resid_bits) - 1
        step = port_beats(arch, STORED_AS) * arch.port_bits // 8
        at = target * arch.port_bits // 8
        for word in numbers.reshape(len(numbers), -1):
            value = sum((int(number) & mask) << arch.resid_bits * lane
                        for lane, number in enumerate(word))
            self._external[at:at + step], at = value.to_bytes(step, "little"), at + step
        self._fetched.cache_clear()

    def _fetched_words(self, memory, source, count):
        step = port_beats(self.arch, memory) * self.arch.port_bits // 8
        start = source * self.arch.port_bits // 8
        mask = (1 << memories(self.arch)[memory].width) - 1
        return self._unpack(memory, [
            int.from_bytes(self._external[at:at + step], "little") & mask
            for at in range(start, start + count * step, step)])

    def _words(self, array, depth, first, count):
        """`count` words of a memory, from address `first`; zero past its end."""
        indices = word_indices(depth, first, count)
        if isinstance(indices, slice):
            indices = np.arange(indices.start, indices.stop)
        present = indices < len(array)
        words = np.zeros((count, *array.shape[1:]), array.dtype)
        words[present] = array[indices[present]]
        return words

    def _positions_of(self, first, tiles, rows):
        """Numbers of POS (rows, tiles * cols)."""
        return read_numbers(self.arch, self._arrays["pos"][0][None], first, tiles, rows)[0]

    def _stem_of(self, weight_addr, scale_addr, pixels, channels, shift):
        """Weights (channels, pixels) of the stem engine, factor and offset as for `rescale`."""
        arch = self.arch
        groups, steps = groups_and_steps(arch, pixels, channels)
        words = self._words(*self._arrays["stem"], arch.stem_depth, weight_addr, groups * steps)
        words = words.reshape(groups, steps, arch.stem_lanes, arch.stem_simd)
        matrix = words.transpose(0, 2, 1, 3).reshape(-1, steps * arch.stem_simd)
        scale, bias = (self._words(array, arch.stem_scale_depth, scale_addr, channels).reshape(-1)
                       for array in self._arrays["stem_scale"])
        weights = 2 * matrix[:channels, :pixels] + 1
        return weights.astype(np.float64), *self._affine(scale, bias, shift)

    def _weights_of(self, first, tiles, planes, k_words, dtype):
        """Signs ``2 B - (2**planes - 1)`` (K, columns) of weights B, and sums of B's columns."""
        words = self._words(*self._arrays["weight"], self.arch.weight_depth, first,
                            tiles * planes * k_words)
        columns = bits_of_columns(words[None], tiles, planes, k_words)[0]
        signs = np.ascontiguousarray((2 * columns - (2**planes - 1)).T, dtype)
        return signs, columns.sum(1, dtype=np.float64).astype(dtype)

    def _thresholds_of(self, first, tiles):
        """Threshold and flip of each column."""
        thr, flip = (self._words(array, self.arch.thr_depth, first, tiles).reshape(-1)
                     for array in self._arrays["thr"])
        return thr, flip.astype(bool)

    def _compare_of(self, b_addr, tiles, k_words, param_addr):
        """Weights and limits (columns) so that ``bit = A @ weights >= limit``.

        ``count = ones - A . s`` is at most thr where ``A . s >= ones - thr``; flipped, where
        ``-A . s >= thr - ones + 1``.
        """
        signs, ones = self.weights(b_addr, tiles, 1, k_words, np.float32)
        thr, flip = self._thresholds_of(param_addr, tiles)
        limit = np.where(flip, thr - ones + 1, ones - thr).astype(np.float32)
        return signs * np.where(flip, np.float32(-1), np.float32(1)), limit

    def _rescale_of(self, first, tiles, shift):
        """Factor and offset (columns), float64: ``floor(dot * factor + offset)`` rescales."""
        scale, bias = (self._words(array, self.arch.scale_depth, first, tiles).reshape(-1)
                       for array in self._arrays["scale"])
        return self._affine(scale, bias, shift)

    def _rescaled_product_of(self, b_addr, tiles, k_words, a_planes, b_planes, param_addr, shift,
                             base):
        """Factor and offset that rescale ``base - 2 sum`` where A . s is given.

        ``sum = (2**a_planes - 1) ones - A . s``.
        """
        _, ones = self.weights(b_addr, tiles, b_planes, k_words,
                               exact_type(k_words * self.arch.lanes, a_planes, b_planes))
        factor, offset = self.rescale(param_addr, tiles, shift)
        constant = base - 2.0 * ((1 << a_planes) - 1) * ones.astype(np.float64)
        return 2.0 * factor, constant * factor + offset

    @staticmethod
    def _affine(scale, bias, shift):
        # All products and sums are multiples of 2**-shift below 2**53 of them, so exact.
        amount = numeric.RESCALE_SHIFTS[shift]
        half = 1 << (numeric.BIAS_FRACTION - 1)
        return scale * 2.0**-amount, (bias + half) * 2.0**-numeric.BIAS_FRACTION

    def _bend_of(self, first, tiles, shift):
        """Knee, and factor and offset from it on and below it, as for `rescale`, (columns)."""
        knee, *pieces = (self._words(array, self.arch.bend_depth, first, tiles).reshape(-1)
                         for array in self._arrays["bend"])
        return knee, self._affine(*pieces[:2], shift), self._affine(*pieces[2:], shift)

    def _score_bias_of(self, first, tiles):
        """Biases of scores and where they mask, (tiles, rows, cols)."""
        bias = self._words(*self._arrays["bias"], self.arch.bias_depth, first, tiles)
        return bias.astype(np.float32), bias == MASKING_BIAS

    def _norm_words(self, first, tiles):
        return (self._words(array, self.arch.norm_depth, first, tiles)
                for array in self._arrays["norm"])

    def _norm_bits_of(self, first, tiles, channels, span):
        """For each column: factor of x, factors (2, columns) of sum and sigma, and limit.

        With the sign s of a column (0 if it is constant, or past `span`), the bit is
        ``s (d << 12) - s k sigma >= limit``, and ``d = channels x - sum``.
        """
        k, kind = (words.reshape(-1) for words in self._norm_words(first, tiles))
        kind = np.where(np.arange(len(kind)) < span, kind & 3, 2)
        sign = np.select([kind == 0, kind == 1], [1.0, -1.0])
        unit = sign * (1 << numeric.THRESHOLD_FRACTION)
        return channels * unit, np.stack([unit, k * sign]), (kind == 2).astype(np.float64)

    def _norm_rescale_of(self, first, tiles, span, shift):
        """Factor and offset as for `rescale`, so that columns past `span` give 0."""
        scale, bias = (words.reshape(-1) for words in self._norm_words(first, tiles))
        valid = np.arange(len(scale)) < span
        return self._affine(np.where(valid, scale, 0), np.where(valid, bias, 0), shift)

    def _row_parameters_of(self, first, tiles):
        """Scale and bias (tiles, cols) of ROWS_ADD and ROWS_OUT, int64."""
        return tuple(self._norm_words(first, tiles))

    def _fold_of(self, first, steps):
        """FOLD as a matrix product.

        Returns
        -------
        tuple of int array, int array, float64 array
            Source tiles; sum words; matrix (source tiles * cols, sum words * cols) from the
            numbers of a row to what its sum words get.
        """
        cols = self.arch.cols
        scale, bias = self._norm_words(first, steps)
        control = bias[:, 0]
        column, next_tile, next_sum, fours = (
            control >> FOLD_STEP[name].offset & ((1 << FOLD_STEP[name].width) - 1)
            for name in ("column", "next_tile", "next_sum", "fours"))
        tile, word = np.cumsum(next_tile), np.cumsum(next_sum)
        matrix = np.zeros((tile[-1] + 1, cols, word[-1] + 1, cols))
        for step in np.flatnonzero(column < cols):
            to, parts = column[step], 1
            if fours[step] and cols % 4 == 0:
                parts, to = cols // 4, column[step] - column[step] % (cols // 4)
            for part, columns in enumerate(np.split(np.arange(cols), parts)):
                matrix[tile[step], columns, word[step], to + part] += scale[step, columns]
        matrix = matrix[tile[0]:, :, word[0]:]
        return (np.arange(tile[0], tile[-1] + 1), np.arange(word[0], word[-1] + 1),
                matrix.reshape(matrix.shape[0] * cols, -1))


def _grown(array, depth):
    """The same with zeros behind it, as many as are missing to `depth`."""
    grown = np.zeros((depth, *array.shape[1:]), array.dtype)
    grown[:len(array)] = array
    return grown


def exact_type(length, a_planes, b_planes):
    """The floating-point type that holds every sum over planes and `length` products exactly."""
    largest = ((1 << a_planes) - 1) * ((1 << b_planes) - 1) * length
    return np.float32 if largest < 1 << 23 else np.float64


def weighted_planes(words):
    """``sum(bit << plane)`` over axis 1, float32."""
    total = words[:, 0].astype(np.float32)
    for plane in range(1, words.shape[1]):
        total += np.float32(1 << plane) * words[:, plane]
    return total


def bits_of_columns(words, tiles, planes, k_words):
    """B words (images, count, cols, lanes) to ``sum(bit << j)``, float32 (images, columns, K)."""
    images, _, cols, lanes = words.shape
    words = words.reshape(images, tiles, planes, k_words, cols, lanes)
    columns = np.empty((images, tiles, cols, k_words, lanes), np.float32)
    total = columns.transpose(0, 1, 3, 2, 4)
    total[...] = words[:, :, 0]
    for plane in range(1, planes):
        total += np.float32(1 << plane) * words[:, :, plane]
    return columns.reshape(images, tiles * cols, k_words * lanes)
