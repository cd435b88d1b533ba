"""Values of RESID that wait in external memory while there is no room (``docs/memory.md``, 6).

The canonical plan is changed value by value, the one that waits longest first. What is stored is
never stored over: each STORE has a segment of POS words of its own, which later readers fetch.
"""

import collections
import dataclasses

from bivit.compiler.accesses import accesses
from bivit.compiler.lifetimes import lifetimes_of_order
from bivit.compiler.place import place_regions
from bivit.compiler.structures import (
    Address,
    CompileError,
    Instruction,
    Plan,
    Region,
    Segment,
)
from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, AddSource, ASource, BSource, Opcode

__all__ = ["spill"]

_MEMORY = "resid"
_ADDENDS = {"add_addr": "add_src", "add2_addr": "add2_src"}
_FAR = 1 << 40
"""Where a value is put to tell its words from those of others."""
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
        spilled = _Outside(spilled, arch, max(waiting, key=waiting.get)).plan()
    return spilled


def _fits(plan, arch):
    try:
        place_regions(plan, lifetimes_of_order(plan), _MEMORY, arch)
    except CompileError:
        return False
    return True


def _waiting(plan):
    """Words times the longest time between two uses, of values that can be spilled."""
    regions = {region.name: region for region in plan.regions
               if region.memory == _MEMORY and _MARK not in region.name}
    last, longest, operations = {}, dict.fromkeys(regions, 0), collections.defaultdict(set)
    for index, instruction in enumerate(plan.instructions):
        for name in _regions_of(instruction) & regions.keys():
            longest[name] = max(longest[name], index - last.get(name, index))
            operations[name].add((instruction.operation, instruction.iteration))
            last[name] = index
    return {name: wait * regions[name].words for name, wait in longest.items()
            if wait and len(operations[name]) > 1}


def _regions_of(instruction):
    return {value.region for value in instruction.fields.values() if isinstance(value, Address)}


@dataclasses.dataclass(frozen=True)
class _Touch:
    """What an instruction has to do with the value: tiles that it writes, adds (by field) and reads
    otherwise; row groups that it writes, and whether these are all their rows."""

    index: int
    written: range
    added: dict[str, range]
    read: range
    groups: range = range(0)
    whole: bool = False

    @property
    def tiles(self) -> set[int]:
        """All of them."""
        return {*self.written, *self.read}.union(*self.added.values())


