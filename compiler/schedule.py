"""Fifth pass: a new order of the instructions, so that the units overlap.

A list scheduler follows time with the timing that every block states beside its hardware. The next
instruction is the most urgent one (longest way to the end) among those that can start
soonest; how much later a more urgent one may start is tried out, and the shortest program kept.
"""

import dataclasses
import heapq

from bivit.compiler.depend import dependencies
from bivit.compiler.structures import Plan
from bivit.hw.arch import Arch
from bivit.hw.blocks import load, matmul, softmax, vector
from bivit.hw.isa import UNIT_OF, Opcode, Unit

__all__ = ["Scheduled", "schedule"]

_PATIENCE = (0, 8, 16, 32)
"""Cycles that the most urgent instruction may start later than the soonest one."""
_TRIED = 2500
"""Instructions to place in all tries together; two tries are always made."""
_TIMING = {Unit.LOAD: load.timing, Unit.MM: matmul.timing, Unit.SOFTMAX: softmax.timing,
           Unit.VEC: vector.timing}
_AFTER_DONE = 1  # cycles from done to a pop that waited for it
_DISPATCH = 2  # cycles from dispatch to pop


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A plan in its final order.

    Parameters
    ----------
    plan : Plan
    waits : tuple of dict of int to bool
        Dependencies of each instruction, by positions in the new order; True: must be done.
    cycles : int
        Estimate of when the last instruction is done.
    """

    plan: Plan
    waits: tuple[dict[int, bool], ...]
    cycles: int


def schedule(plan: Plan, arch: Arch) -> Scheduled:
    """Order the instructions; equal plans give equal orders."""
    instructions = plan.instructions
    assert instructions[-1].opcode is Opcode.HALT
    needs = dependencies(instructions, arch)[:-1]
    timings = [_TIMING[UNIT_OF[i.opcode]](arch, i.opcode, i.fields) for i in instructions[:-1]]
    urgency = _urgency(needs, timings)
    cycles, order = min((_List(arch, instructions[:-1], needs, timings, urgency, patience).run()
                         for patience in _PATIENCE[:max(2, _TRIED // len(instructions))]),
                        key=lambda result: result[0])
    position = {index: new for new, index in enumerate(order)}
    waits = tuple({position[other]: hazard for other, hazard in needs[index].items()}
                  for index in order)
    ordered = tuple(instructions[index] for index in order) + (instructions[-1],)
    return Scheduled(dataclasses.replace(plan, instructions=ordered), waits, cycles)


def _urgency(needs, timings):
    """Cycles from the start of each instruction to the end of the last that depends on it."""
    urgency = [done for _, done in timings]
    for index in range(len(needs) - 1, -1, -1):
        for other, hazard in needs[index].items():
            occupancy, done = timings[other]
            way = urgency[index] + (done + _AFTER_DONE if hazard else occupancy)
            urgency[other] = max(urgency[other], way)
    return urgency


class _List:
    """One run of the list scheduler."""

    def __init__(self, arch, instructions, needs, timings, urgency, patience):
        self.arch, self.instructions, self.needs = arch, instructions, needs
        self.timings, self.urgency, self.patience = timings, urgency, patience
        self.units = [UNIT_OF[instruction.opcode] for instruction in instructions]
        self.free = dict.fromkeys(Unit, 0)
        self.drain = 0  # drain cycles of a pass of the last product
        self.last = dict.fromkeys(Unit)  # start of the last instruction of a unit

    def run(self):
        """Estimated cycles and the order."""
        users = [[] for _ in self.instructions]
        missing = [len(need) for need in self.needs]
        for index, need in enumerate(self.needs):
            for other in need:
                users[other].append(index)
        ready_at = [0] * len(missing)
        ready = {unit: [] for unit in Unit}
        for index, count in enumerate(missing):
            if not count:
                ready[self.units[index]].append(index)
        order, end, starts = [], 0, []
        while any(ready.values()):
            start, index = min(self._best(ready[unit], ready_at, unit)
                               for unit in Unit if ready[unit])
            unit = self.units[index]
            ready[unit].remove(index)
            occupancy, done = self._timing(index, start)
            self.free[unit] = start + occupancy
            end = max(end, start + done)
            heapq.heappush(order, (start, len(starts), index))
            starts.append(start)
            for user in users[index]:
                ready_at[user] = max(ready_at[user], start + (
                    done + _AFTER_DONE if self.needs[user][index] else 0))
                missing[user] -= 1
                if not missing[user]:
                    ready[self.units[user]].append(user)
        return end, [index for _, _, index in sorted(order)]

    def _best(self, ready, ready_at, unit):
        """Start and index of the instruction that the unit should take next."""
        soonest = max(self.free[unit], min(ready_at[index] for index in ready))
        limit = soonest + self.patience
        index = max((index for index in ready if ready_at[index] <= limit),
                    key=lambda index: (self.urgency[index], -index))
        return max(self.free[unit], ready_at[index]), index

    def _timing(self, index, start):
        """Occupancy and completion, the drain of the product before included."""
        if self.units[index] is not Unit.MM:
            return self.timings[index]
        opcode, fields = self.instructions[index].opcode, self.instructions[index].fields
        counter = matmul.next_counter(self.drain, start - self.free[Unit.MM])
        self.drain = matmul.drain_of(self.arch, opcode, fields)
        return matmul.timing(self.arch, opcode, fields, counter)
