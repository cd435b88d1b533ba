"""A list scheduler in machine code (see :mod:`bivit.compiler.kernels`)."""

import numba
import numpy as np

__all__ = ["list_order", "urgency_of"]

_AFTER_DONE = 1  # cycles from done to a pop that waited for it


@numba.njit(cache=True)
def urgency_of(kinds, first, needs, hazards):
    """Cycles from the start of each instruction to the end of the last that depends on it.

    Parameters
    ----------
    kinds : int array (instructions, 5)
        As in :class:`bivit.compiler.kernels.Loop`.
    first, needs, hazards : arrays
        As in :class:`bivit.compiler.depend.Needs`.
    """
    urgency = kinds[:, 2].copy()
    for index in range(len(kinds) - 1, -1, -1):
        for place in range(first[index], first[index + 1]):
            other = needs[place]
            way = kinds[other, 2] + _AFTER_DONE if hazards[place] else kinds[other, 1]
            urgency[other] = max(urgency[other], urgency[index] + way)
    return urgency


@numba.njit(cache=True)
def _users(first, needs):
    """Where the users of each instruction begin, and the end; places in `needs`; users."""
    count = len(first) - 1
    begin = np.zeros(count + 1, np.int64)
    for place in range(first[count]):
        begin[needs[place] + 1] += 1
    begin = np.cumsum(begin)
    filled, places, users = begin.copy(), np.empty_like(needs), np.empty_like(needs)
    for index in range(count):
        for place in range(first[index], first[index + 1]):
            other = needs[place]
            places[filled[other]], users[filled[other]] = place, index
            filled[other] += 1
    return begin, places, users


@numba.njit(cache=True)
def _best(ready, count, ready_at, urgency, free, patience):
    """Start, number and place in `ready` of the instruction that a unit should take next: the most
    urgent of those that may start soon enough, the first of equals."""
    soonest = ready_at[ready[0]]
    for place in range(1, count):
        soonest = min(soonest, ready_at[ready[place]])
    limit, best, found = max(free, soonest) + patience, -1, -1
    for place in range(count):
        index = ready[place]
        if ready_at[index] <= limit and (
                best < 0 or urgency[index] > urgency[best]
                or urgency[index] == urgency[best] and index < best):
            best, found = index, place
    return max(free, ready_at[best]), best, found


@numba.njit(cache=True)
def list_order(kinds, counts, first, needs, hazards, urgency, patience, units):
    """One run of the list scheduler.

    Parameters
    ----------
    kinds, first, needs, hazards, urgency
        As for and from :func:`urgency_of`.
    counts : bool array
        Whether the end of each instruction counts.
    patience : int
        Cycles that the most urgent instruction may start later than the soonest one.
    units : int
        How many there are.

    Returns
    -------
    tuple
        Estimated cycles; start of each instruction; the instructions as they were taken.
    """
    total = len(kinds)
    begin, places, users = _users(first, needs)
    missing = first[1:] - first[:-1]
    ready, present = np.empty((units, total), np.int64), np.zeros(units, np.int64)
    free, ready_at = np.zeros(units, np.int64), np.zeros(total, np.int64)
    best, stale = np.zeros((units, 3), np.int64), np.ones(units, np.bool_)
    starts, taken = np.zeros(total, np.int64), np.empty(total, np.int64)
    end, drain = 0, 0
    for index in range(total):
        if not missing[index]:
            unit = kinds[index, 0]
            ready[unit, present[unit]] = index
            present[unit] += 1
    for step in range(total):
        chosen = -1
        for unit in range(units):
            if not present[unit]:
                continue
            if stale[unit]:
                best[unit] = _best(ready[unit], present[unit], ready_at, urgency, free[unit],
                                   patience)
                stale[unit] = False
            if chosen < 0 or best[unit, 0] < best[chosen, 0] or (
                    best[unit, 0] == best[chosen, 0] and best[unit, 1] < best[chosen, 1]):
                chosen = unit
        start, index, place = best[chosen]
        present[chosen] -= 1
        ready[chosen, place] = ready[chosen, present[chosen]]
        stale[chosen] = True
        occupancy, done = kinds[index, 1], kinds[index, 2]
        if kinds[index, 3]:  # the drain of the product before
            more = max(drain - (start - free[chosen]) - kinds[index, 4], 0)
            occupancy, done, drain = occupancy + more, done + more, kinds[index, 3]
        free[chosen] = start + occupancy
        if counts[index]:
            end = max(end, start + done)
        starts[index], taken[step] = start, index
        for row in range(begin[index], begin[index + 1]):
            user = users[row]
            soonest = start + done + _AFTER_DONE if hazards[places[row]] else start
            ready_at[user] = max(ready_at[user], soonest)
            missing[user] -= 1
            if not missing[user]:
                unit = kinds[user, 0]
                ready[unit, present[unit]] = user
                present[unit] += 1
                stale[unit] = True
    return end, starts, taken
