"""What the instructions of the instruction-set simulator act on: memories, constants, streams."""

import functools

import numpy as np

from bivit.sim.memory_state import (
    A_MEMORIES,
    MemoryState,
    constant_parameters,
    read_words,
    unpack_bits,
    unpack_numbers,
    word_indices,
)

__all__ = ["Machine"]


class Machine:
    """Memories, unpacked constants, and the streams of the images in work.

    Parameters
    ----------
    arch : Arch
    constants : dict of str to sequence of int
    """

    def __init__(self, arch, constants):
        self.arch = arch
        words = {name: constants.get(name, ()) for name in ("weight", "thr", "scale", "norm",
                                                            "pos")}
        self.weight = unpack_bits(words["weight"], arch.cols * arch.lanes).reshape(
            -1, arch.cols, arch.lanes)
        parameter = (16, True), (24, True)
        self.thr, self.flip = constant_parameters(
            words["thr"], arch.cols, (arch.count_bits + 1, True), (1, False))
        self.scale, self.scale_bias = constant_parameters(words["scale"], arch.cols, *parameter)
        self.norm_scale, self.norm_bias = constant_parameters(words["norm"], arch.cols, *parameter)
        numbers = arch.post_rows * arch.cols
        self.pos = unpack_numbers(
            unpack_bits(words["pos"], numbers * arch.resid_bits).reshape(
                -1, arch.post_rows, arch.cols, arch.resid_bits), True)
        self.weight_columns = functools.cache(self._weight_columns)
        self._capacity = 1
        self._memories, self._scores, self._minimum = self._allocate(1)

    def start(self, streams):
        """Begin a program for a batch of images.

        The first image finds the memories as the last image of the batch before left them.
        """
        count = len(streams)
        if count > self._capacity:
            memories, scores, minimum = self._allocate(count)
            for name, array in memories.arrays().items():
                array[0] = getattr(self._memories, name)[0]
            self._memories, self._scores, self._minimum = memories, scores, minimum
            self._capacity = count
        self.streams = streams
        self.state = self._memories.first(count)
        self.scores, self.minimum = self._scores[:count], self._minimum[:count]
        self.outputs, self.position, self.program_counter = [], 0, 0

    def _allocate(self, count):
        arch = self.arch
        return (MemoryState(arch, count),
                np.zeros((count, arch.score_slots * arch.score_tiles, arch.rows, arch.cols),
                         np.float32),
                np.zeros((count, arch.score_slots, arch.rows), np.float32))

    def finish(self):
        """End a program: let the next batch begin where the last image ended."""
        for array in (*self.state.arrays().values(), self.scores, self.minimum):
            array[0] = array[-1]

    def parameters(self, array, depth, first, count):
        """`count` parameter words (count, cols) of a constant memory, from address `first`."""
        indices = word_indices(depth, first, count)
        if isinstance(indices, slice) and indices.stop <= len(array):
            return array[indices]
        if isinstance(indices, slice):
            indices = np.arange(indices.start, indices.stop)
        present = indices < len(array)
        words = np.zeros((count, *array.shape[1:]), array.dtype)
        words[present] = array[indices[present]]
        return words

    def _weight_columns(self, first, tiles, planes, k_words, dtype):
        """Weights as signs ``2 B - (2**planes - 1)`` (K, columns), and the sums of B's columns."""
        words = self.parameters(self.weight, self.arch.weight_depth, first,
                                tiles * planes * k_words)
        columns = columns_of(words[None], tiles, planes, k_words)[0]
        signs = np.ascontiguousarray((2 * columns - (2**planes - 1)).T, dtype)
        return signs, columns.sum(1, dtype=np.float64).astype(dtype)

    def columns(self, fields, planes):
        """Operand B from BMEM, (images, columns, K)."""
        tiles, k_words = fields["n_tiles"], fields["k_words"]
        words = read_words(self.state.bmem, fields["b_addr"], tiles * planes * k_words)
        return columns_of(words, tiles, planes, k_words)

    def rows(self, fields, planes):
        """Operand A, bits summed over planes: float32 (images, rows, K)."""
        arch, k_words = self.arch, fields["k_words"]
        memory = getattr(self.state, A_MEMORIES[fields["a_src"]])
        words = read_words(memory, fields["a_addr"], planes * k_words)
        words = words.reshape(-1, planes, k_words, arch.rows, arch.lanes)
        total = weighted_planes(words).transpose(0, 2, 1, 3)
        return total.reshape(len(words), arch.rows, k_words * arch.lanes)


def weighted_planes(words):
    """``sum(bit << plane)`` over axis 1, float32."""
    if words.shape[1] == 1:
        return words[:, 0].astype(np.float32)
    total = words[:, 0].astype(np.float32)
    for plane in range(1, words.shape[1]):
        total += np.float32(1 << plane) * words[:, plane]
    return total


def columns_of(words, tiles, planes, k_words):
    """B words (images, count, cols, lanes) to ``sum(bit << j)``, float32 (images, columns, K)."""
    images, _, cols, lanes = words.shape
    words = words.reshape(images * tiles, planes, k_words, cols, lanes)
    total = weighted_planes(words).transpose(0, 2, 1, 3)
    return total.reshape(images, tiles * cols, k_words * lanes)
