"""A new order of the instructions of a straight program, so that the units overlap.

A list scheduler follows time with the timing that every block states beside its hardware. The next
instruction is the most urgent one (longest way to the end) among those that can start
soonest; how much later a more urgent one may start is tried out, and the shortest program kept.
"""

import heapq
from collections.abc import Sequence

from bivit.compiler.code import Code, Line
from bivit.compiler.structures import Plan
from bivit.compiler.timeline import duration
from bivit.hw.arch import Arch
from bivit.hw.blocks import matmul
from bivit.hw.isa import UNIT_OF, Opcode, Unit

__all__ = ["schedule"]

_PATIENCE = (0, 8, 16, 32)
"""Cycles that the most urgent instruction may start later than the soonest one."""
_TRIED = 2500
"""Instructions to place in all tries together; two tries are always made."""
_AFTER_DONE = 1  # cycles from done to a pop that waited for it


def schedule(plan: Plan, arch: Arch, needs: Sequence[dict[int, bool]]) -> Code:
    """A straight program in a good order; equal plans give equal orders."""
    instructions = plan.instructions
    assert instructions[-1].opcode is Opcode.HALT
    needs = list(needs)[:-1]
    timings = [duration(arch, i.opcode, i.fields) for i in instructions[:-1]]
    urgency = _urgency(needs, timings)
    _, order = min((_List(arch, instructions[:-1], needs, timings, urgency, patience).run()
                    for patience in _PATIENCE[:max(2, _TRIED // len(instructions))]),
                   key=lambda result: result[0])
    order.append(len(instructions) - 1)
    return Code(tuple(Line(instructions[index].opcode, instructions[index].fields, index)
                      for index in order), tuple(enumerate(order)))


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
        self.ready_at = [0] * len(instructions)
        self.ready = {unit: _Ready(self.ready_at, urgency) for unit in Unit}

    def run(self):
        """Estimated cycles and the order."""
        users = [[] for _ in self.instructions]
        missing = [len(need) for need in self.needs]
        for index, need in enumerate(self.needs):
            for other in need:
                users[other].append(index)
        for index, count in enumerate(missing):
            if not count:
                self.ready[self.units[index]].add(index)
        order, end = [], 0
        while True:
            found = [self._best(unit) for unit in Unit if self.ready[unit].count]
            if not found:
                break
            start, index = min(found)
            self.ready[self.units[index]].take(index)
            occupancy, done = self._timing(index, start)
            self.free[self.units[index]] = start + occupancy
            if not self.instructions[index].fields.get("next"):
                end = max(end, start + done)
            order.append((start, len(order), index))
            for user in users[index]:
                self.ready_at[user] = max(self.ready_at[user], start + (
                    done + _AFTER_DONE if self.needs[user][index] else 0))
                missing[user] -= 1
                if not missing[user]:
                    self.ready[self.units[user]].add(user)
        return end, [index for _, _, index in sorted(order)]

    def _best(self, unit):
        """Start and index of the instruction that the unit should take next."""
        free, ready = self.free[unit], self.ready[unit]
        index = ready.most_urgent(max(free, ready.soonest()) + self.patience)
        return max(free, self.ready_at[index]), index

    def _timing(self, index, start):
        """Occupancy and completion, the drain of the product before included."""
        if self.units[index] is not Unit.MM:
            return self.timings[index]
        opcode, fields = self.instructions[index].opcode, self.instructions[index].fields
        counter = matmul.next_counter(self.drain, start - self.free[Unit.MM])
        self.drain = matmul.drain_of(self.arch, opcode, fields)
        return matmul.timing(self.arch, opcode, fields, counter)


class _Ready:
    """Instructions of one unit whose dependencies have all started.

    Heaps of them: by when each may start, and those that may start before a limit by urgency. One
    that was taken stays in a heap until it is at the top.
    """

    def __init__(self, ready_at, urgency):
        self._ready_at, self._urgency = ready_at, urgency
        self._all, self._late, self._early = [], [], []
        self._present = set()

    @property
    def count(self):
        return len(self._present)

    def add(self, index):
        entry = self._ready_at[index], index
        self._present.add(index)
        heapq.heappush(self._all, entry)
        heapq.heappush(self._late, entry)

    def take(self, index):
        self._present.remove(index)

    def soonest(self):
        """When the first of them may start."""
        while self._all[0][1] not in self._present:
            heapq.heappop(self._all)
        return self._all[0][0]

    def most_urgent(self, limit):
        """The most urgent of those that may start at `limit`; the first of equals."""
        while self._late and self._late[0][0] <= limit:
            _, index = heapq.heappop(self._late)
            heapq.heappush(self._early, (-self._urgency[index], index))
        while True:
            index = self._early[0][1]
            if index in self._present and self._ready_at[index] <= limit:
                return index
            heapq.heappop(self._early)
            if index in self._present:
                heapq.heappush(self._late, (self._ready_at[index], index))
