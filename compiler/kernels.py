"""What is done millions of times, in machine code: when instructions run, in which order.

Numba compiles these functions once and keeps them in its cache, which knows this file alone: so
they use nothing of other files, and what the machine is made of are arguments.
"""

from typing import NamedTuple

import numba
import numpy as np

__all__ = ["NEVER", "Loop", "follow", "loop_time", "next_better", "stages_of"]

NEVER = 1 << 60
"""The time of what cannot be."""


class Loop(NamedTuple):
    """A loop, run `calls` times for `count` iterations, as arrays; streams by their numbers.

    Parameters
    ----------
    units : int
        How many there are.
    ranges : int array (streams, 2)
        First iteration of each stream, and the one behind its last.
    kinds : int array (streams, 5)
        Unit, occupancy, completion, and of products D_pass and words of K.
    edges : int array (n, 4)
        Producer, consumer, the furthest iteration that this needs of that, counted from its own,
        and whether they belong to different groups.
    first : int array
        Where the needs of each instruction begin, and the end; its number is (call * streams +
        stream) * count + iteration.
    needs : int array (n, 2)
        Unit and number, as above, of what must be done.
    """

    calls: int
    count: int
    units: int
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
                  np.zeros(units, np.int64), np.empty((units, most), np.int64),
                  np.empty((units, most), np.int64))


