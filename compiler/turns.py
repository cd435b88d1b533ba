"""Loops in the order of their turns: what a plan looks like where values pass through windows.

In a plan operations come one after the other, so that each value is there as a whole. In the order
of turns an iteration of a loop goes through all of its operations before the next one begins.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bivit.compiler.code import Pipeline, Straight, Stream
from bivit.compiler.depend import Needs
from bivit.compiler.pipeline import lags_of
from bivit.compiler.place import spread
from bivit.compiler.streams import fixed_fields, has_courses
from bivit.compiler.structures import Plan
from bivit.hw.isa import Opcode

__all__ = ["RING", "Place", "Turned", "in_turns"]

RING = "/ring/"
"""In the names of rings, behind that of their value."""


class Place(NamedTuple):
    """Where an instruction stands: number of its part; in a loop the key of its stream, by which
    streams are in their order, its iteration, its turn, and the operation in a loop whose
    operations come one after the other."""

    part: int
    stream: tuple[int, ...] = ()
    iteration: int = 0
    turn: int = 0
    walk: int = -1

    @property
    def in_turns(self) -> bool:
        """Whether it stands in a loop in the order of turns."""
        return bool(self.stream) and self.walk < 0


@dataclasses.dataclass(frozen=True)
class Turned:
    """A plan in the order of turns.

    Parameters
    ----------
    plan : Plan
    places : list of Place
        Of its instructions.
    words : int
        What values outside take of external memory, from its start on, as words of POS.
    """

    plan: Plan
    places: list[Place]
    words: int = 0

    @functools.cached_property
    def parts(self) -> list[Straight | Pipeline]:
        """The parts of the program; of a stream with gaps, what is there."""
        parts = []
        for streams in self._streams():
            if () in streams:
                parts.append(Straight(tuple(index for _, index in streams[()])))
            else:
                parts.append(Pipeline(tuple(
                    Stream(tuple(index for _, index in own), own[0][0])
                    for _, own in sorted(streams.items()))))
        return parts

    def _streams(self):
        """For each part iterations and indices of the instructions by stream."""
        rows = {}
        for index, place in enumerate(self.places):
            rows.setdefault(place.part, {}).setdefault(place.stream, []).append(
                (place.iteration, index))
        return rows.values()

    def broken(self) -> set[str]:
        """What is touched by streams that are none: with gaps, unlike instructions or a field
        without a course; and "" if there are any that touch nothing."""
        instructions, found = spread(self.plan)[0].instructions, set()
        for streams in self._streams():
            for own in (own for key, own in streams.items() if key):
                iterations, indices = zip(*own, strict=True)
                begin = iterations[0]
                if (iterations != tuple(range(begin, begin + len(own)))
                        or len({fixed_fields(instructions[index]) for index in indices}) > 1
                        or not has_courses(instructions, indices)):
                    found |= {""}.union(*(self.plan.instructions[index].regions
                                          for index in indices))
        return found

    def rings(self) -> tuple[dict[str, int], int]:
        """Place of each ring in POS, those of a part behind each other; and words of them all."""
        words = {region.name: region.words for region in self.plan.regions
                 if region.memory == "pos"}
        found, ends = {}, collections.Counter()
        for instruction, place in zip(self.plan.instructions, self.places, strict=True):
            for name in sorted(instruction.regions & words.keys() - found.keys()):
                found[name] = ends[place.part]
                ends[place.part] += words[name]
        return found, max(ends.values(), default=0)

    def placed(self, plan: Plan, first: int) -> Plan:
        """A plan of the same values with numbers for the words of the rings in POS, which lie from
        word `first` on."""
        rings, _ = self.rings()
        instructions = []
        for instruction, addresses in zip(plan.instructions, plan.addresses, strict=True):
            fields = {name: first + rings[address.region] + address.offset
                      for name, address in addresses if address.region in rings}
            instructions.append(instruction.with_fields(instruction.fields | fields)
                                if fields else instruction)
        return dataclasses.replace(
            plan, instructions=tuple(instructions),
            regions=tuple(region for region in plan.regions if region.memory != "pos"))


def in_turns(plan: Plan, parts: Sequence[Straight | Pipeline],
             needs: Needs) -> Turned:
    """The plan in the order of turns.

    Loops in which something would come before what it needs stay as they are.
    """
    whole = {number for number, part in enumerate(parts)
             if isinstance(part, Pipeline) and not _sums_together(plan, part, _stages(part, needs))}
    while True:
        rows = [row for number, part in enumerate(parts)
                for row in _rows(plan, number, part, None if number in whole else needs)]
        order = np.array([index for _, index in rows])
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        owners = np.repeat(position, np.diff(needs.first))
        early = {rows[owner][0].part for owner in owners[position[needs.found] > owners]}
        if not early:
            return Turned(dataclasses.replace(plan, instructions=tuple(
                plan.instructions[index] for _, index in rows)), [place for place, _ in rows])
        assert not early & whole, "a plan has its instructions in an order that is wrong"
        whole |= early


def _rows(plan, number, part, needs):
    """Place and index of the instructions of a part; of a loop in turns if there are `needs`."""
    if isinstance(part, Straight):
        return [(Place(number), index) for index in part.instructions]
    stages = _stages(part, needs) if needs else [0] * len(part.streams)
    rows = [(Place(number, (key, 0), iteration, stage + iteration,
                   -1 if needs else plan.instructions[index].operation), index)
            for key, (stage, stream) in enumerate(zip(stages, part.streams, strict=True))
            for iteration, index in stream.iterations()]
    return sorted(rows, key=lambda row: (row[0].turn, row[0].stream) if needs else row[1])


def _stages(loop, needs):
    """Turns by which each stream is behind its iterations: none less than those before it."""
    stages, lags = [], lags_of(loop, needs)
    for stream in range(len(loop.streams)):
        stages.append(max([stages[-1] if stages else 0, *(
            stages[producer] + lag for (producer, consumer), lag in lags.items()
            if consumer == stream and producer < stream)]))
    return stages


def _sums_together(plan, loop, stages):
    """Whether operations begin, change and end their sums in one turn: all share them."""
    own = {}
    for stage, stream in zip(stages, loop.streams, strict=True):
        first = plan.instructions[stream.indices[0]]
        if first.opcode in (Opcode.ROWS_ADD, Opcode.ROWS_OUT):
            own.setdefault(first.operation, set()).add(stage)
    return all(len(found) == 1 for found in own.values())
