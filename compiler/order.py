"""Sixth pass: the order of the streams in a loop, and by how many iterations they are apart.

A stream in front of what it needs works one iteration behind it, and one that keeps its distance
one more. Orders are tried out, beginning with the canonical one: each group of streams, then each
stream, is moved or kept away where that lets the loop, run twice, end sooner in a model of the
units' time.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from bivit.compiler.kernels import NEVER, Loop, loop_time
from bivit.compiler.pipeline import lags_of
from bivit.compiler.registers import END_LINES, courses_of, ends_needed
from bivit.compiler.structures import LARGEST_TAIL, Instruction, Order, Pipeline
from bivit.compiler.timeline import kind_of
from bivit.hw.arch import Arch
from bivit.hw.isa import STEPS, Opcode, Unit

__all__ = ["find_order"]

_ENDS = 10
"""Iterations at either end of a long loop that are looked at."""
_GOOD_ENOUGH = 1.002
"""Time over that of the busiest unit for which no better order is looked for."""


@dataclasses.dataclass(frozen=True)
class _Trial:
    """An order of streams, and those that keep an iteration more between them and what they need.
    """

    body: tuple[int, ...]
    late: frozenset[int] = frozenset()


def find_order(arch: Arch, instructions: Sequence[Instruction], needs: Sequence[dict[int, bool]],
               calls: Sequence[Pipeline], effort: int) -> Order | None:
    """The best order that was found, or None if canonical order is too long for a loop.

    Parameters
    ----------
    needs : sequence of dict
        As :func:`bivit.compiler.depend.dependencies` gives them.
    calls : sequence of Pipeline
        The same loop as often as it runs.
    effort : int
        Instructions that all tries may have together.
    """
    groups = _groups(instructions, calls[0])
    model = _Model(arch, instructions, needs, calls, groups)
    trial = _Trial(tuple(range(len(calls[0].streams))))
    time, stages = model.time(trial)
    if not stages:
        return None
    best = time if model.ends(stages) <= END_LINES else NEVER
    left = effort // model.length if model.several_units else 0
    for units in (groups, [[stream] for stream in trial.body]):
        moved = True
        while moved and left > 0 and best > model.ideal:
            moved = False
            for other in _moves(trial, units):
                left -= 1
                time, found = model.time(other, best)
                if time < best and model.ends(found) <= END_LINES:
                    best, trial, stages, moved = time, other, found, True
                    break
    return Order(trial.body, stages)


def _moves(best, units):
    """Trials in which one group is later, or elsewhere, or both."""
    for unit in units:
        yield _Trial(best.body, best.late ^ frozenset(unit))
    for unit in units:
        chosen = frozenset(unit)
        own = tuple(stream for stream in best.body if stream in chosen)
        rest = tuple(stream for stream in best.body if stream not in chosen)
        for late in (best.late, best.late ^ chosen):
            for position in _positions(rest, units):
                trial = _Trial(rest[:position] + own + rest[position:], late)
                if trial != best:
                    yield trial


def _positions(rest, units):
    """Where a group may go: beside whole groups."""
    of = {stream: number for number, unit in enumerate(units) for stream in unit}
    return [position for position in range(len(rest) + 1)
            if position in (0, len(rest)) or of[rest[position - 1]] != of[rest[position]]]


def _groups(instructions, pipeline):
    """Streams that stay together at first: of one operation and opcode, SOFTMAX with its scores."""
    groups = {}
    for stream, indices in enumerate(pipeline.streams):
        first = instructions[indices[0]]
        opcode = Opcode.MM_SCORE if first.opcode is Opcode.SOFTMAX else first.opcode
        groups.setdefault((first.operation, opcode), []).append(stream)
    return list(groups.values())


class _Model:
    """The time that a loop takes with an order of its streams, run twice if there are two calls.

    Of a long loop the first and the last iterations are run.
    """

    def __init__(self, arch, instructions, needs, calls, groups):
        self.arch = arch
        lags = {}
        for call in calls:
            for key, lag in lags_of(call, needs).items():
                lags[key] = max(lags.get(key, lag), lag)
        self._courses = [courses_of(instructions, stream) for stream in calls[0].streams]
        self._real, calls = calls[0].count, [_shortened(call) for call in calls[-2:]]
        firsts = [instructions[indices[0]] for indices in calls[0].streams]
        kinds = [kind_of(arch, first.opcode, first.fields) for first in firsts]
        self._loop = _as_arrays(calls, kinds, lags, groups, needs)
        self.several_units = len({unit for unit, *_ in kinds}) > 1
        self.length = len(calls) * calls[0].count * len(firsts)
        self._work = max(sum(kind[1] for kind in kinds if kind[0] is unit) for unit in Unit)
        self._between = (STEPS + 1) * self.ends([0] * len(firsts))
        self.ideal = self._work * calls[0].count * len(calls) * _GOOD_ENOUGH

    def ends(self, stages):
        """Lines of changes of registers behind the body."""
        return ends_needed(self._courses, stages, self._real)

    def time(self, trial, limit=NEVER):
        """Cycles until everything is done, no more than `limit` matters; and the stages, empty if
        there are none."""
        late = np.zeros(len(trial.body), bool)
        late[list(trial.late)] = True
        time, stages = loop_time(
            np.array(trial.body), late, self._loop, self._real, self._work, limit,
            self.arch.queue_depth, len(Unit), self._between, LARGEST_TAIL)
        return time, tuple(stages.tolist())


def _as_arrays(calls, kinds, lags, groups, needs):
    """The loop of the calls for :func:`bivit.compiler.kernels.loop_time`."""
    group = {stream: number for number, group in enumerate(groups) for stream in group}
    edges = [(producer, consumer, lag, group[producer] != group[consumer])
             for (producer, consumer), lag in lags.items() if producer != consumer]
    place = {index: (number, stream, iteration) for number, call in enumerate(calls)
             for stream, indices in enumerate(call.streams)
             for iteration, index in enumerate(indices)}
    first, found = [0], []
    for call in calls:
        for index in itertools.chain.from_iterable(call.streams):
            found += _last_of_each(needs[index], place)
            first.append(len(found))
    return Loop(len(calls), calls[0].count, np.array(kinds, np.int64),
                np.array(edges, np.int64).reshape(-1, 4), np.array(first, np.int64),
                np.array(found, np.int64).reshape(-1, 3))


def _shortened(pipeline):
    """The first and the last iterations of a loop."""
    if pipeline.count <= 2 * _ENDS:
        return pipeline
    return Pipeline(tuple((*stream[:_ENDS], *stream[-_ENDS:]) for stream in pipeline.streams))


def _last_of_each(needs, place):
    """The last iteration of each stream that must be done."""
    found = {}
    for other, hazard in needs.items():
        if hazard and other in place:
            number, stream, iteration = place[other]
            key = number, stream
            found[key] = max(found.get(key, 0), iteration)
    return [(number, stream, iteration) for (number, stream), iteration in found.items()]