class _Outside:
    """The change of one plan for one value.

    A *visit* is what one iteration of one operation does with it without a break. In it, the words
    have a region of their own. Tiles of ``drain_cycles`` words go out and come in as a whole.
    """

    def __init__(self, plan, arch, name):
        self._plan, self._arch, self._name = plan, arch, name
        self._region = next(region for region in plan.regions if region.name == name)
        self._segments = {segment.name: segment for segment in plan.segments}
        self._pixels = next(region.name for region in plan.regions if region.memory == "imem")
        self._regions, self._stored = [], {}  # tile -> segment with its words, and first tile there
        self._before, self._behind = collections.defaultdict(list), collections.defaultdict(list)
        self._changed = {}

    def plan(self) -> Plan:
        """The changed plan."""
        visits = self._visits()
        last = {tile: number for number, visit in enumerate(visits)
                for touch in visit for tile in touch.tiles}
        for number, visit in enumerate(visits):
            self._visit(number, visit, {tile for tile in last if last[tile] > number})
        instructions = []
        for index, instruction in enumerate(self._plan.instructions):
            instructions += [*self._before[index], self._changed.get(index, instruction),
                             *self._behind[index]]
        regions = [region for region in self._plan.regions if region.name != self._name]
        return dataclasses.replace(self._plan, instructions=tuple(instructions),
                                   regions=(*regions, *self._regions),
                                   segments=tuple(self._segments.values()))

    # ---- who touches what ----------------------------------------------------------------------

    def _visits(self):
        visits, last = [], None
        for index, instruction in enumerate(self._plan.instructions):
            if self._name in _regions_of(instruction):
                moment = instruction.operation, instruction.iteration
                if moment != last:
                    visits.append([])
                visits[-1].append(self._touch(index, instruction))
                last = moment
        return visits

    def _touch(self, index, instruction):
        arch, fields = self._arch, instruction.fields
        written, read = (self._tiles(instruction, name, side)
                         for name, side in (("dst_addr", "writes"), ("src_addr", "reads")))
        added = {name: tiles for name in _ADDENDS
                 if (tiles := self._tiles(instruction, name, "reads"))}
        if fields.get("add_tiles") and "add_addr" in added:
            first = fields["add_addr"].offset // arch.drain_cycles
            added["add_addr"] = range(first, first + fields["add_tiles"])
        if not written:
            return _Touch(index, written, added, read)
        low, high = fields["row_lo"], fields["row_hi"]
        return _Touch(index, written, added, read,
                      range(low // arch.post_rows, -(-high // arch.post_rows)),
                      (low, high) == (0, arch.rows))

    def _tiles(self, instruction, field, side):
        """Tiles of the value that an instruction touches by one of its fields."""
        fields = {name: value.offset + (_FAR if value.region == self._name and name == field else 0)
                  if isinstance(value, Address) else value
                  for name, value in instruction.fields.items()}
        touched = accesses(self._arch, instruction.opcode, fields)
        words = [word - _FAR for memory, found in getattr(touched, side)
                 if memory == _MEMORY for word in (found[0], found[-1]) if word >= _FAR // 2]
        size = self._arch.drain_cycles
        return range(min(words) // size, max(words) // size + 1) if words else range(0)

    # ---- one visit -----------------------------------------------------------------------------

    def _visit(self, number, visit, later):
        inside, written = set(), collections.defaultdict(set)  # brought in; row groups by tile
        for touch in visit:
            wanted = set(touch.read)
            if not touch.whole:
                wanted |= set(touch.written) & self._stored.keys()
            for tiles in touch.added.values():
                if written.keys() & set(tiles) or len({
                        self._stored.get(tile) for tile in tiles}) > 1:
                    wanted |= set(tiles)
            inside |= wanted - written.keys()
            for tile in touch.written:
                written[tile] |= set(touch.groups)
        inside |= {tile for tile, groups in written.items()
                   if len(groups) < self._arch.drain_cycles}
        tiles = inside | written.keys()
        low, size = min(tiles, default=0), self._arch.drain_cycles
        region = Region(f"{self._name}{_MARK}{number}", _MEMORY,
                        (max(tiles, default=-1) + 1 - low) * size, self._region.layer)
        if tiles:
            self._regions.append(region)
        first = self._plan.instructions[visit[0].index]
        for run in self._runs(inside):
            self._before[visit[0].index].append(self._bring(first, run, region.name, low))
        present = set(inside)
        for touch in visit:
            self._changed[touch.index] = self._moved(touch, present, region.name, low)
            present |= set(touch.written)
        last = self._plan.instructions[visit[-1].index]
        for run in _consecutive(sorted(written.keys() & later)):
            self._behind[visit[-1].index].append(self._store(last, run, region.name, low, number))

    def _moved(self, touch, present, region, low):
        """The instruction with the words of the visit, or those in POS."""
        instruction = self._plan.instructions[touch.index]
        fields, size = dict(instruction.fields), self._arch.drain_cycles
        for name, value in instruction.fields.items():
            if not isinstance(value, Address) or value.region != self._name:
                continue
            tiles = touch.added.get(name, ())
            if not set(tiles) <= present:
                segment, start = self._stored[tiles[0]]
                fields[name] = Address(segment, value.offset - start * size)
                fields[_ADDENDS[name]] = AddSource.POS.value
            else:
                fields[name] = Address(region, value.offset - low * size)
        return dataclasses.replace(instruction, fields=fields)

    def _runs(self, tiles):
        """Tiles that were stored together and follow each other."""
        for run in _consecutive(sorted(tiles)):
            part = []
            for tile in run:
                if part and self._stored.get(tile) != self._stored.get(part[0]):
                    yield part
                    part = []
                part.append(tile)
            yield part

    def _bring(self, like, run, region, low):
        """Words from POS to RESID: the addend of a product of scale 0; zeros if there are none."""
        size, count = self._arch.drain_cycles, len(run)
        fields = dict.fromkeys(FORMATS[Opcode.MM_ACC], 0) | {
            "a_src": ASource.IMEM.value, "a_addr": Address(self._pixels),
            "b_src": BSource.WEIGHT.value, "b_addr": self._zeros("weight", count),
            "param_addr": self._zeros("scale", count), "n_tiles": count, "k_words": 1,
            "a_planes": 1, "b_planes": 1, "row_hi": self._arch.rows, "sat": self._arch.resid_bits,
            "dst_addr": Address(region, (run[0] - low) * size)}
        if run[0] in self._stored:
            segment, start = self._stored[run[0]]
            fields |= {"add_src": AddSource.POS.value,
                       "add_addr": Address(segment, (run[0] - start) * size)}
        return Instruction(Opcode.MM_ACC, fields, like.layer, operation=like.operation,
                           iteration=like.iteration)

    def _zeros(self, memory, count):
        name = f"zero/{memory}/{count}"
        self._segments.setdefault(name, Segment(name, memory, (0,) * count, self._region.layer))
        return Address(name)

    def _store(self, like, run, region, low, number):
        size = self._arch.drain_cycles
        name, words = f"{self._name}/outside/{number}/{run[0]}", len(run) * size
        self._segments[name] = Segment(name, "pos", (0,) * words, self._region.layer)
        self._stored |= dict.fromkeys(run, (name, run[0]))
        fields = {"src": 0, "src_addr": Address(region, (run[0] - low) * size),
                  "ext_addr": Address(name), "words": words}
        return Instruction(Opcode.STORE, fields, like.layer, operation=like.operation,
                           iteration=like.iteration)


def _consecutive(numbers):
    """Lists of numbers that follow each other."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
