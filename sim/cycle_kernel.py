"""The cycle model of one frame in machine code, for units whose timing has no state of its own."""

import numba
import numpy as np

__all__ = ["follow_exactly"]


@numba.njit(cache=True)
def follow_exactly(queue, begin, rest, settling, kinds, sums, delays, lines, waits):
    """Pop and done of each instruction before HALT, the cycle in which HALT sees that all
    is done, occupied cycles of each unit.

    Parameters
    ----------
    queue : tuple of int
        Depth of the queues; cycles from a dispatch until an instruction heads its queue, from
        that until another may be dispatched in its place, and from the end of an instruction to
        a pop that waited for it.
    begin : int
        The cycle in which the first instruction is decoded.
    rest : int
        Cycles from the last end until HALT sees it.
    settling : tuple of int
        The unit that has sums; cycles from them to an instruction of another kind.
    kinds : int array (instructions, 5)
        As :func:`bivit.compiler.timeline.kind_of` gives them, in the order of dispatch.
    sums : bool array
        Whether an instruction adds to sums.
    delays : int array
        What the sequencer spends before each instruction, HALT last.
    lines : int array
        The line of each instruction.
    waits : int array (lines, units)
        Distance of what is waited for, or 0.
    """
    count, units, (depth, ahead, room, wait) = len(kinds), waits.shape[1], queue
    popped, done = np.empty(count, np.int64), np.empty(count, np.int64)
    most, sent = np.zeros(units, np.int64), np.zeros(units, np.int64)
    for index in range(count):
        most[kinds[index, 0]] += 1
    places = np.empty((units, most.max() if count else 0), np.int64)
    moved = np.empty(count, np.int64)
    latest, free = np.zeros(units, np.int64), np.zeros(units, np.int64)
    busy = np.zeros(units, np.int64)
    decode, add, time, drain, adding = begin - 1, 0, 0, 0, False
    for index in range(count + 1):
        decode = max(decode + 1 + delays[index], add)
        add = max(decode + 1, time)
        time = max(add, time) + 1
        if index == count:
            break
        unit, line, needed = kinds[index, 0], lines[index], 0
        for other in range(units):
            distance = waits[line, other]
            if 0 < distance <= sent[other]:
                needed = max(needed, done[places[other, sent[other] - distance]] + wait)
        number = sent[unit]
        if number >= depth:
            time = max(time, moved[places[unit, number - depth]] + room)
        moved[index] = max(time + ahead, latest[unit])
        ready = max(moved[index] + 1, free[unit], needed)
        pop, occupancy, completion = ready, kinds[index, 1], kinds[index, 2]
        if kinds[index, 3]:  # a product: the drain of the one before
            more = max(max(drain - (pop - free[unit]), 0) - kinds[index, 4], 0)
            occupancy, completion, drain = occupancy + more, completion + more, kinds[index, 3]
        elif unit == settling[0]:
            if adding and not sums[index]:
                pop = max(ready, free[unit] + settling[1])
            adding = sums[index]
        busy[unit] += pop - ready + occupancy
        latest[unit], free[unit] = pop, pop + occupancy
        popped[index], done[index] = pop, pop + completion
        places[unit, number], sent[unit] = index, number + 1
    for unit in range(units):
        if sent[unit]:
            time = max(time, done[places[unit, sent[unit] - 1]] + rest)
    return popped, done, time, busy
