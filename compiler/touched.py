"""The words that the instructions of a plan touch, as arrays."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bivit.compiler.accesses import CONSTANTS, EXTERNAL, accesses
from bivit.compiler.structures import Instruction
from bivit.hw.arch import Arch

__all__ = ["Touched", "touched_words"]

_MEMORY = 1 << 40
"""More words than any memory has."""


class Touched(NamedTuple):
    """Ranges of words, those of each instruction behind each other, reads first.

    Constants are left out if no instruction writes any, and external memory then.

    Parameters
    ----------
    first : int array
        Where the ranges of each instruction begin, and the end.
    writes : bool array
        Whether the words are written.
    memories : int array
        Number of the memory of each range; sums that are not shared are memories of their own.
    low, high : int array
        First word of each range, and the one behind its last.
    names : tuple of str
        The memories by their numbers.
    """

    first: np.ndarray
    writes: np.ndarray
    memories: np.ndarray
    low: np.ndarray
    high: np.ndarray
    names: tuple[str, ...]

    def numbered(self) -> tuple[np.ndarray, np.ndarray, int]:
        """The ranges in numbers of words, and how many there are.

        Words that are always touched together have one number.
        """
        low, high = (self.memories * _MEMORY + words for words in (self.low, self.high))
        edges = np.unique(np.concatenate([low, high]))
        return np.searchsorted(edges, low), np.searchsorted(edges, high), len(edges)

    def moved(self, before: Mapping[str, tuple[str, int, int]],
              where: Mapping[str, tuple[str, int, int]]) -> "Touched":
        """The same where regions and segments lie elsewhere.

        Parameters
        ----------
        before, where : mapping
            Memory, first word and number of words by name; each has words of its own `before`.
        """
        offsets = np.zeros_like(self.low)
        for number, memory in enumerate(self.names):
            own = sorted((start, name) for name, (place, start, _) in before.items()
                         if place == memory)
            if own:
                chosen = np.flatnonzero(self.memories == number)
                starts = np.array([start for start, _ in own])
                moves = np.array([where[name][1] - start if name in where else 0
                                  for start, name in own])
                offsets[chosen] = moves[np.searchsorted(starts, self.low[chosen], "right") - 1]
        return self._replace(low=self.low + offsets, high=self.high + offsets)


def touched_words(instructions: Sequence[Instruction], arch: Arch, *,
                  share_sums: bool = True) -> Touched:
    """What instructions touch; without `share_sums` each operation has sums of its own."""
    found = [accesses(arch, instruction.opcode, instruction.fields)
             for instruction in instructions]
    written = {memory for access in found for memory, _ in access.writes}
    constant = {*CONSTANTS, EXTERNAL}
    left_out = () if written & constant else constant
    numbers, first, rows = {}, [0], []
    for access, instruction in zip(found, instructions, strict=True):
        for writes, touched in enumerate((access.reads, access.writes, access.updates)):
            for memory, words in touched:
                if memory in left_out:
                    continue
                own = instruction.operation if memory == "sums" and not share_sums else None
                number = numbers.get((memory, own))
                if number is None:
                    number = numbers[memory, own] = len(numbers)
                if words.__class__ is range and words.step == 1:
                    if words:
                        rows.append((writes, number, words.start, words.stop))
                else:
                    rows += [(writes, number, low, high) for low, high in _runs(words)]
        first.append(len(rows))
    table = np.array(rows, np.int64).reshape(-1, 4).T
    return Touched(np.array(first), table[0].astype(bool), *table[1:].copy(),
                   tuple(memory for memory, _ in numbers))


def _runs(words):
    """First word, and the one behind the last, of words that follow each other."""
    if not words:
        return ()
    if words[-1] - words[0] + 1 == len(words):
        return ((words[0], words[-1] + 1),)
    runs = []
    for word in words:
        if runs and runs[-1][1] == word:
            runs[-1][1] = word + 1
        else:
            runs.append([word, word + 1])
    return runs
