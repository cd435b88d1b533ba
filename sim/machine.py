"""What the instructions of the instruction-set simulator act on: memories, constants, streams."""

import numpy as np

from bivit.hw.memories import masked_score
from bivit.sim.constants import bits_of_columns, weighted_planes
from bivit.sim.memory_state import A_MEMORIES, B_MEMORIES, MemoryState, read_words

__all__ = ["Machine"]


class Machine:
    """Memories, unpacked constants, and the streams of the images in work.

    Parameters
    ----------
    arch : Arch
    constants : Constants
    """

    def __init__(self, arch, constants):
        self.arch, self.constants = arch, constants
        self.greatest_score = masked_score(arch)
        self._capacity = 1
        self.memories, self._scores, self._minimum = self._allocate(1)

    def start(self, streams):
        """Begin a program for a batch of images.

        The first image finds the memories as the last image of the batch before left them.
        """
        count = len(streams)
        if count > self._capacity:
            memories, scores, minimum = self._allocate(count)
            for name, array in memories.arrays().items():
                array[0] = getattr(self.memories, name)[0]
            self.memories, self._scores, self._minimum = memories, scores, minimum
            self._capacity = count
        self.streams = streams
        self.state = self.memories.first(count)
        self.scores, self.minimum = self._scores[:count], self._minimum[:count]
        self.outputs, self.position, self.program_counter = [], 0, 0

    def _allocate(self, count):
        arch = self.arch
        exact = np.float32 if self.greatest_score <= 1 << 24 else np.float64
        return (MemoryState(arch, count),
                np.zeros((count, arch.score_slots * arch.score_tiles, arch.rows, arch.cols), exact),
                np.zeros((count, arch.score_slots, arch.rows), exact))

    def finish(self):
        """End a program: let the next batch begin where the last image ended."""
        for array in (*self.state.arrays().values(), self.scores, self.minimum):
            array[0] = array[-1]

    def columns(self, fields, planes):
        """Operand B from BMEM or KMEM, bits summed over planes: float32 (images, columns, K)."""
        tiles, k_words = fields["n_tiles"], fields["k_words"]
        memory = getattr(self.state, B_MEMORIES[fields["b_src"]])
        words = read_words(memory, fields["b_addr"], tiles * planes * k_words)
        return bits_of_columns(words, tiles, planes, k_words)

    def rows(self, fields, planes):
        """Operand A, bits summed over planes: float32 (images, rows, K)."""
        arch, k_words = self.arch, fields["k_words"]
        memory = getattr(self.state, A_MEMORIES[fields["a_src"]])
        words = read_words(memory, fields["a_addr"], planes * k_words)
        if planes > 1:
            words = weighted_planes(words.reshape(-1, planes, k_words, arch.rows, arch.lanes))
        rows = np.empty((len(words), arch.rows, k_words, arch.lanes), np.float32)
        rows[...] = words.transpose(0, 2, 1, 3)
        return rows.reshape(len(words), arch.rows, k_words * arch.lanes)
