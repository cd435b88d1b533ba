"""What is done millions of times, in machine code: when instructions run, what they depend on.

Numba compiles these functions once and keeps them in its cache, which knows this file alone: so
they use nothing of other files, and what the machine is made of are arguments.
"""

from typing import NamedTuple

import numba
import numpy as np

__all__ = ["NEVER", "Loop", "depend", "follow", "loop_time", "stages_of"]

NEVER = 1 << 60
"""The time of what cannot be."""


class Loop(NamedTuple):
    """A loop, run `calls` times for `count` iterations, as arrays; streams by their numbers.

    Parameters
    ----------
    ranges : int array (streams, 2)
        First iteration of each stream, and the one behind its last.
    kinds : int array (streams, 5)
        Unit, occupancy, completion, and of products D_pass and words of K.
    edges : int array (n, 4)
        Producer, consumer, the furthest iteration that this needs of that, counted from its own,
        and whether they belong to different groups.
    first : int array
        Where the needs of each instruction (call, stream, iteration) begin, and the end.
    needs : int array (n, 3)
        Call, stream and iteration of what must be done.
    """

    calls: int
    count: int
    ranges: np.ndarray
    kinds: np.ndarray
    edges: np.ndarray
    first: np.ndarray
    needs: np.ndarray


class _State(NamedTuple):
    """Of the units, an entry or a row for each; `common` is the cycle of the last dispatch, and the
    D_pass of the last product."""

    common: np.ndarray
    popped: np.ndarray
    free: np.ndarray
    sent: np.ndarray
    moved: np.ndarray
    done: np.ndarray


@numba.njit(cache=True)
def _begin(units, most):
    """Nothing was sent; `most` instructions will be."""
    return _State(np.zeros(2, np.int64), np.zeros(units, np.int64), np.zeros(units, np.int64),
                  np.zeros(units, np.int64), np.zeros((units, most), np.int64),
                  np.zeros((units, most), np.int64))


@numba.njit(cache=True)
def _send(depth, state, kind, waits):
    """An instruction, and by unit the distance of what it waits for, or 0."""
    unit, occupancy, completion, drain = kind[0], kind[1], kind[2], kind[3]
    number = state.sent[unit]
    time, needed = state.common[0] + 1, 0
    for other in range(len(waits)):
        if 0 < waits[other] <= state.sent[other]:
            needed = max(needed, state.done[other, state.sent[other] - waits[other]] + 1)
    if number >= depth:
        time = max(time, state.moved[unit, number - depth] + 1)
    head = max(time + 1, state.popped[unit])
    start = max(head + 1, state.free[unit], needed)
    if drain:
        more = max(state.common[1] - (start - state.free[unit]) - kind[4], 0)
        occupancy, completion = occupancy + more, completion + more
        state.common[1] = drain
    state.common[0] = time
    state.popped[unit], state.free[unit] = start, start + occupancy
    state.moved[unit, number], state.done[unit, number] = head, start + completion
    state.sent[unit] = number + 1


@numba.njit(cache=True)
def _finished(state):
    """When everything is done."""
    end = 0
    for unit in range(len(state.sent)):
        if state.sent[unit]:
            end = max(end, state.done[unit, state.sent[unit] - 1])
    return end


@numba.njit(cache=True)
def follow(depth, kinds, waits, cycles, lines, sends):
    """Cycles until all that a program sends is done.

    Parameters
    ----------
    depth : int
        Of the queues.
    kinds, waits : int arrays (lines, 5) and (lines, units)
        What is sent, as in :class:`Loop`, and by unit the distance of what it waits for, or 0.
    cycles : int array
        What a line takes of the sequencer where it sends nothing.
    lines, sends : arrays
        The lines in the order of execution, and whether each is sent.
    """
    state = _begin(waits.shape[1], len(lines))
    for step in range(len(lines)):
        if sends[step]:
            _send(depth, state, kinds[lines[step]], waits[lines[step]])
        else:
            state.common[0] += cycles[lines[step]]
    return _finished(state)


@numba.njit(cache=True)
def stages_of(body, late, edges, largest):
    """The least stage of every stream with which it finds what it needs; empty if there is none.

    Arguments are those of :func:`loop_time`.
    """
    place, stages = np.empty_like(body), np.zeros_like(body)
    for position in range(len(body)):
        place[body[position]] = position
    for _ in range(len(body) + 1):
        changed = False
        for edge in range(len(edges)):
            producer, consumer, lag, apart = edges[edge]
            least = stages[producer] + lag
            if place[producer] > place[consumer]:
                least += 1
            if late[consumer] and apart:
                least += 1
            if least > stages[consumer]:
                stages[consumer], changed = least, True
        if not changed:
            return stages
        if stages.max() > largest:
            break
    return stages[:0]


