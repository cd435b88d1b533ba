"""Fifth pass: operations over equally many blocks become loops.

A loop is a software pipeline: its streams work on different iterations at the same time. A
stream may join the loop of those before it if what it needs of them lies no more than a few
iterations ahead; all else is a barrier, behind which a new loop begins.
"""

from collections.abc import Callable, Sequence

import numpy as np

from bivit.compiler.code import Pipeline, Straight
from bivit.compiler.depend import Needs
from bivit.compiler.depend_kernel import NOWHERE, furthest
from bivit.compiler.registers import courses_of, ends_allowed, ends_needed, signature
from bivit.compiler.streams import Roll, fixed_fields
from bivit.compiler.structures import Instruction, Layer
from bivit.hw.isa import UNIT_OF, Unit

__all__ = ["FURTHEST", "find_pipelines", "lags_of"]

FURTHEST = 4, 10
"""Iterations by which what an operation needs may lie ahead in the same loop: half of all, but at
least and at most so many."""
_UNEVEN = 8
"""Of so many iterations, operations of a loop may differ by one."""
_MANY = 256
"""Lines of a program from which on loops are cut so that more of them are equal."""
_WORTH = 0.9
"""Share of the lines that are left where cutting is worth that loops are shorter."""
_SHORTEST = 4
"""Rolls that may repeat as a whole."""


class _Open:
    """A loop that may still grow; `stages` are those of the canonical order."""

    def __init__(self, places):
        self.streams, self.stages, self.courses = [], [], []
        self.places = places
        self.kinds = set()

    def copy(self):
        """Another one, to try out what would be added; if that is left out, this one is closed."""
        other = _Open(self.places)
        for name in ("streams", "stages", "courses", "kinds"):
            setattr(other, name, getattr(self, name).copy())
        return other

    @property
    def count(self):
        return max(stream.end for stream in self.streams)


class _Places:
    """The stream and the iteration of instructions of a loop.

    Parameters
    ----------
    needs : Needs
    """

    def __init__(self, needs):
        self._needs = needs
        self._streams = np.full(len(needs), -1)
        self._iterations = np.zeros(len(needs), np.int64)

    def add(self, stream, number):
        """Stream `number` of the loop."""
        indices = np.array(stream.indices)
        self._streams[indices] = number
        self._iterations[indices] = np.arange(stream.begin, stream.end)

    def lags(self, stream, count):
        """The furthest iteration of each of the first `count` streams that a stream needs, counted
        from its own, by their numbers."""
        lags = furthest(np.array(stream.indices), stream.begin, self._needs.first,
                        self._needs.found, self._streams, self._iterations, count)
        return {number: lag for number, lag in enumerate(lags.tolist()) if lag != NOWHERE}


def find_pipelines(instructions: Sequence[Instruction], rolls: Sequence[Roll],
                   needs: Needs, layers: Sequence[Layer],
                   has_room: Callable[[Sequence[int]], bool] = lambda indices: True,
                   ) -> list[Straight | Pipeline]:
    """The parts of a program, in the order in which they run.

    Products of binary layers and others are kept apart, so that neither waits for the other.

    Parameters
    ----------
    has_room : callable
        Whether instructions can run in one loop, in canonical order.
    """
    parts = _join(instructions, rolls, needs, layers, has_room, ())
    most = sum(len(part.instructions if isinstance(part, Straight) else part.streams)
               for part in parts)
    if most > _MANY and (lines := _lines(instructions, parts)) > _MANY:
        again = _join(instructions, rolls, needs, layers, has_room, _cuts(instructions, rolls))
        parts = again if _lines(instructions, again) < _WORTH * lines else parts
    return parts


