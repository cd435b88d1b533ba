"""Fifth pass: operations over equally many blocks become loops.

A loop is a software pipeline: its streams work on different iterations at the same time. A
stream may join the loop of those before it if what it needs of them lies no more than a few
iterations ahead; all else is a barrier, behind which a new loop begins.
"""

from collections.abc import Callable, Sequence

from bivit.compiler.registers import END_LINES, courses_of, ends_needed
from bivit.compiler.streams import Roll
from bivit.compiler.structures import LARGEST_TAIL, Instruction, Layer, Pipeline, Straight
from bivit.hw.isa import UNIT_OF, Unit

__all__ = ["find_pipelines", "lags_of"]


class _Open:
    """A loop that may still grow; `stages` are those of the canonical order."""

    def __init__(self):
        self.columns, self.stages, self.courses = [], [], []
        self.place = {}  # instruction -> stream, iteration
        self.kinds = set()

    def copy(self):
        """Another one, to try out what would be added."""
        other = _Open()
        for name, value in vars(self).items():
            setattr(other, name, value.copy())
        return other


def find_pipelines(instructions: Sequence[Instruction], rolls: Sequence[Roll],
                   needs: Sequence[dict[int, bool]], layers: Sequence[Layer],
                   has_room: Callable[[Sequence[int]], bool] = lambda indices: True,
                   ) -> list[Straight | Pipeline]:
    """The parts of a program, in the order in which they run.

    Products of binary layers and others are kept apart, so that neither waits for the other.

    Parameters
    ----------
    has_room : callable
        Whether instructions can run in one loop, in canonical order.
    """
    parts, loop = [], None
    for roll in rolls:
        kinds = {layers[instructions[column[0]].layer].binary for column in roll.columns
                 if UNIT_OF[instructions[column[0]].opcode] is Unit.MM}
        if loop and (not roll.columns or len(loop.kinds | kinds) > 1
                     or not has_room(sorted(index for column in (*loop.columns, *roll.columns)
                                            for index in column))
                     or not _fits(loop, roll, instructions, needs)):
            parts.append(Pipeline(tuple(loop.columns)))
            loop = None
        if not roll.columns:
            parts.append(Straight(roll.rest))
            continue
        loop = loop or _Open()
        _add(loop, roll, instructions, needs)
        loop.kinds |= kinds
    return parts + ([Pipeline(tuple(loop.columns))] if loop else [])


def _fits(loop, roll, instructions, needs):
    """Whether a loop has registers for an operation, and nothing is needed that comes too late."""
    if len(roll.columns[0]) != len(loop.columns[0]):
        return False
    for column in roll.columns:
        for iteration, index in enumerate(column):
            for other in needs[index]:
                if other in loop.place:
                    stream, at = loop.place[other]
                    if loop.stages[stream] + at - iteration > LARGEST_TAIL:
                        return False
    trial = loop.copy()
    _add(trial, roll, instructions, needs)
    return ends_needed(trial.courses, trial.stages, len(roll.columns[0])) <= END_LINES


def _add(loop, roll, instructions, needs):
    for column in roll.columns:
        loop.place |= {index: (len(loop.columns), iteration)
                       for iteration, index in enumerate(column)}
        loop.columns.append(column)
        loop.courses.append(courses_of(instructions, column))
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
