"""Words of memories as numbers: what the passes compare instead of addresses."""

import bisect
import collections
import functools
import itertools
from collections.abc import Iterable, Iterator

from bivit.compiler.accesses import CONSTANTS, EXTERNAL, Accesses

__all__ = ["WordKeys"]


class WordKeys:
    """Numbers from 0 on for the words of memories: two accesses share one where they share a word.

    Words that are always touched together have one number. Constants have none if no instruction
    writes any, nor has external memory then.

    Parameters
    ----------
    touched : iterable of Accesses
        Of the whole program.
    """

    def __init__(self, touched: Iterable[Accesses]):
        ranges, written = set(), set()
        for access in touched:
            written |= {memory for memory, _ in access.writes}
            for memory, words in (*access.reads, *access.writes, *access.updates):
                ranges.add((memory, words if isinstance(words, range) else tuple(words)))
        edges, fetched = collections.defaultdict(set), written & set(CONSTANTS)
        for memory, words in ranges:
            if memory in written or memory != EXTERNAL and (fetched or memory not in CONSTANTS):
                edges[memory].update(_edges(words))
        self._edges = {memory: sorted(found) for memory, found in edges.items()}
        self._first, self._found = {}, {}
        for memory, found in self._edges.items():
            self._first[memory] = self.count
            self.count += len(found)

    count = 0
    """Numbers that there are."""

    def __call__(self, ranges) -> Iterator[int]:
        """The numbers of (memory, words) pairs."""
        return itertools.chain.from_iterable(itertools.starmap(self._numbers, ranges))

    def _numbers(self, memory, words):
        key = memory, words if isinstance(words, range) else tuple(words)
        found = self._found.get(key)
        if found is None:
            edges, first = self._edges.get(memory, ()), self._first.get(memory, 0)
            place = functools.partial(bisect.bisect_left, edges)
            if not edges or not words:
                found = ()
            elif _dense(words):
                found = range(first + place(words[0]), first + place(words[-1] + 1))
            else:
                found = [first + place(word) for word in words]
            self._found[key] = found
        return found

    def name(self, number: int) -> str:
        """Memory and word of a number, for people."""
        memory = self.memory(number)
        return f"{memory.upper()} word {self._edges[memory][number - self._first[memory]]}"

    def memory(self, number: int) -> str:
        """Memory of the word of a number."""
        return max((memory for memory, first in self._first.items() if first <= number),
                   key=self._first.get)


def _dense(words):
    """Whether there are words, which follow each other."""
    return len(words) > 0 and words[-1] - words[0] + 1 == len(words)


def _edges(words):
    """Where the words that are touched together begin, and end."""
    if _dense(words):
        return words[0], words[-1] + 1
    return (*words, *(word + 1 for word in words))
