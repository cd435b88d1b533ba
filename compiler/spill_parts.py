"""Values of RESID that pass through windows in a program with loops (``docs/memory.md``, 6).

In each part of a program, a value of which a turn of a loop needs little has a ring of a few places
there, the windows. Words come in through a ring in POS and go out by STORE, turn by turn, to words
that are the value's own in external memory; what nothing needs in a later turn stays inside.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence

from bivit.compiler.code import Pipeline, Straight
from bivit.compiler.depend import Needs
from bivit.compiler.lifetimes import lifetimes_of_loops
from bivit.compiler.outside import MEMORY, Outside
from bivit.compiler.place import place_regions, spread
from bivit.compiler.rings import in_rings
from bivit.compiler.stream_rolls import SHARE
from bivit.compiler.structures import Address, Plan, Region, TooSmall
from bivit.compiler.touched import touched_words
from bivit.compiler.turns import RING, Turned, in_turns
from bivit.hw.arch import Arch
from bivit.hw.blocks.fetch import port_beats
from bivit.hw.isa import ConstantMemory, Opcode
from bivit.hw.memories import fetched_memories

__all__ = ["PLACES", "tightened"]

PLACES = (4, 3, 2)
"""Places of a ring that are tried if one is enough: more of them let turns overlap."""


def tightened(plan: Plan, parts: Sequence[Straight | Pipeline], needs: Needs, arch: Arch,
              count: int) -> tuple[Turned, bool]:
    """The plan with as many values in rings of `count` places, and outside, as it takes for all
    memories to have room; and whether they have."""
    turned = in_turns(plan, parts, needs)
    few = _few(turned, arch)
    for memory in few:
        turned = in_rings(turned, arch, memory, count)
    if few:
        few = _few(turned, arch)
    kept = set()  # values that are needed as a whole
    while MEMORY in few and fetched_memories(arch):
        waiting = {name: wait for name, wait in _waiting(turned).items() if name not in kept}
        if not waiting:
            break
        name = max(waiting, key=waiting.get)
        changed = _Windows(turned, arch, name, count).turned()
        if changed is None or changed.rings()[1] * SHARE > arch.pos_depth:
            kept.add(name)
        else:
            turned, few = changed, _few(changed, arch)
    return turned, not few


def _few(turned, arch):
    """Memories without room for their values."""
    apart, before = spread(turned.plan)
    touched = touched_words(apart.instructions, arch, share_sums=False)
    lifetimes = lifetimes_of_loops(turned.plan, turned.parts, touched, before)
    found = []
    for memory in dict.fromkeys(region.memory for region in turned.plan.regions):
        try:
            place_regions(turned.plan, lifetimes, memory, arch)
        except TooSmall:
            found.append(memory)
    return found


def _waiting(turned):
    """By value, words times the most parts from one use to the next."""
    regions = {region.name: region for region in turned.plan.regions
               if region.memory == MEMORY and RING not in region.name}
    last, longest, turns = {}, dict.fromkeys(regions, 1), collections.defaultdict(set)
    for instruction, place in zip(turned.plan.instructions, turned.places, strict=True):
        for name in instruction.regions & regions.keys():
            longest[name] = max(longest[name], place.part - last.get(name, place.part) + 1)
            last[name] = place.part
            turns[name].add((place.part, place.turn))
    return {name: wait * regions[name].words for name, wait in longest.items()
            if len(turns[name]) > 1}


class _Windows(Outside):
    """A moment is a turn of a loop, or one iteration of one operation elsewhere."""

    def __init__(self, turned, arch, name, count):
        super().__init__(turned.plan, arch, name)
        self._places, self._count = turned.places, count
        self._first = turned.words  # of the value outside
        self._width = port_beats(arch, "pos")
        self._slots = {}  # by number of a visit: its place in its rings
        self._sizes = {}  # by ring: places, and tiles of a place in RESID and in POS

    def turned(self) -> Turned | None:
        """What there was, with the value outside; None if loops do not stay loops, or nothing is
        gained."""
        visits = self.visits(self._moment)
        self._size(visits)
        rings = self._rings()
        if min(ring.words for ring in rings if ring.memory == MEMORY) >= self.region.words:
            return None
        self.change(visits)
        instructions, places = [], []
        for index, place in enumerate(self._places):
            for side, own in ((-1, self.before[index]),
                              (0, [self.changed_at(index)]), (1, self.behind[index])):
                instructions += own
                places += [place._replace(stream=place.stream and (
                    place.stream[0], side, self._first, number) if side else place.stream)
                    for number in range(len(own))]
        plan = dataclasses.replace(
            self.plan, instructions=tuple(instructions), segments=tuple(self.segments.values()),
            regions=(*(region for region in self.plan.regions if region is not self.region),
                     *rings))
        turned = Turned(plan, places, self._first + self.region.words)
        return None if turned.broken() else turned

    def changed_at(self, index):
        """The instruction that is there now."""
        return self.changed.get(index, self.plan.instructions[index])

    def _moment(self, index):
        place, instruction = self._places[index], self.plan.instructions[index]
        if place.stream:
            return place.part, place.walk, place.turn
        return place.part, instruction.operation, instruction.iteration

    def needed(self, rows):
        """In a loop all turns are alike: if one has tiles to store, all store what they write."""
        found = super().needed(rows)
        walks = [(place.part, place.walk) if place.stream else None
                 for place in (self._places[row[0].index] for row in rows)]
        storing = {walk for walk, row, needed in zip(walks, rows, found, strict=True)
                   if walk and any(needed & set(touch.written) for touch in row)}
        return [{tile for touch in row for tile in touch.tiles} if walk in storing else needed
                for walk, row, needed in zip(walks, rows, found, strict=True)]

    # ---- rings ---------------------------------------------------------------------------------

    def _size(self, visits):
        """Give each visit its place in the rings of its part."""
        for key, own in itertools.groupby(visits, self._ring):
            own = list(own)
            begin = self._place(own[0]).turn
            for number, visit in enumerate(own):
                place = self._place(visit)
                turn = place.turn - begin if place.stream else number
                self._slots[visit.number] = turn % self._count
            used = 1 + max(self._slots[visit.number] for visit in own)
            self._sizes[key] = used, *(max(map(_span, tiles)) for tiles in (
                [visit.present for visit in own], [visit.added for visit in own]))

    def _place(self, visit):
        return self._places[visit.touches[0].index]

    def _ring(self, visit):
        """What the name of the rings of a visit ends in."""
        place = self._place(visit)
        return f"{RING}{place.part}/{place.walk}/"

    def _rings(self):
        """Regions of the rings."""
        return [Region(f"{self.name}{ring}{memory}", memory,
                       used * tiles * self.arch.drain_cycles, self.region.layer)
                for ring, (used, *sizes) in self._sizes.items()
                for memory, tiles in zip((MEMORY, "pos"), sizes, strict=True) if tiles]

    def _word(self, visit, tile, memory, tiles):
        ring = self._ring(visit)
        size = self._sizes[ring][1 if memory == MEMORY else 2]
        return Address(f"{self.name}{ring}{memory}",
                       (self._slots[visit.number] * size + tile - min(tiles))
                       * self.arch.drain_cycles)

    def window(self, visit, tile):
        return self._word(visit, tile, MEMORY, visit.present)

    def addend(self, visit, tile):
        return self._word(visit, tile, "pos", visit.added)

    # ---- outside -------------------------------------------------------------------------------

    def stored(self, number, run):
        return ()

    def beats(self, visit, run):
        return (self._first + run[0] * self.arch.drain_cycles) * self._width

    def fetched(self, visit):
        return [self.beside(visit.touches[0], Opcode.FETCH, {
            "memory": ConstantMemory.POS.value, "ext_addr": self.beats(visit, run),
            "const_addr": self.addend(visit, run[0]), "words": len(run) * self.arch.drain_cycles})
            for run in self.runs(visit.added)]


def _span(tiles):
    return max(tiles) + 1 - min(tiles) if tiles else 0
