"""Fifth pass: operations over equally many blocks become loops.

A loop is a software pipeline: its streams work on different iterations at the same time. A
stream may join the loop of those before it if what it needs of them lies no more than a few
iterations ahead; all else is a barrier, behind which a new loop begins.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.streams import Roll
from bivit.compiler.structures import Instruction, Layer
from bivit.hw.isa import FORMATS, HEADER, UNIT_OF, Opcode, Unit

__all__ = ["LARGEST_TAIL", "Pipeline", "Straight", "find_pipelines", "lags_of"]

LARGEST_TAIL = (1 << HEADER["stage"]) - 1
"""Iterations by which streams of a loop can be apart."""
_LARGEST_COUNT = (1 << FORMATS[Opcode.LOOP]["count"]) - 1


@dataclasses.dataclass(frozen=True)
class Straight:
    """Instructions that follow each other, by their positions in canonical order."""

    instructions: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Streams that run in one loop, in canonical order.

    Parameters
    ----------
    streams : tuple of tuple of int
        The instructions of each stream, by iteration: positions in canonical order.
    """

    streams: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Iterations of each stream."""
        return len(self.streams[0])


class _Open:
    """A loop that may still grow; `stages` are those of the canonical order."""

    def __init__(self):
        self.before, self.after, self.columns = [], [], []
        self.first = self.last = 0
        self.place = {}  # instruction -> stream, iteration
        self.stages = []
        self.kinds = set()


def find_pipelines(instructions: Sequence[Instruction], rolls: Sequence[Roll],
                   needs: Sequence[dict[int, bool]],
                   layers: Sequence[Layer]) -> list[Straight | Pipeline]:
    """The parts of a program, in the order in which they run.

    Products of binary layers and others are kept apart, so that neither waits for the other.
    """
    parts, loop = [], _Open()
    for roll in rolls:
        kinds = {layers[instructions[column[0]].layer].binary for column in roll.columns
                 if UNIT_OF[instructions[column[0]].opcode] is Unit.MM}
        if loop.columns and (len(loop.kinds | kinds) > 1 or not _join(loop, roll, needs)):
            parts += _close(loop)
            loop = _Open()
        if not loop.columns:
            if not roll.columns:
                parts.append(Straight((*roll.before, *roll.after)))
                continue
            loop.before += roll.before
            loop.after += roll.after
            loop.first, loop.last = roll.first, roll.first + len(roll.columns[0])
            _add(loop, roll, loop.first, loop.last, needs)
        loop.kinds |= kinds
    return [part for part in parts + _close(loop)
            if isinstance(part, Pipeline) or part.instructions]


def _join(loop, roll, needs):
    """Let an operation into a loop, if it can run there."""
    if not roll.columns:
        return False
    first = max(loop.first, roll.first)
    last = min(loop.last, roll.first + len(roll.columns[0]))
    if (first, last) != (loop.first, loop.last) or not _fits(loop, roll, first, last, needs):
        return False
    _add(loop, roll, first, last, needs)
    steps = list(zip(*roll.columns, strict=True))
    early, late = steps[:first - roll.first], steps[last - roll.first:]
    loop.before += [*roll.before, *(index for step in early for index in step)]
    loop.after += [*(index for step in late for index in step), *roll.after]
    return True


def _fits(loop, roll, first, last, needs):
    """Whether no instruction needs what comes too late."""
    late, steps = set(loop.after), list(zip(*roll.columns, strict=True))
    before = (*roll.before, *(index for step in steps[:first - roll.first] for index in step))
    if any(other in loop.place or other in late for index in before for other in needs[index]):
        return False
    for number, step in enumerate(steps[first - roll.first:last - roll.first]):
        for index in step:
            for other in needs[index]:
                if other in late:
                    return False
                if other in loop.place:
                    stream, iteration = loop.place[other]
                    if loop.stages[stream] + iteration - number > LARGEST_TAIL:
                        return False
    return True


def _add(loop, roll, first, last, needs):
    for column in roll.columns:
        stream = len(loop.columns)
        own = column[first - roll.first:last - roll.first]
        loop.columns.append(own)
        loop.place |= {index: (stream, iteration) for iteration, index in enumerate(own)}
    for column in loop.columns[len(loop.stages):]:
        lags = _lags(column, loop.place, needs)
        loop.stages.append(max((loop.stages[producer] + lag for producer, lag in lags.items()
                                if producer < len(loop.stages)), default=0))
        loop.stages[-1] = max(loop.stages[-1], 0)


def _lags(column, place, needs):
    """The furthest iteration of each stream that a stream needs, counted from its own."""
    lags = {}
    for index in column:
        _, iteration = place[index]
        for other in needs[index]:
            if other in place:
                producer, at = place[other]
                lags[producer] = max(lags.get(producer, at - iteration), at - iteration)
    return lags


def lags_of(pipeline: Pipeline, needs: Sequence[dict[int, bool]]) -> dict[tuple[int, int], int]:
    """For streams P, C: the furthest iteration of P that C needs, counted from its own."""
    place = {index: (stream, iteration) for stream, indices in enumerate(pipeline.streams)
             for iteration, index in enumerate(indices)}
    return {(producer, stream): lag for stream, indices in enumerate(pipeline.streams)
            for producer, lag in _lags(indices, place, needs).items()}


def _close(loop):
    if not loop.columns:
        return []
    return [Straight(tuple(loop.before)), Pipeline(tuple(loop.columns)),
            Straight(tuple(loop.after))]
