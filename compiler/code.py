"""A plan as loops and straight code: streams, their order in pipelines, lines of a program."""

import dataclasses
from collections.abc import Iterator, Sequence

from bivit.hw.isa import HEADER, Opcode

__all__ = ["LARGEST_REST", "LARGEST_STAGE", "Code", "Line", "Order", "Pipeline", "Straight",
           "Stream", "looped"]

LARGEST_STAGE = (1 << HEADER["stage"]) - 1
"""Most iterations of a loop before the first in which a stream runs."""
LARGEST_REST = (1 << HEADER["rest"]) - 1
"""Most iterations behind the last one."""


@dataclasses.dataclass(frozen=True)
class Straight:
    """Instructions that follow each other, by their positions in canonical order."""

    instructions: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Stream:
    """One instruction of a loop, iteration by iteration.

    Parameters
    ----------
    indices : tuple of int
        Positions in canonical order.
    begin : int
        Its first iteration.
    """

    indices: tuple[int, ...]
    begin: int = 0

    @property
    def end(self) -> int:
        """The iteration behind its last."""
        return self.begin + len(self.indices)

    def iterations(self) -> Iterator[tuple[int, int]]:
        """Iteration and position of each instruction."""
        return enumerate(self.indices, self.begin)

    def at(self, iteration: int) -> int | None:
        """The instruction of an iteration, or None."""
        return self.indices[iteration - self.begin] if self.begin <= iteration < self.end else None


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Streams that run in one loop, in canonical order.

    Parameters
    ----------
    streams : tuple of Stream
    before : tuple of int
        Instructions in front of the loop.
    """

    streams: tuple[Stream, ...]
    before: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Iterations of the longest streams."""
        return max(stream.end for stream in self.streams)


@dataclasses.dataclass(frozen=True)
class Order:
    """Numbers of streams in their order in the body, and the stage of each stream by its number."""

    body: tuple[int, ...]
    stages: tuple[int, ...]

    def turns(self, streams: Sequence[Stream]) -> int:
        """How often the body runs."""
        return max(stage + stream.end for stage, stream in zip(self.stages, streams, strict=True))

    def guards(self, streams: Sequence[Stream]) -> list[tuple[int, int]]:
        """Turns before the first one of each stream, and behind its last."""
        turns = self.turns(streams)
        return [(stage + stream.begin, turns - stage - stream.end)
                for stage, stream in zip(self.stages, streams, strict=True)]

    def steps(self, streams: Sequence[Stream]):
        """Stream and iteration of every instruction, in the order of execution.

        A skipped one has iteration None; the end of a body is None.
        """
        ranges = [(number, self.stages[number], streams[number].begin, streams[number].end)
                  for number in self.body]
        for turn in range(self.turns(streams)):
            for number, stage, begin, end in ranges:
                iteration = turn - stage
                yield number, iteration if begin <= iteration < end else None
            yield None


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the program without waits; `instruction` is one that it executes, by its number
    in canonical order, or None for what the sequencer does itself."""

    opcode: Opcode
    fields: dict[str, int] = dataclasses.field(default_factory=dict)
    instruction: int | None = None


@dataclasses.dataclass(frozen=True)
class Code:
    """A program without waits.

    Parameters
    ----------
    lines : tuple of Line
    steps : tuple of (line, instruction)
        What runs, in the order of dispatch: the number of the line, and the instruction in
        canonical order that it is this time, or None if it is skipped or the sequencer's own.
    """

    lines: tuple[Line, ...]
    steps: tuple[tuple[int, int | None], ...]


def looped(lines: Sequence[Line]) -> list[bool]:
    """For each line, whether it lies in a loop; LOOP and END do."""
    result, loops = [], 0
    for line in lines:
        loops += line.opcode is Opcode.LOOP
        result.append(loops > 0)
        loops -= line.opcode is Opcode.END and not line.fields["more"]
    return result
