"""The list scheduler in machine code does what its rules say, written down plainly."""

import random

import numpy as np
import pytest

from bivit.compiler.schedule_kernel import list_order, urgency_of
from bivit.hw.blocks.matmul import next_counter
from bivit.hw.isa import Unit


def drawn(seed):
    """Kinds of some instructions, which of them count, and what each needs: index to hazard."""
    rng, count = random.Random(seed), 60
    kinds = []
    for _ in range(count):
        unit, occupancy = rng.choice(list(Unit)), rng.randint(1, 12)
        drain, words = (rng.randint(1, 9), rng.randint(1, 4)) if unit is Unit.MM else (0, 0)
        kinds.append((unit, occupancy, occupancy + rng.randint(-3, 9), drain, words))
    needs = [{other: rng.random() < .6 for other in range(index) if rng.random() < .05}
             for index in range(count)]
    return kinds, [rng.random() < .9 for _ in range(count)], needs


def plain_urgency(kinds, needs):
    def way(index):
        return max([kinds[index][2], *(
            way(user) + (kinds[index][2] + 1 if need[index] else kinds[index][1])
            for user, need in enumerate(needs) if index in need)])
    return list(map(way, range(len(kinds))))


def plain_order(kinds, counts, needs, urgency, patience):
    free, drain, end = dict.fromkeys(Unit, 0), 0, 0
    starts, ready_at = {}, {index: 0 for index in range(len(kinds))}
    while len(starts) < len(kinds):
        found = []
        for unit in Unit:
            ready = [index for index, kind in enumerate(kinds) if kind[0] is unit
                     and index not in starts and needs[index].keys() <= starts.keys()]
            if ready:
                limit = max(free[unit], min(map(ready_at.get, ready))) + patience
                index = min((index for index in ready if ready_at[index] <= limit),
                            key=lambda index: (-urgency[index], index))
                found.append((max(free[unit], ready_at[index]), index))
        start, index = min(found)
        unit, occupancy, done, own_drain, words = kinds[index]
        if unit is Unit.MM:
            more = max(next_counter(drain, start - free[unit]), words) - words
            occupancy, done, drain = occupancy + more, done + more, own_drain
        starts[index], free[unit] = start, start + occupancy
        end = max(end, start + done) if counts[index] else end
        for user, need in enumerate(needs):
            if index in need:
                ready_at[user] = max(ready_at[user], start + (done + 1 if need[index] else 0))
    return end, starts


@pytest.mark.parametrize("seed", range(20))
def test_list_scheduler(seed):
    kinds, counts, needs = drawn(seed)
    first = np.cumsum([0, *map(len, needs)])
    flat = [(other, hazard) for need in needs for other, hazard in need.items()]
    found = np.array([other for other, _ in flat], np.int64)
    hazards = np.array([hazard for _, hazard in flat], bool)
    table = np.array(kinds, np.int64)
    urgency = urgency_of(table, first, found, hazards)
    assert urgency.tolist() == plain_urgency(kinds, needs)
    for patience in (0, 8, 32):
        end, starts, taken = list_order(table, np.array(counts), first, found, hazards, urgency,
                                        patience, len(Unit))
        expected_end, expected = plain_order(kinds, counts, needs, urgency, patience)
        assert (end, dict(enumerate(starts.tolist()))) == (expected_end, expected)
        assert taken.tolist() == list(expected)