def _join(instructions, rolls, needs, layers, has_room, cuts):
    """Parts, of which one begins at each roll whose number is in `cuts`."""
    parts, loop = [], None
    for number, roll in enumerate(rolls):
        firsts = [instructions[stream.indices[0]] for stream in roll.streams]
        kinds = {layers[first.layer].binary for first in firsts
                 if UNIT_OF[first.opcode] is Unit.MM and layers[first.layer].macs}
        if loop and (number in cuts or not roll.streams or len(loop.kinds | kinds) > 1
                     or not has_room(sorted(index for stream in (*loop.streams, *roll.streams)
                                            for index in stream.indices))
                     or not (grown := _grown(loop, roll, instructions))):
            parts.append(Pipeline(tuple(loop.streams)))
            loop = None
        if not roll.streams:
            parts.append(Straight(roll.rest))
            continue
        if loop:
            loop = grown
        else:
            loop = _Open(_Places(needs))
            _add(loop, roll, instructions)
        loop.kinds |= kinds
    return parts + ([Pipeline(tuple(loop.streams))] if loop else [])


def _lines(instructions, parts):
    """Lines of a program of these parts, but for what begins and ends a loop."""
    straight = sum(len(part.instructions) for part in parts if isinstance(part, Straight))
    loops = {signature(instructions, part): len(part.streams)
             for part in parts if isinstance(part, Pipeline)}
    return straight + sum(loops.values())


def _cuts(instructions, rolls):
    """Where the same rolls come again and again: the layers of a network."""
    names = {}
    kinds = [names.setdefault(_kind(instructions, roll), len(names)) for roll in rolls]
    cuts, begin = set(), 0
    while begin < len(rolls):
        period = next((length for length in range(_SHORTEST, (len(rolls) - begin) // 2 + 1)
                       if _repeats(kinds, begin, length) > 1), 0)
        if not period:
            begin += 1
            continue
        # A cut that is one anyway is best.
        begin = max(range(begin, begin + period), key=lambda start: (
            _repeats(kinds, start, period), not rolls[start].streams))
        end = begin + period * _repeats(kinds, begin, period)
        cuts |= set(range(begin, end + 1, period))
        begin = end
    return cuts


def _kind(instructions, roll):
    return (signature(instructions, Pipeline(roll.streams)),
            tuple(fixed_fields(instructions[index]) for index in roll.rest))


def _repeats(kinds, begin, period):
    """How often the rolls from one on come, one time behind the other."""
    count = 1
    while kinds[begin:begin + period] == kinds[begin + count * period:
                                               begin + (count + 1) * period]:
        count += 1
    return count


def _grown(loop, roll, instructions):
    """A loop with one more operation, or None if it has no registers for it, or what that needs
    comes too late."""
    counts = loop.count, max(stream.end for stream in roll.streams)
    if max(counts) - min(counts) > max(counts) // _UNEVEN:
        return None
    least, most = FURTHEST
    limit = min(max((loop.count + 1) // 2, least), most)
    for stream in roll.streams:
        lags = loop.places.lags(stream, len(loop.stages))
        if any(loop.stages[producer] + lag > limit for producer, lag in lags.items()):
            return None
    trial = loop.copy()
    _add(trial, roll, instructions)
    begins = [stage + stream.begin
              for stage, stream in zip(trial.stages, trial.streams, strict=True)]
    fits = ends_needed(trial.courses, begins, trial.count) <= ends_allowed(len(trial.streams))
    return trial if fits else None


def _add(loop, roll, instructions):
    for stream in roll.streams:
        loop.places.add(stream, len(loop.streams))
        loop.streams.append(stream)
        loop.courses.append(courses_of(instructions, stream))
    for stream in roll.streams:
        lags = loop.places.lags(stream, len(loop.streams))
        stage = max((loop.stages[producer] + lag for producer, lag in lags.items()
                     if producer < len(loop.stages)), default=0)
        loop.stages.append(max(stage, 0))


def lags_of(pipeline: Pipeline, needs: Needs) -> dict[tuple[int, int], int]:
    """For streams P, C: the furthest iteration of P that C needs, counted from its own."""
    places = _Places(needs)
    for number, stream in enumerate(pipeline.streams):
        places.add(stream, number)
    return {(producer, number): lag for number, stream in enumerate(pipeline.streams)
            for producer, lag in places.lags(stream, len(pipeline.streams)).items()}
