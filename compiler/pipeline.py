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

    def __init__(self, roll: Roll):
        self.first, self.before, self.after = roll.first, roll.before, roll.after
        self.columns, self.stages = [], []
        self.place = {}  # instruction -> stream, iteration
        self.kinds = set()


def find_pipelines(instructions: Sequence[Instruction], rolls: Sequence[Roll],
                   needs: Sequence[dict[int, bool]],
                   layers: Sequence[Layer]) -> list[Straight | Pipeline]:
    """The parts of a program, in the order in which they run.

    Products of binary layers and others are kept apart, so that neither waits for the other.
    """
    parts, loop = [], None
    for roll in rolls:
        kinds = {layers[instructions[column[0]].layer].binary for column in roll.columns
                 if UNIT_OF[instructions[column[0]].opcode] is Unit.MM}
        if loop and (len(loop.kinds | kinds) > 1 or not _fits(loop, roll, needs)):
            parts += _close(loop)
            loop = None
        if not roll.columns:
            parts.append(Straight((*roll.before, *roll.after)))
            continue
        loop = loop or _Open(roll)
        _add(loop, roll, needs)
        loop.kinds |= kinds
    parts += _close(loop) if loop else []
    return [part for part in parts if isinstance(part, Pipeline) or part.instructions]


def _fits(loop, roll, needs):
    """Whether an operation can run in a loop: all of it, and no instruction needs what comes too
    late."""
    if (roll.before or roll.after or loop.after or roll.first != loop.first
            or len(roll.columns[0] if roll.columns else ()) != len(loop.columns[0])):
        return False
    for column in roll.columns:
        for iteration, index in enumerate(column):
            for other in needs[index]:
                if other in loop.place:
                    stream, at = loop.place[other]
                    if loop.stages[stream] + at - iteration > LARGEST_TAIL:
                        return False
    return True


def _add(loop, roll, needs):
    for column in roll.columns:
        loop.place |= {index: (len(loop.columns), iteration)
                       for iteration, index in enumerate(column)}
        loop.columns.append(column)
    for column in roll.columns:
        lags = _lags(column, loop.place, needs)
        stage = max((loop.stages[producer] + lag for producer, lag in lags.items()
                     if producer < len(loop.stages)), default=0)
        loop.stages.append(max(stage, 0))


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
    return [Straight(tuple(loop.before)), Pipeline(tuple(loop.columns)),
            Straight(tuple(loop.after))]
