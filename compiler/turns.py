"""Loops in the order of their turns: what a plan looks like where values pass through windows.

In a plan operations come one after the other, so that each value is there as a whole. In the order
of turns an iteration of a loop goes through all of its operations before the next one begins.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bivit.compiler.code import Pipeline, Straight, Stream
from bivit.compiler.depend import Needs
from bivit.compiler.pipeline import lags_of
from bivit.compiler.structures import Plan
from bivit.hw.isa import Opcode

__all__ = ["Place", "in_turns", "parts_of"]


class Place(NamedTuple):
    """Where an instruction stands: number of its part; in a loop the key of its stream, by which
    streams are in their order, its iteration, its turn, and the operation in a loop whose
    operations come one after the other."""

    part: int
    stream: tuple[int, ...] = ()
    iteration: int = 0
    turn: int = 0
    walk: int = -1


def in_turns(plan: Plan, parts: Sequence[Straight | Pipeline],
             needs: Needs) -> tuple[Plan, list[Place]]:
    """The plan in the order of turns, and the place of each instruction.

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
            return dataclasses.replace(plan, instructions=tuple(
                plan.instructions[index] for _, index in rows)), [place for place, _ in rows]
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


def parts_of(places: Sequence[Place]) -> list[Straight | Pipeline] | None:
    """The parts that instructions in these places make, None if a stream has a gap."""
    rows = {}
    for index, place in enumerate(places):
        rows.setdefault(place.part, {}).setdefault(place.stream, []).append(
            (place.iteration, index))
    parts = []
    for streams in rows.values():
        if () in streams:
            parts.append(Straight(tuple(index for _, index in streams[()])))
            continue
        found = []
        for _, own in sorted(streams.items()):
            begin, indices = own[0][0], tuple(index for _, index in own)
            if [iteration for iteration, _ in own] != list(range(begin, begin + len(own))):
                return None
            found.append(Stream(indices, begin))
        parts.append(Pipeline(tuple(found)))
    return parts
