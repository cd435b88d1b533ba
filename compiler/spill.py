"""Values of RESID that wait in external memory in a straight program (``docs/memory.md``, 6).

The canonical plan is changed value by value, the one that waits longest first. What is stored is
never stored over: each STORE has a segment of POS words of its own, which later readers fetch.
"""

import collections
import dataclasses

from bivit.compiler.lifetimes import lifetimes_of_order
from bivit.compiler.outside import MEMORY, Outside
from bivit.compiler.place import place_regions
from bivit.compiler.structures import Address, CompileError, Plan, Region, Segment
from bivit.hw.arch import Arch

__all__ = ["spill"]

_MARK = "/moment/"
"""In the names of the regions that take the place of a spilled value."""


def spill(plan: Plan, arch: Arch) -> Plan:
    """The plan with as many values outside as it takes for RESID to have room.

    If it has none even so, the plan stays as it is; placement then says what is missing.
    """
    spilled = plan
    while not _fits(spilled, arch):
        waiting = _waiting(spilled)
        if not waiting:
            return plan
        spilled = _Moments(spilled, arch, max(waiting, key=waiting.get)).changed_plan()
    return spilled


def _fits(plan, arch):
    try:
        place_regions(plan, lifetimes_of_order(plan), MEMORY, arch)
    except CompileError:
        return False
    return True


def _waiting(plan):
    """Words times the longest time between two uses, of values that can be spilled."""
    regions = {region.name: region for region in plan.regions
               if region.memory == MEMORY and _MARK not in region.name}
    last, longest, operations = {}, dict.fromkeys(regions, 0), collections.defaultdict(set)
    for index, instruction in enumerate(plan.instructions):
        for name in instruction.regions & regions.keys():
            longest[name] = max(longest[name], index - last.get(name, index))
            operations[name].add((instruction.operation, instruction.iteration))
            last[name] = index
    return {name: wait * regions[name].words for name, wait in longest.items()
            if wait and len(operations[name]) > 1}


class _Moments(Outside):
    """A moment is one iteration of one operation; each visit has a region of its own."""

    def changed_plan(self) -> Plan:
        """The plan with the value outside."""
        visits = self.visits(self._moment)
        self.change(visits)
        instructions = []
        for index, instruction in enumerate(self.plan.instructions):
            instructions += [*self.before[index], self.changed.get(index, instruction),
                             *self.behind[index]]
        regions = [region for region in self.plan.regions if region.name != self.name]
        size = self.arch.drain_cycles
        regions += [Region(self._own(visit), MEMORY,
                           (max(visit.present) + 1 - min(visit.present)) * size,
                           self.region.layer) for visit in visits if visit.present]
        return dataclasses.replace(self.plan, instructions=tuple(instructions),
                                   regions=tuple(regions), segments=tuple(self.segments.values()))

    def _moment(self, index):
        instruction = self.plan.instructions[index]
        return instruction.operation, instruction.iteration

    def _own(self, visit):
        return f"{self.name}{_MARK}{visit.number}"

    def window(self, visit, tile):
        return Address(self._own(visit), (tile - min(visit.present)) * self.arch.drain_cycles)

    def addend(self, visit, tile):
        segment, first = visit.stored[tile]
        return Address(segment, (tile - first) * self.arch.drain_cycles)

    def stored(self, number, run):
        name, words = f"{self.name}/outside/{number}/{run[0]}", len(run) * self.arch.drain_cycles
        self.segments[name] = Segment(name, "pos", (0,) * words, self.region.layer)
        return name, run[0]

    def beats(self, visit, run):
        return Address(f"{self.name}/outside/{visit.number}/{run[0]}")
