"""Sixth pass: the order of the streams in a loop, and by how many iterations they are apart.

A stream in front of what it needs works one iteration behind it, and one that keeps its distance
one more. Orders are tried out, beginning with the canonical one, or with all groups apart where
that is far better: each group of streams, then each stream, is moved or kept away where that lets
the loop, run twice, end sooner in a model of the units' time.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from bivit.compiler.code import LARGEST_REST, LARGEST_STAGE, Order, Pipeline, Stream
from bivit.compiler.kernels import NEVER, Loop, loop_time, next_better
from bivit.compiler.pipeline import lags_of
from bivit.compiler.registers import courses_of, ends_allowed, ends_needed
from bivit.compiler.structures import Instruction
from bivit.compiler.timeline import kind_of, queue_of
from bivit.hw.arch import Arch
from bivit.hw.isa import STEPS, Opcode, Unit

__all__ = ["find_order"]

_ENDS = 10
"""Iterations at either end of a long loop that are looked at."""
_FAR_BETTER = 0.9
"""Share of the time of canonical order for which the search begins with all groups apart."""
_LEADERS = {Opcode.SOFTMAX: Opcode.MM_SCORE, Opcode.ROWS_OUT: Opcode.ROWS_ADD}
"""Opcodes whose streams stay with those of another one."""
_GOOD_ENOUGH = 1.002
"""Time over that of the busiest unit for which no better order is looked for."""


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
    body, late = np.arange(model.streams), np.zeros(model.streams, bool)
    time, stages = model.time(body, late)
    if not len(stages):
        return None
    best = time if model.fits(body, stages) else NEVER
    time, found = model.time(body, ~late, best)
    if len(found) and time < _FAR_BETTER * best and model.fits(body, found):
        best, late, stages = time, ~late, found
    left = effort // model.length if model.several_units else 0
    for units in (groups, _single(instructions, calls[0])):
        moved = True
        while moved and left > 0 and best > model.ideal:
            tried, *better = model.next_better(body, late, units, best)
            moved, left = better[0] < best, left - tried
            if moved:
                best, body, late, stages = better
    return Order(tuple(body.tolist()), tuple(stages.tolist()))


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
        lags = {}
        for call in calls:
            for key, lag in lags_of(call, needs).items():
                lags[key] = max(lags.get(key, lag), lag)
        self._courses = [courses_of(instructions, stream) for stream in calls[0].streams]
        self._real, calls = calls[0].streams, [_shortened(call) for call in calls[-2:]]
        self._count = max(stream.end for stream in self._real)
        firsts = [instructions[stream.indices[0]] for stream in self._real]
        kinds = [kind_of(arch, first.opcode, first.fields) for first in firsts]
        self._loop = _as_arrays(calls, kinds, lags, groups, needs)
        self.several_units = len({unit for unit, *_ in kinds}) > 1
        self.length = len(calls) * calls[0].count * len(firsts)
        self.streams = len(firsts)
        work = max(sum(kind[1] * len(stream.indices)
                       for kind, stream in zip(kinds, calls[0].streams, strict=True)
                       if kind[0] is unit) for unit in Unit)
        self._between = (STEPS + 2) * self._ends([stream.begin for stream in self._real])
        self.ideal = work * len(calls) * _GOOD_ENOUGH

    def fits(self, body, stages):
        """Whether END has lines enough, and the guards reach far enough."""
        order = Order(tuple(body.tolist()), tuple(stages.tolist()))
        begins, rests = zip(*order.guards(self._real), strict=True)
        return (max(begins) <= LARGEST_STAGE and max(rests) <= LARGEST_REST
                and self._ends(begins) <= ends_allowed(len(begins)))

    def _ends(self, begins):
        """Lines of changes of registers behind the body."""
        return ends_needed(self._courses, begins, self._count)

    def time(self, body, late, limit=NEVER):
        """Cycles until everything is done, only less than `limit` matters; and the stages, empty if
        there are none."""
        return loop_time(body, late, self._loop, self._count, limit, queue_of(self.arch),
                         self._between, LARGEST_STAGE)

    def next_better(self, body, late, units, limit):
        """Orders that were tried, and the first that is possible and takes less than `limit`: its
        time, body, late streams and stages."""
        first = np.cumsum([0, *map(len, units)])
        members = np.array(list(itertools.chain.from_iterable(units)), np.int64)
        tried = 0
        while True:
            tried, *found = next_better(
                body, late, first, members, tried, limit, self._loop, self._count,
                queue_of(self.arch), self._between, LARGEST_STAGE)
            if found[0] >= limit or self.fits(found[1], found[3]):
                return tried, *found


def _as_arrays(calls, kinds, lags, groups, needs):
    """The loop of the calls for :func:`bivit.compiler.kernels.loop_time`."""
    group = {stream: number for number, group in enumerate(groups) for stream in group}
    edges = [(producer, consumer, lag, group[producer] != group[consumer])
             for (producer, consumer), lag in lags.items() if producer != consumer]
    place = {index: (number, own, iteration) for number, call in enumerate(calls)
             for own, stream in enumerate(call.streams)
             for iteration, index in stream.iterations()}
    first, found, count = [0], [], calls[0].count
    for stream in itertools.chain.from_iterable(call.streams for call in calls):
        for index in map(stream.at, range(count)):
            for number, own, iteration in _last_of_each(needs, index, place):
                found.append((kinds[own][0], (number * len(kinds) + own) * count + iteration))
            first.append(len(found))
    ranges = [(stream.begin, stream.end) for stream in calls[0].streams]
    return Loop(len(calls), count, len(Unit), np.array(ranges, np.int64), np.array(kinds, np.int64),
                np.array(edges, np.int64).reshape(-1, 4), np.array(first, np.int64),
                np.array(found, np.int64).reshape(-1, 2))


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


def _last_of_each(needs, index, place):
    """The last iteration of each stream that an instruction, if there is one, needs."""
    found = {}
    for other, hazard in needs[index].items() if index is not None else ():
        if hazard and other in place:
            number, stream, iteration = place[other]
            key = number, stream
            found[key] = max(found.get(key, 0), iteration)
    return [(number, stream, iteration) for (number, stream), iteration in found.items()]
