"""Which layer holds which words of which memory, and from when to when.

A word belongs to the layer that wrote it last, from the pop of the writing instruction to the end
of the last one that reads it (or writes it once more for the same layer). Words of constants belong
to the first layer that reads them.
"""

import dataclasses

import numpy as np

from bivit.compiler.accesses import CONSTANTS, EXTERNAL, accesses
from bivit.hw.memories import memories
from bivit.sim.frame import Frame

__all__ = ["MemoryUse", "memory_map"]


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Use of one memory over a frame.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words.
    words : int
        Words that are read or written at all.
    peak : int
        Most words that are needed at the same time; constants and the program always are.
    constant : bool
        Not written by any instruction.
    word, layer, first, last : numpy.ndarray of int
        One entry for each time that a layer holds a word: from cycle `first` to cycle `last`.
    """

    width: int
    depth: int
    words: int
    peak: int
    constant: bool
    word: np.ndarray
    layer: np.ndarray
    first: np.ndarray
    last: np.ndarray


def memory_map(frame: Frame, program_words: int) -> dict[str, MemoryUse]:
    """Use of every memory; `program_words` is the length of the program, HALT included."""
    sizes = memories(frame.arch)
    owners = {name: _Owners() for name in sizes}
    for step in frame.steps:
        touched = accesses(frame.arch, step.opcode, step.fields)
        reads = [(memory, words) for memory, words in touched.reads if memory != EXTERNAL]
        writes = [(memory, words) for memory, words in touched.writes if memory != EXTERNAL]
        for memory, words in (*reads, *touched.updates):
            owners[memory].read(words, step.layer, step.pop, step.end)
        for memory, words in (*writes, *touched.updates):
            owners[memory].write(words, step.layer, step.pop, step.done)
    found = {}
    for name, size in sizes.items():
        word, layer, first, last = owners[name].all()
        constant, words = name in CONSTANTS, len(np.unique(word))
        if name == "program":
            constant, words = True, program_words
        peak = words if constant else _peak(first, last)
        found[name] = MemoryUse(size.width, size.depth, words, peak, constant, word, layer, first,
                                last)
    return found


class _Owners:
    """Who holds each word of a memory now, and who held it before."""

    def __init__(self):
        self._before = []
        self._size = 0
        self._reserve(1)

    def _reserve(self, size):
        """Make room for so many words, memories of which only the beginning is used being large."""
        if size > self._size:
            more = max(size, 2 * self._size) - self._size
            new = [np.full(more, -1), np.zeros(more, int), np.zeros(more, int)]
            if self._size:
                new = [np.concatenate(pair) for pair in zip(
                    (self._layer, self._first, self._last), new, strict=True)]
            self._layer, self._first, self._last = new
            self._size += more
            self._numbers = np.arange(self._size)

    def read(self, words, layer, begin, end):
        words = self._index(words)
        unwritten = self._layer[words] < 0
        if unwritten.any():
            self._take(self._numbers[words][unwritten], layer, begin)
        self._last[words] = np.maximum(self._last[words], end)

    def write(self, words, layer, begin, end):
        words = self._index(words)
        others = self._layer[words] != layer
        if others.any():
            self._release(self._numbers[words][others], begin - 1)
            self._take(self._numbers[words][others], layer, begin)
        self._last[words] = np.maximum(self._last[words], end)

    def _index(self, words):
        self._reserve(words[-1] + 1)
        if isinstance(words, range):
            return slice(words.start, words.stop, words.step)
        return np.asarray(words)

    def _take(self, words, layer, begin):
        self._layer[words], self._first[words], self._last[words] = layer, begin, begin

    def _release(self, words, end):
        held = words[self._layer[words] >= 0]
        if len(held):
            self._before.append((held, self._layer[held], self._first[held],
                                 np.minimum(self._last[held], end)))

    def all(self):
        """Word, layer, first and last cycle of everything that was held."""
        self._release(self._numbers, np.iinfo(int).max)
        parts = zip(*self._before, strict=True) if self._before else [[np.zeros(0, int)]] * 4
        return tuple(np.concatenate(part) for part in parts)


def _peak(first, last):
    """Most intervals that have a cycle in common."""
    if not len(first):
        return 0
    change = np.bincount(first, minlength=last.max() + 2)
    change -= np.bincount(last + 1, minlength=len(change))[:len(change)]
    return int(change.cumsum().max())
