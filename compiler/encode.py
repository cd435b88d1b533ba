"""Eighth pass: wait distances from dependencies, and lines to words."""

from collections.abc import Sequence

import numpy as np

from bivit.compiler.code import Code, looped
from bivit.compiler.depend import Needs
from bivit.compiler.structures import CompileError, Instruction, Plan
from bivit.compiler.wait_kernel import nearest_waits
from bivit.hw.encoding import encode
from bivit.hw.isa import FORMATS, HEADER, UNIT_OF, WAIT_FIELDS, Unit

__all__ = ["encode_program", "wait_distances"]

_LONGEST = (1 << HEADER["wait_mm"]) - 1


def encode_program(plan: Plan, code: Code, waits: Sequence[dict[Unit, int]],
                   ) -> tuple[list[int], tuple[Instruction, ...]]:
    """Words, and what is on each line, with what :func:`wait_distances` gives for it."""
    words, instructions = [], []
    layers = [set() for _ in code.lines]
    for place, index in code.steps:
        if index is not None:
            layers[place].add(plan.instructions[index].layer)
    for place, (line, own) in enumerate(zip(code.lines, waits, strict=True)):
        layer = layers[place].pop() if len(layers[place]) == 1 else None
        fields = line.fields | {WAIT_FIELDS[unit]: distance for unit, distance in own.items()}
        try:
            words.append(encode(line.opcode, **fields))
        except ValueError as error:
            name = plan.layers[plan.instructions[line.instruction or -1].layer].name
            raise CompileError(f"layer {name}: {error}; make the "
                               "network or the memories of the target smaller") from None
        fields = dict.fromkeys(FORMATS[line.opcode], 0) | fields
        instructions.append(Instruction(line.opcode, fields, layer))
    return words, tuple(instructions)


def wait_distances(plan: Plan, code: Code, needs: Needs) -> list[dict[Unit, int]]:
    """For each line, how far back the instructions lie that it waits for.

    A line that runs several times waits as its strictest time asks for, but for what lines outside
    of loops have waited for. Of a line that runs once, a wait that follows from others is left
    out. A distance over the longest becomes that: the instruction then waits for a later one of an
    in-order unit.
    """
    units = [UNIT_OF.get(instruction.opcode, -1) for instruction in plan.instructions]
    sent = [(line, units[index], index) for line, index in code.steps
            if index is not None and units[index] >= 0]
    nearest = nearest_waits(*np.array(sent, np.int64).reshape(-1, 3).T.copy(),
                            np.array(looped(code.lines)), len(Unit), _LONGEST, needs.first,
                            needs.found, needs.hazards)
    return [{Unit(unit): distance for unit, distance in enumerate(row) if distance}
            for row in nearest.tolist()]