@numba.njit(cache=True)
def _distances(body, stages, loop, units):
    """By unit the nearest distance at which each stream needs it, or 0."""
    streams, count = len(body), loop.count
    sent, found = np.zeros(units, np.int64), np.zeros((streams, units), np.int64)
    numbers = np.zeros((loop.calls, streams, count), np.int64)
    for call in range(loop.calls):
        for turn in range((stages + loop.ranges[:, 1]).max()):
            for stream in body:
                iteration = turn - stages[stream]
                if iteration < loop.ranges[stream, 0] or iteration >= loop.ranges[stream, 1]:
                    continue
                place = (call * streams + stream) * count + iteration
                for need in range(loop.first[place], loop.first[place + 1]):
                    before, producer, at = loop.needs[need]
                    unit = loop.kinds[producer, 0]
                    distance = sent[unit] - numbers[before, producer, at]
                    if distance < found[stream, unit] or not found[stream, unit]:
                        found[stream, unit] = distance
                unit = loop.kinds[stream, 0]
                numbers[call, stream, iteration] = sent[unit]
                sent[unit] += 1
    return found


@numba.njit(cache=True)
def loop_time(body, late, loop, real, work, limit, depth, units, turn_cycles, largest):
    """Cycles until all calls of a loop are done, and the stages; none: there are none.

    Parameters
    ----------
    body : int array
        Streams in their order.
    late : bool array
        Streams that keep their distance.
    loop : Loop
        Fewer iterations than the `real` ones, if these are many.
    work : int
        Cycles of an iteration in the busiest unit.
    limit : int
        No more than this matters: NEVER stands for more.
    depth, units : int
        Depth of the queues, number of units.
    turn_cycles : int
        What the sequencer takes at the end of a body.
    largest : int
        The largest stage that there can be.
    """
    stages = stages_of(body, late, loop.edges, largest)
    if not len(stages):
        return NEVER, stages
    count, distances = (stages + loop.ranges[:, 1]).max(), _distances(body, stages, loop, units)
    state, turns = _begin(units, loop.calls * loop.count * len(body)), 0
    marks = np.empty(loop.calls * count, np.int64)
    for _ in range(loop.calls):
        state.common[0] += 1
        for turn in range(count):
            for stream in body:
                iteration = turn - stages[stream]
                if loop.ranges[stream, 0] <= iteration < loop.ranges[stream, 1]:
                    _send(depth, state, loop.kinds[stream], distances[stream])
                else:
                    state.common[0] += 1
            state.common[0] += turn_cycles
            marks[turns] = state.common[0]
            turns += 1
            left = loop.calls * loop.count - turns - (count - loop.count)
            if state.common[0] + left * work > limit:
                return NEVER, stages
    middle = count // 2
    rest = (real - loop.count) * loop.calls
    return _finished(state) + rest * (marks[middle] - marks[middle - 2]) // 2, stages


@numba.njit(cache=True)
def depend(units, words, read_first, read, written_first, written):
    """Those before each instruction that it depends on.

    Parameters
    ----------
    units : int array
        The unit of each instruction.
    words : int
        How many there are; their numbers are below.
    read_first, written_first : int arrays
        Where the words that each instruction reads (and writes) begin, and the end.
    read, written : int arrays
        Numbers of words.

    Returns
    -------
    tuple of arrays
        Where the dependencies of each instruction begin, and the end; instructions; whether they
        must be done, or only come before.
    """
    count = len(units)
    most = 2 * len(read) + len(written)
    first, found = np.empty(count + 1, np.int64), np.empty(most, np.int64)
    hazards, end = np.empty(most, np.bool_), 0
    writer, latest = np.full(words, -1), np.full(words, -1)  # `latest` reader of each word,
    before, seen = np.full(len(read), -1), np.full(count, -1)  # and the one `before` it
    reader = np.empty(len(read), np.int64)
    for index in range(count):
        first[index], seen[index] = end, index
        for place in range(read_first[index], read_first[index + 1]):
            word = read[place]
            other = writer[word]
            if other >= 0 and seen[other] != index:
                found[end], hazards[end], seen[other], end = other, True, index, end + 1
            reader[place], before[place], latest[word] = index, latest[word], place
        for place in range(written_first[index], written_first[index + 1]):
            word = written[place]
            other, last = writer[word], latest[word]
            if other >= 0 and seen[other] != index:
                found[end], hazards[end] = other, units[other] != units[index]
                seen[other], end = index, end + 1
            while last >= 0:
                other, last = reader[last], before[last]
                if seen[other] != index:
                    found[end], hazards[end] = other, units[other] != units[index]
                    seen[other], end = index, end + 1
            writer[word], latest[word] = index, -1
    first[count] = end
    return first, found[:end], hazards[:end]
