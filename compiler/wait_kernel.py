"""The wait distances of a program, in machine code (see :mod:`bivit.compiler.kernels`)."""

import numba
import numpy as np

__all__ = ["nearest_waits"]


@numba.njit(cache=True)
def _know(known, own, last, before):
    """Let an instruction know what the one before it in its unit knew."""
    for other in range(known.shape[1]):
        known[own, other] = known[last, other] if before else -1


@numba.njit(cache=True)
def _wait(known, own, places, unit, number):
    """Let an instruction know that number `number` of a unit is done, with all that it knew."""
    of = places[unit, number]
    for other in range(known.shape[1]):
        known[own, other] = max(known[own, other], known[of, other])
    known[own, unit] = max(known[own, unit], number)


@numba.njit(cache=True)
def _targets(units, indices, kinds, first, found, hazards):
    """Of each instruction that runs, the last of each unit that it needs, or -1."""
    executed = len(units)
    place, number = np.full(len(first) - 1, -1), np.zeros(executed, np.int64)
    sent, wanted = np.zeros(kinds, np.int64), np.full((executed, kinds), -1)
    for position in range(executed):
        index, unit = indices[position], units[position]
        if place[index] >= 0:
            raise AssertionError("an instruction runs twice")
        for edge in range(first[index], first[index + 1]):
            other = place[found[edge]]
            if other < 0:
                raise AssertionError("an instruction runs before one that it needs")
            if hazards[edge]:
                wanted[position, units[other]] = max(wanted[position, units[other]],
                                                     number[other])
        place[index], number[position] = position, sent[unit]
        sent[unit] += 1
    return wanted, sent


@numba.njit(cache=True)
def nearest_waits(lines, units, indices, in_loop, kinds, longest, first, found, hazards):
    """By line and unit the distance of what is waited for, or 0.

    Parameters
    ----------
    lines, units, indices : int arrays
        Line, unit and number in canonical order of each instruction that is sent, in their order.
    in_loop : array of bool
        By line, whether it lies in a loop.
    kinds : int
        How many units there are.
    longest : int
        The longest distance.
    first, found, hazards : arrays
        As :class:`bivit.compiler.depend.Needs` has them.
    """
    executed = len(lines)
    wanted, total = _targets(units, indices, kinds, first, found, hazards)
    count = len(in_loop)
    runs, nearest = np.zeros(count, np.int64), np.zeros((count, kinds), np.int64)
    for position in range(executed):
        runs[lines[position]] += 1
    most = 1
    for unit in range(kinds):
        most = max(most, total[unit])
    places, known = np.zeros((kinds, most), np.int64), np.empty((executed, kinds), np.int64)
    for once in (True, False):  # first what lines outside of loops alone wait for
        sent = np.zeros(kinds, np.int64)
        for position in range(executed):
            line, unit = lines[position], units[position]
            _know(known, position, places[unit, sent[unit] - 1], sent[unit] > 0)
            if once and runs[line] > 1:
                for other in range(kinds):
                    if known[position, other] < wanted[position, other]:
                        distance = min(sent[other] - wanted[position, other], longest)
                        if not nearest[line, other] or distance < nearest[line, other]:
                            nearest[line, other] = distance
                        if not in_loop[line]:
                            _wait(known, position, places, other, sent[other] - distance)
            elif once:
                for other in range(kinds):
                    if wanted[position, other] >= 0:
                        distance = min(sent[other] - wanted[position, other], longest)
                        _wait(known, position, places, other, sent[other] - distance)
            elif runs[line] == 1:
                _shortest(known, position, sent, places, wanted[position], nearest[line], longest)
            else:
                _apply(known, position, sent, places, nearest[line])
            places[unit, sent[unit]] = position
            sent[unit] += 1
            if not once:
                for other in range(kinds):
                    if known[position, other] < wanted[position, other]:
                        raise AssertionError("a wait is too short")
    return nearest


@numba.njit(cache=True)
def _apply(known, own, sent, places, distances):
    """Waits that are given; one for more than was sent is for nothing."""
    for unit in range(len(distances)):
        if 0 < distances[unit] <= sent[unit]:
            _wait(known, own, places, unit, sent[unit] - distances[unit])


@numba.njit(cache=True)
def _shortest(known, own, sent, places, wanted, distances, longest):
    """Waits for what is not known to be done.

    A target that another wait implies is left out: the furthest reaching ones are taken first.
    """
    kinds = len(wanted)
    taken = np.zeros(kinds, np.bool_)
    for _ in range(kinds):
        best = -1
        for unit in range(kinds):
            if not taken[unit] and wanted[unit] >= 0 and (
                    best < 0 or places[unit, wanted[unit]] > places[best, wanted[best]]):
                best = unit
        if best < 0:
            return
        taken[best] = True
        if known[own, best] < wanted[best]:
            distances[best] = min(sent[best] - wanted[best], longest)
            _wait(known, own, places, best, sent[best] - distances[best])
