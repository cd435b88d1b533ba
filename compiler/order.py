"""Sixth pass: the order of the streams in a loop, and by how many iterations they are apart.

A stream in front of what it needs works one iteration behind it, and one that keeps its distance
one more. Orders are tried out, beginning with the canonical one, or with all groups apart where
that is far better: each group of streams, then each stream, is moved or kept away where that lets
the loop, run twice, end sooner in a model of the units' time.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.pipeline import lags_of
from bivit.compiler.registers import courses_of, steps_allowed, steps_needed
from bivit.compiler.structures import (
    LARGEST_REST,
    LARGEST_STAGE,
    Instruction,
    Order,
    Pipeline,
    Stream,
)
from bivit.compiler.timeline import Timeline
from bivit.hw.arch import Arch
from bivit.hw.isa import STEPS, UNIT_OF, Opcode, Unit

__all__ = ["find_order", "stages_of"]

_ENDS = 10
"""Iterations at either end of a long loop that are looked at."""
_GOOD_ENOUGH = 1.002
"""Time over that of the busiest unit for which no better order is looked for."""
_FAR_BETTER = 0.9
"""Share of the time of canonical order for which the search begins with all groups apart."""
_NEVER = 1 << 60
_LEADERS = {Opcode.SOFTMAX: Opcode.MM_SCORE, Opcode.ROWS_OUT: Opcode.ROWS_ADD}


@dataclasses.dataclass(frozen=True)
class _Trial:
    """An order of streams, and those that keep an iteration more between them and what they need.
    """

    body: tuple[int, ...]
    late: frozenset[int] = frozenset()


def stages_of(body: Sequence[int],
              lags: dict[tuple[int, int], int]) -> tuple[int, ...] | None:
    """The least stages with which every stream finds what it needs, or None if there are none.

    Parameters
    ----------
    lags : dict of (int, int) to int
        As :func:`bivit.compiler.pipeline.lags_of` gives them.
    """
    place = {stream: position for position, stream in enumerate(body)}
    edges = [(producer, consumer, lag + (place[producer] > place[consumer]))
             for (producer, consumer), lag in lags.items() if producer != consumer]
    stages = [0] * len(body)
    for _ in range(len(body) + 1):
        changed = False
        for producer, consumer, distance in edges:
            if stages[producer] + distance > stages[consumer]:
                stages[consumer] = stages[producer] + distance
                changed = True
        if not changed:
            return tuple(stages)
        if max(stages) > LARGEST_STAGE:
            break
    return None


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
    first = _Trial(tuple(range(len(calls[0].streams))))
    if model.stages(first) is None:
        return None
    best = model.time(first) if model.fits(first) else _NEVER, first
    apart = dataclasses.replace(first, late=frozenset(first.body))
    if (time := model.time(apart, best[0])) < _FAR_BETTER * best[0] and model.fits(apart):
        best = time, apart
    left = effort // model.length if model.several_units else 0
    for units in (groups, _single(instructions, calls[0])):
        moved = True
        while moved and left > 0 and best[0] > model.ideal:
            moved = False
            for trial in _moves(best[1], units):
                left -= 1
                time = model.time(trial, best[0])
                if time < best[0] and model.fits(trial):
                    best, moved = (time, trial), True
                    break
    return Order(best[1].body, model.stages(best[1]))


def _moves(best, units):
    """Trials in which one group is later, or elsewhere, or both."""
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
            if position in (0, len(rest))
            or of.get(rest[position - 1], -1) != of.get(rest[position], -2)]


def _groups(instructions, pipeline):
    """Streams that stay together at first: of one operation and opcode, SOFTMAX with its scores,
    and sums with what becomes of them."""
    groups = {}
    for number, stream in enumerate(pipeline.streams):
        first = instructions[stream.indices[0]]
        opcode = _LEADERS.get(first.opcode, first.opcode)
        groups.setdefault((first.operation, opcode), []).append(number)
    return list(groups.values())


def _single(instructions, pipeline):
    """Streams that can be moved alone: not those that change sums."""
    return [[number] for number, stream in enumerate(pipeline.streams)
            if instructions[stream.indices[0]].opcode not in (Opcode.ROWS_ADD, Opcode.ROWS_OUT)]


class _Model:
    """The time that a loop takes with an order of its streams, run twice if there are two calls.

    Of a long loop the first and the last iterations are run.
    """

    def __init__(self, arch, instructions, needs, calls, groups):
        self.arch = arch
        self._group = {stream: number for number, group in enumerate(groups) for stream in group}
        self._lags = {}
        for call in calls:
            for key, lag in lags_of(call, needs).items():
                self._lags[key] = max(self._lags.get(key, lag), lag)
        self._courses = [courses_of(instructions, stream) for stream in calls[0].streams]
        self._real, self._allowed = calls[0].streams, steps_allowed(len(calls[0].streams))
        calls = [_shortened(call) for call in calls[-2:]]
        self._streams = calls[0].streams
        self._calls, self._count, self._width = len(calls), calls[0].count, len(self._streams)
        firsts = [instructions[stream.indices[0]] for stream in self._real]
        self._kinds = [Timeline.kind(arch, first.opcode, first.fields) for first in firsts]
        self._units = [UNIT_OF[first.opcode] for first in firsts]
        place = {index: (number, own, iteration) for number, call in enumerate(calls)
                 for own, stream in enumerate(call.streams)
                 for iteration, index in stream.iterations()}
        self._needs = [[{iteration: _last_of_each(needs[index], place)
                         for iteration, index in stream.iterations()}
                        for stream in call.streams] for call in calls]
        self.several_units = len(set(self._units)) > 1
        self.length = self._calls * self._count * self._width
        work = max(sum(kind[0] * len(stream.indices) for kind, own, stream in zip(
            self._kinds, self._units, self._streams, strict=True) if own is unit) for unit in Unit)
        self._work = work // self._count
        self.ideal = work * self._calls * _GOOD_ENOUGH

    def stages(self, trial):
        """Stages of an order, or None."""
        lags = self._lags
        if trial.late:
            lags = {(producer, stream): lag + (stream in trial.late and
                                               self._group[producer] != self._group[stream])
                    for (producer, stream), lag in lags.items()}
        return stages_of(trial.body, lags)

    def fits(self, trial):
        """Whether END has steps enough, and the guards reach far enough."""
        guards = Order(trial.body, self.stages(trial)).guards(self._real)
        count = max(stream.end for stream in self._real)
        begins, rests = zip(*guards, strict=True)
        return (max(begins) <= LARGEST_STAGE and max(rests) <= LARGEST_REST
                and steps_needed(self._courses, begins, count) <= self._allowed)

    def time(self, trial, limit=_NEVER):
        """Cycles until everything is done; no more than `limit` matters."""
        stages = self.stages(trial)
        if stages is None:
            return _NEVER
        steps = list(Order(trial.body, stages).steps(self._streams))
        return self._run(steps, self._distances(steps), max(stages), limit)

    def _distances(self, steps):
        """The nearest distance at which each stream needs each unit."""
        sent = [0] * len(Unit)
        numbers = [[[0] * self._count for _ in range(self._width)] for _ in self._needs]
        found = [{} for _ in range(self._width)]
        units = self._units
        for call, needs in enumerate(self._needs):
            own = numbers[call]
            for step in steps:
                if step is None or step[1] is None:
                    continue
                stream, iteration = step
                nearest = found[stream]
                for number, producer, at in needs[stream][iteration]:
                    unit = units[producer]
                    distance = sent[unit] - numbers[number][producer][at]
                    if distance < nearest.get(unit, _NEVER):
                        nearest[unit] = distance
                unit = units[stream]
                own[stream][iteration] = sent[unit]
                sent[unit] += 1
        return [list(nearest.items()) for nearest in found]

    def _run(self, steps, distances, tail, limit):
        timeline, turns, marks = Timeline(self.arch), 0, []
        end = self._calls * self._count
        for _ in range(self._calls):
            timeline.control(1)
            for step in steps:
                if step is None:
                    timeline.control(STEPS + 1)
                    turns += 1
                    marks.append(timeline.sent)
                    left = end - turns + tail
                    if timeline.sent + (left - 2 * tail) * self._work > limit:
                        return _NEVER
                elif step[1] is None:
                    timeline.control(1)
                else:
                    timeline.send(self._units[step[0]], self._kinds[step[0]], distances[step[0]])
        middle = (self._count + tail) // 2
        rest = (max(stream.end for stream in self._real) - self._count) * self._calls
        return timeline.finished + rest * (marks[middle] - marks[middle - 2]) // 2


def _shortened(pipeline):
    """The first and the last iterations of a loop."""
    left_out = range(_ENDS, pipeline.count - _ENDS)
    if not left_out:
        return pipeline
    streams = []
    for stream in pipeline.streams:
        kept = [index for iteration, index in stream.iterations() if iteration not in left_out]
        before = sum(iteration < stream.begin for iteration in left_out)
        streams.append(Stream(tuple(kept), stream.begin - before))
    return Pipeline(tuple(streams))


def _last_of_each(needs, place):
    """The last iteration of each stream that must be done."""
    found = {}
    for other, hazard in needs.items():
        if hazard and other in place:
            number, stream, iteration = place[other]
            key = number, stream
            found[key] = max(found.get(key, 0), iteration)
    return [(number, stream, iteration) for (number, stream), iteration in found.items()]
