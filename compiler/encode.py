"""Sixth pass: wait distances from dependencies, and instructions to words."""

import dataclasses

from bivit.compiler.clock import KnownDone
from bivit.compiler.schedule import Scheduled
from bivit.compiler.structures import CompileError, Instruction
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Opcode, encode

__all__ = ["encode_program"]

_LONGEST = 255


def encode_program(scheduled: Scheduled) -> tuple[list[int], tuple[Instruction, ...]]:
    """Words, and the instructions with their waits.

    A wait that follows from earlier ones is left out. A distance over 255 becomes 255: the
    instruction then waits for a later one of an in-order unit.
    """
    clock, words, instructions = KnownDone(), [], []
    place = {}  # position in the program -> unit, number in the unit
    layers = scheduled.plan.layers
    for position, instruction in enumerate(scheduled.plan.instructions):
        fields = dict(instruction.fields)
        if instruction.opcode is not Opcode.HALT:
            unit = UNIT_OF[instruction.opcode]
            fields |= _waits(scheduled.waits[position], clock, unit, place)
            place[position] = (unit, len(clock.sent[unit]))
            clock.add(position, instruction.opcode, fields)
        try:
            words.append(encode(instruction.opcode, **fields))
        except ValueError as error:
            raise CompileError(f"layer {layers[instruction.layer].name}: {error}; make the "
                               "network or the memories of the target smaller") from None
        instructions.append(dataclasses.replace(instruction, fields=fields))
    return words, tuple(instructions)


def _waits(needs, clock, unit, place):
    """Wait fields for the dependencies that are not known to be met."""
    targets = {}
    for other, hazard in needs.items():
        if hazard:
            kind, number = place[other]
            targets[kind] = max(targets.get(kind, -1), number)
    known, fields = clock.before(unit), {}
    # A target that another wait implies is left out: take the furthest reaching ones first.
    for kind in sorted(targets, key=lambda kind: -clock.sent[kind][targets[kind]]):
        if known[kind] < targets[kind]:
            distance = min(len(clock.sent[kind]) - targets[kind], _LONGEST)
            fields[WAIT_FIELDS[kind]] = distance
            known = clock.waited(known, kind, len(clock.sent[kind]) - distance)
    return fields