@numba.njit(cache=True)
def _send(queue, state, kind, waits):
    """An instruction, and by unit the distance of what it waits for, or 0."""
    unit, occupancy, completion, drain = kind[0], kind[1], kind[2], kind[3]
    number, (depth, ahead, room, wait) = state.sent[unit], queue
    time, needed = state.common[0] + 1, 0
    for other in range(len(waits)):
        if 0 < waits[other] <= state.sent[other]:
            end = state.done[other, state.sent[other] - waits[other]]
            needed = max(needed, end + wait)
    if number >= depth:
        time = max(time, state.moved[unit, number - depth] + room)
    head = max(time + ahead, state.popped[unit])
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
def follow(queue, kinds, waits, cycles, lines, sends):
    """Cycles until all that a program sends is done.

    Parameters
    ----------
    queue : tuple of int
        Depth of the queues; cycles from a dispatch until an instruction heads its queue, from
        that until another may be dispatched in its place, and from the end of an instruction to
        a pop that waited for it.
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
            _send(queue, state, kinds[lines[step]], waits[lines[step]])
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
def _distances(body, stages, loop, units, turns):
    """By unit the nearest distance at which each stream needs it, or 0."""
    streams, count = len(body), loop.count
    sent, found = np.zeros(units, np.int64), np.zeros((streams, units), np.int64)
    numbers = np.zeros(loop.calls * streams * count, np.int64)
    for call in range(loop.calls):
        for turn in range(turns):
            for stream in body:
                iteration = turn - stages[stream]
                if iteration < loop.ranges[stream, 0] or iteration >= loop.ranges[stream, 1]:
                    continue
                place = (call * streams + stream) * count + iteration
                for need in range(loop.first[place], loop.first[place + 1]):
                    unit = loop.needs[need, 0]
                    distance = sent[unit] - numbers[loop.needs[need, 1]]
                    if distance < found[stream, unit] or not found[stream, unit]:
                        found[stream, unit] = distance
                unit = loop.kinds[stream, 0]
                numbers[place] = sent[unit]
                sent[unit] += 1
    return found


@numba.njit(cache=True)
def loop_time(body, late, loop, real, limit, queue, turn_cycles, largest):
    """Cycles until all calls of a loop are done, and the stages; none: there are none.

    Parameters
    ----------
    body : int array
        Streams in their order.
    late : bool array
        Streams that keep their distance.
    loop : Loop
        Fewer iterations than the `real` ones, if these are many.
    limit : int
        Only less than this matters: NEVER stands for more.
    queue : tuple of int
        Depth of the queues; cycles from a dispatch until an instruction heads its queue, from
        that until another may be dispatched in its place, and from the end of an instruction to
        a pop that waited for it.
    turn_cycles : int
        What the sequencer takes at the end of a body.
    largest : int
        The largest stage that there can be.
    """
    stages = stages_of(body, late, loop.edges, largest)
    if not len(stages):
        return NEVER, stages
    count, units = (stages + loop.ranges[:, 1]).max(), loop.units
    distances = _distances(body, stages, loop, units, count)
    state, turns = _begin(units, loop.calls * loop.count * len(body)), 0
    marks, middle, more = np.empty(loop.calls * count, np.int64), count // 2, 0
    left, early = np.zeros(units, np.int64), 0  # work of each unit; done before it is free again
    for stream in body:
        runs = loop.calls * (loop.ranges[stream, 1] - loop.ranges[stream, 0])
        left[loop.kinds[stream, 0]] += runs * loop.kinds[stream, 1]
        early = max(early, loop.kinds[stream, 1] - loop.kinds[stream, 2])
    for _ in range(loop.calls):
        state.common[0] += 1
        for turn in range(count):
            for stream in body:
                iteration = turn - stages[stream]
                if loop.ranges[stream, 0] <= iteration < loop.ranges[stream, 1]:
                    _send(queue, state, loop.kinds[stream], distances[stream])
                    left[loop.kinds[stream, 0]] -= loop.kinds[stream, 1]
                else:
                    state.common[0] += 1
            state.common[0] += turn_cycles
            marks[turns] = state.common[0]
            if turns == middle:
                rest = (real - loop.count) * loop.calls
                more = rest * (marks[middle] - marks[middle - 2]) // 2
            turns += 1
            for unit in range(units):
                if state.free[unit] + left[unit] - early + more >= limit:
                    return NEVER, stages
    return _finished(state) + more, stages


@numba.njit(cache=True)
def next_better(body, late, first, members, skip, limit, loop, real, queue, turn_cycles, largest):
    """The first order that takes less than `limit` in which one group of streams is later, or
    elsewhere, or both.

    Parameters
    ----------
    body, late : arrays
        The order to begin with, as for :func:`loop_time`, like what is not named here.
    first, members : int arrays
        Where the streams of each group begin, and the end; streams.
    skip : int
        Orders that need not be tried again.

    Returns
    -------
    tuple
        Orders that were tried or skipped; time, NEVER if there is none that is better; body, late
        streams and stages.
    """
    groups, tried = len(first) - 1, 0
    group_of = np.full(len(body), -1)
    for group in range(groups):
        group_of[members[first[group]:first[group + 1]]] = group
    for group in range(groups):
        tried += 1
        if tried > skip:
            other = late.copy()
            for stream in members[first[group]:first[group + 1]]:
                other[stream] = not late[stream]
            time, stages = loop_time(body, other, loop, real, limit, queue, turn_cycles,
                                     largest)
            if time < limit:
                return tried, time, body, other, stages
    trial = np.empty_like(body)
    for group in range(groups):
        own, rest = body[group_of[body] == group], body[group_of[body] != group]
        for toggled in (False, True):
            other = late.copy()
            for stream in own:
                other[stream] = late[stream] != toggled
            for position in range(len(rest) + 1):
                if 0 < position < len(rest):
                    beside = group_of[rest[position - 1]]
                    if beside >= 0 and beside == group_of[rest[position]]:
                        continue
                trial[:position] = rest[:position]
                trial[position:position + len(own)] = own
                trial[position + len(own):] = rest[position:]
                if not toggled and (trial == body).all():
                    continue
                tried += 1
                if tried <= skip:
                    continue
                time, stages = loop_time(trial, other, loop, real, limit, queue, turn_cycles,
                                         largest)
                if time < limit:
                    return tried, time, trial, other, stages
    return tried, NEVER, body, late, late[:0].astype(np.int64)
