"""Sixth pass: the order of the streams in a loop, and by how many iterations they are apart.

The order decides everything: a stream in front of what it needs works one iteration behind it. So
orders are tried out, beginning with the canonical one: each group of streams, then each stream,
is moved to the place where the loop, run twice, ends soonest in a model of the units' time.
"""

from collections.abc import Sequence

from bivit.compiler.pipeline import LARGEST_TAIL, Pipeline, lags_of
from bivit.compiler.registers import courses_of, steps_needed
from bivit.compiler.structures import Instruction, Order
from bivit.compiler.timeline import Timeline
from bivit.hw.arch import Arch
from bivit.hw.isa import STEPS, UNIT_OF, Opcode, Unit

__all__ = ["find_order", "stages_of"]

_EFFORT = 400_000
"""Instructions that all tries for one loop may have together."""
_NEVER = 1 << 60


def stages_of(body: Sequence[int], lags: dict[tuple[int, int], int]) -> tuple[int, ...] | None:
    """The least stages with which every stream finds what it needs, or None if there are none."""
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
        if max(stages) > LARGEST_TAIL:
            break
    return None


def find_order(arch: Arch, instructions: Sequence[Instruction], needs: Sequence[dict[int, bool]],
               calls: Sequence[Pipeline]) -> Order:
    """The best order that was found.

    Parameters
    ----------
    needs : sequence of dict
        As :func:`bivit.compiler.depend.dependencies` gives them.
    calls : sequence of Pipeline
        The same loop as often as it runs.
    """
    model = _Model(arch, instructions, needs, calls)
    body = list(range(len(calls[0].streams)))
    fits = model.steps(body) <= STEPS
    best, left = (model.time(body) if fits else _NEVER, body), _EFFORT // (model.length + 1)
    groups = _groups(instructions, calls[0])
    for units in (groups, [[stream] for stream in body]):
        moved = True
        while moved and left > 0:
            moved = False
            for unit in units:
                chosen = set(unit)
                own = [stream for stream in best[1] if stream in chosen]
                rest = [stream for stream in best[1] if stream not in chosen]
                for position in _positions(rest, units):
                    trial = rest[:position] + own + rest[position:]
                    if trial == best[1]:
                        continue
                    left -= 1
                    time = model.time(trial)
                    if time < best[0] and model.steps(trial) <= STEPS:
                        best, moved = (time, trial), True
                if left <= 0:
                    break
    return Order(tuple(best[1]), model.stages(best[1]))


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
    """The time that a loop takes with an order of its streams, run twice if there are two calls."""

    def __init__(self, arch, instructions, needs, calls):
        self.arch = arch
        self.count, self.width = calls[0].count, len(calls[0].streams)
        self.lags = {}
        for call in calls:
            for key, lag in lags_of(call, needs).items():
                self.lags[key] = max(self.lags.get(key, lag), lag)
        calls = calls[-2:]
        self.calls, self._courses = calls, courses_of(instructions, calls[0])
        self._firsts = firsts = [instructions[indices[0]] for indices in calls[0].streams]
        self.kinds = [Timeline.kind(arch, first.opcode, first.fields) for first in firsts]
        self.units = [UNIT_OF[first.opcode] for first in firsts]
        place = {index: (number, stream, iteration) for number, call in enumerate(calls)
                 for stream, indices in enumerate(call.streams)
                 for iteration, index in enumerate(indices)}
        self.needs = [[[self._needs(needs[index], place) for index in indices]
                       for indices in call.streams] for call in calls]
        self.length = len(calls) * self.count * self.width

    def _needs(self, needs, place):
        """The last iteration of each stream that must be done."""
        found = {}
        for other, hazard in needs.items():
            if hazard and other in place:
                number, stream, iteration = place[other]
                key = number, stream
                found[key] = max(found.get(key, 0), iteration)
        return [(number, stream, iteration) for (number, stream), iteration in found.items()]

    def stages(self, body):
        """Stages of an order, or None."""
        stages = stages_of(body, self.lags)
        return stages if stages is not None and max(stages) <= LARGEST_TAIL else None

    def steps(self, body):
        """Changes of registers behind the body."""
        return steps_needed(self._courses, self.stages(body), self._firsts, self.count)

    def time(self, body):
        """Cycles until everything is done."""
        stages = self.stages(body)
        if stages is None:
            return _NEVER
        steps = list(Order(tuple(body), stages).steps(self.count))
        return self._run(steps, self._distances(steps))

    def _distances(self, steps):
        """The nearest distance at which each stream needs each unit."""
        sent = [0] * len(Unit)
        numbers = [[[0] * self.count for _ in range(self.width)] for _ in self.calls]
        found = [{} for _ in range(self.width)]
        units = self.units
        for call, needs in enumerate(self.needs):
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

    def _run(self, steps, distances):
        timeline = Timeline(self.arch)
        for _ in self.calls:
            timeline.control(1)
            for step in steps:
                if step is None:
                    timeline.end(STEPS)
                elif step[1] is None:
                    timeline.control(1)
                else:
                    timeline.send(self.units[step[0]], self.kinds[step[0]], distances[step[0]])
        return timeline.finished
