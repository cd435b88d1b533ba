"""What instructions depend on, in machine code (see :mod:`bivit.compiler.kernels`)."""

import numba
import numpy as np

__all__ = ["NOWHERE", "depend", "furthest", "turns_of_words"]

NOWHERE = -1 << 40
"""Stands for an iteration of what is not needed."""


@numba.njit(cache=True)
def depend(units, words, first, writes, low, high, ordered):
    """Those before each instruction that it depends on.

    Parameters
    ----------
    units : int array
        The unit of each instruction.
    words : int
        How many there are; their numbers are below.
    first : int array
        Where the ranges of words that each instruction touches begin, and the end; what it reads
        comes first.
    writes : bool array
        Whether the words of a range are written.
    low, high : int arrays
        Number of the first word of each range, and of the one behind its last.
    ordered : int
        The unit whose instructions each depend on the one before.

    Returns
    -------
    tuple of arrays
        Where the dependencies of each instruction begin, and the end; instructions; whether they
        must be done, or only come before.
    """
    count, reads, most = len(units), 0, len(units)
    for row in range(len(low)):
        most += high[row] - low[row]
        if not writes[row]:
            reads += high[row] - low[row]
    most += reads  # each read is found at most once by who writes the word
    begin, found = np.empty(count + 1, np.int64), np.empty(most, np.int64)
    hazards, end = np.empty(most, np.bool_), 0
    writer, latest = np.full(words, -1), np.full(words, -1)  # `latest` reader of each word,
    before, seen = np.full(reads, -1), np.full(count, -1)  # and the one `before` it
    reader, place, last_ordered = np.empty(reads, np.int64), 0, -1
    for index in range(count):
        begin[index], seen[index] = end, index
        for row in range(first[index], first[index + 1]):
            for word in range(low[row], high[row]):
                other = writer[word]
                if not writes[row]:
                    if other >= 0 and seen[other] != index:
                        found[end], hazards[end], seen[other] = other, True, index
                        end += 1
                    reader[place], before[place], latest[word] = index, latest[word], place
                    place += 1
                    continue
                if other >= 0 and seen[other] != index:
                    found[end], hazards[end] = other, units[other] != units[index]
                    seen[other], end = index, end + 1
                last = latest[word]
                while last >= 0:
                    other, last = reader[last], before[last]
                    if seen[other] != index:
                        found[end], hazards[end] = other, units[other] != units[index]
                        seen[other], end = index, end + 1
                writer[word], latest[word] = index, -1
        if units[index] == ordered:
            if last_ordered >= 0 and seen[last_ordered] != index:
                found[end], hazards[end], end = last_ordered, False, end + 1
            last_ordered = index
    begin[count] = end
    return begin, found[:end].copy(), hazards[:end].copy()


@numba.njit(cache=True)
def furthest(indices, begin, first, found, streams, iterations, count):
    """The furthest iteration of each of `count` streams that a stream needs, counted from its own.

    Parameters
    ----------
    indices : int array
        Instructions of the stream, from its iteration `begin` on.
    first, found : int arrays
        As :func:`depend` gives them.
    streams, iterations : int arrays
        The stream of each instruction, or -1, and its iteration.
    """
    lags = np.full(count, NOWHERE)
    for place in range(len(indices)):
        for edge in range(first[indices[place]], first[indices[place] + 1]):
            other = found[edge]
            if streams[other] >= 0:
                lag = iterations[other] - begin - place
                lags[streams[other]] = max(lags[streams[other]], lag)
    return lags


@numba.njit(cache=True)
def turns_of_words(low, high, turns, words):
    """By word the first and the last iteration that touches it; those of an untouched one let any
    other follow, and follow any.

    Parameters
    ----------
    low, high, turns : int arrays
        First word of each range that is touched, the one behind its last, and the iteration.
    words : int
        How many there are.
    """
    first, last = np.full(words, -NOWHERE), np.full(words, NOWHERE)
    for row in range(len(low)):
        for word in range(low[row], min(high[row], words)):
            first[word] = min(first[word], turns[row])
            last[word] = max(last[word], turns[row])
    return first, last
