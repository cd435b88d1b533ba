"""Rows as nested loops: what ROWS_ADD and MOVE can walk through.

A *pair* (s, g) says that source row g (rows of all blocks counted through) goes to sum row, or
destination row, s. Loops have steps along both that are not negative.
"""

import dataclasses

from bivit.hw.isa import FORMATS, LEVELS, Opcode

__all__ = ["Nest", "find_nests", "starts_cleanly"]

_COUNT = 1 << FORMATS[Opcode.ROWS_ADD]["count_0"]
_SUMS = 1 << FORMATS[Opcode.ROWS_ADD]["sums_0"]


@dataclasses.dataclass(frozen=True)
class Nest:
    """Loops from a first pair on.

    Parameters
    ----------
    sum, row : int
        The first pair.
    loops : tuple of (count, step of the sum row, step of the source row)
        The innermost one first.
    """

    sum: int
    row: int
    loops: tuple[tuple[int, int, int], ...] = ()

    def fields(self, rows: int, *, sums: bool) -> dict[str, int]:
        """Fields of the loops, for blocks of `rows`; without the starting place."""
        found = {}
        for level in range(LEVELS):
            count, sum_step, row_step = (self.loops[level] if level < len(self.loops)
                                         else (1, 0, 0))
            found |= {f"count_{level}": count, f"blocks_{level}": row_step // rows,
                      f"rows_{level}": row_step % rows}
            if sums:
                found[f"sums_{level}"] = sum_step
        return found

    def events(self):
        """Sum rows in time order, and whether every loop that stays on a sum row is at 0."""
        found = [(self.sum, True)]
        for count, step, _ in self.loops:
            found = [(start + i * step, first and (step > 0 or i == 0))
                     for i in range(count) for start, first in found]
        return found


def find_nests(pairs, limit: int = _SUMS) -> list[Nest]:
    """Loops that visit `pairs` in their order; `limit` bounds the steps along sum rows."""
    return min((_found(pairs, limit, alike) for alike in (False, True)), key=len)


def _found(pairs, limit, alike):
    """The nests; if `alike`, no loop is longer than the one before it that has the same steps."""
    nests = [Nest(*pair) for pair in pairs]
    for _ in range(LEVELS):
        merged, index = [], 0
        while index < len(nests):
            count, step = _run(nests, index, limit)
            before = merged[-1].loops[-1] if alike and merged else (1, 0, 0)
            if before[0] > 1 and before[1:] == step:
                count = min(count, before[0])
            nest = nests[index]
            loops = nest.loops + ((count, *step),) if count > 1 else nest.loops + ((1, 0, 0),)
            merged.append(dataclasses.replace(nest, loops=loops))
            index += count
        if len(merged) == len(nests):
            break
        nests = merged
    return nests


def _run(nests, index, limit):
    """Length and step of the longest run of nests from one on."""
    first, step, count = nests[index], (0, 0), 1
    while index + count < len(nests) and count + 1 < _COUNT:
        before, nest = nests[index + count - 1], nests[index + count]
        found = nest.sum - before.sum, nest.row - before.row
        if nest.loops != first.loops or min(found) < 0 or found[0] >= limit or (
                count > 1 and found != step):
            break
        step, count = found, count + 1
    return count, step


def starts_cleanly(nests) -> bool:
    """Whether `first` on every nest starts each sum exactly once, at its first term."""
    seen = set()
    for nest in nests:
        for row, starts in nest.events():
            if starts == (row in seen):
                return False
            seen.add(row)
    return True
