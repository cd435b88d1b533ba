"""A new order of the instructions of a straight program, so that the units overlap.

A list scheduler follows time with the timing that every block states beside its hardware. The next
instruction is the most urgent one (longest way to the end) among those that can start
soonest; how much later a more urgent one may start is tried out, and the shortest program kept.
"""

import numpy as np

from bivit.compiler.code import Code, Line
from bivit.compiler.depend import Needs
from bivit.compiler.schedule_kernel import list_order, urgency_of
from bivit.compiler.structures import Plan
from bivit.compiler.timeline import kinds_of
from bivit.hw.arch import Arch
from bivit.hw.isa import Opcode, Unit

__all__ = ["schedule"]

_PATIENCE = (0, 8, 16, 32)
"""Cycles that the most urgent instruction may start later than the soonest one."""
_TRIED = 2500
"""Instructions to place in all tries together; two tries are always made."""


def schedule(plan: Plan, arch: Arch, needs: Needs) -> Code:
    """A straight program in a good order; equal plans give equal orders."""
    instructions = plan.instructions
    assert instructions[-1].opcode is Opcode.HALT
    kinds, first = kinds_of(arch, instructions)[:-1], needs.first[:-1]
    counts = np.array([not instruction.fields.get("next") for instruction in instructions[:-1]],
                      bool)
    urgency = urgency_of(kinds, first, needs.found, needs.hazards)
    _, starts, taken = min(
        (list_order(kinds, counts, first, needs.found, needs.hazards, urgency, patience, len(Unit))
         for patience in _PATIENCE[:max(2, _TRIED // len(instructions))]),
        key=lambda result: result[0])
    order = [*taken[np.argsort(starts[taken], kind="stable")].tolist(), len(instructions) - 1]
    return Code(tuple(Line(instructions[index].opcode, instructions[index].fields, index)
                      for index in order), tuple(enumerate(order)))
