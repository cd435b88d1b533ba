"""One value of RESID that waits in external memory: what becomes of the instructions that touch it.

A *visit* is what is done with it in one moment without a break. In it the words have a place of
their own; tiles of ``drain_cycles`` words go out and come in as a whole.
"""

import collections
import dataclasses
from collections.abc import Iterator

from bivit.compiler.accesses import accesses
from bivit.compiler.structures import Address, Instruction, Plan, Segment
from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, AddSource, ASource, BSource, Opcode

__all__ = ["MEMORY", "Outside", "Visit"]

MEMORY = "resid"
"""Where such values are otherwise."""
_ADDENDS = {"add_addr": "add_src", "add2_addr": "add2_src"}
_FAR = 1 << 40
"""Where a value is put to tell its words from those of others."""
_LONGEST = (1 << FORMATS[Opcode.STORE]["words"]) - 1


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


@dataclasses.dataclass(frozen=True)
class Visit:
    """One of them.

    Parameters
    ----------
    number : int
    touches : list of _Touch
    inside, written, out : set of int
        Tiles that are brought into RESID first, that it writes, and that go out behind it.
    stored : dict of int to tuple
        Where the tiles that are outside before it lie: what :meth:`Outside.stored` gave.
    """

    number: int
    touches: list[_Touch]
    inside: set[int]
    written: set[int]
    out: set[int]
    stored: dict[int, tuple]

    @property
    def present(self) -> set[int]:
        """Tiles that have words in RESID."""
        return self.inside | self.written

    @property
    def added(self) -> set[int]:
        """Tiles that are read from POS: of addends, and to bring them in."""
        found, present = self.inside & self.stored.keys(), set(self.inside)
        for touch in self.touches:
            found = found.union(*(tiles for tiles in touch.added.values()
                                  if not set(tiles) <= present))
            present |= set(touch.written)
        return found


class Outside:
    """The change of one plan for one value.

    Where visits find its words is said by `window` (in RESID), `addend` (in POS) and `stored`
    (outside); what comes before they are read, by `fetched`.
    """

    def __init__(self, plan: Plan, arch: Arch, name: str):
        self.plan, self.arch, self.name = plan, arch, name
        self.region = next(region for region in plan.regions if region.name == name)
        self.segments = {segment.name: segment for segment in plan.segments}
        self.before, self.behind = collections.defaultdict(list), collections.defaultdict(list)
        self.changed = {}
        self._pixels = next(region.name for region in plan.regions if region.memory == "imem")

    def window(self, visit: Visit, tile: int) -> Address:
        """Words of a tile in RESID."""
        raise NotImplementedError

    def addend(self, visit: Visit, tile: int) -> Address:
        """Words of a tile in POS."""
        raise NotImplementedError

    def stored(self, number: int, run: list[int]) -> tuple:
        """Where tiles lie that a visit, by its number, stores together."""
        raise NotImplementedError

    def beats(self, visit: Visit, run: list[int]) -> Address | int:
        """The first beat of tiles that are stored together."""
        raise NotImplementedError

    def needed(self, rows: list[list[_Touch]]) -> list[set[int]]:
        """Tiles of each visit that later ones need."""
        last = {tile: number for number, row in enumerate(rows)
                for touch in row for tile in touch.tiles}
        return [{tile for touch in row for tile in touch.tiles if last[tile] > number}
                for number, row in enumerate(rows)]

    def fetched(self, visit: Visit) -> list[Instruction]:
        """What brings words into POS before a visit."""
        return []

    def change(self, visits: list[Visit]) -> None:
        """Fill `before`, `behind` and `changed`, all by the index of an instruction."""
        for visit in visits:
            first, last = visit.touches[0].index, visit.touches[-1].index
            self.before[first] += self.fetched(visit)
            for run in self._stored_runs(visit.inside, visit.stored):
                self.before[first].append(self._bring(visit, run))
            present = set(visit.inside)
            for touch in visit.touches:
                self.changed[touch.index] = self._moved(visit, touch, present)
                present |= set(touch.written)
            for run in self.runs(visit.out):
                self.behind[last].append(self._store(visit, run))

    # ---- who touches what ----------------------------------------------------------------------

    def visits(self, moment) -> list[Visit]:
        """All visits; `moment` gives that of the instruction of an index."""
        rows, last = [], None
        for index, instruction in enumerate(self.plan.instructions):
            if self.name in instruction.regions:
                if (now := moment(index)) != last:
                    rows.append([])
                rows[-1].append(self._touch(index, instruction))
                last = now
        found, outside = [], {}
        for number, (row, needed) in enumerate(zip(rows, self.needed(rows), strict=True)):
            inside, written = self._tiles_of(row, outside)
            out = written & needed
            own = {tile: outside[tile] for touch in row for tile in touch.tiles & outside.keys()}
            found.append(Visit(number, row, inside, written, out, own))
            for run in self.runs(out):
                outside |= dict.fromkeys(run, self.stored(number, run))
        return found

    def _touch(self, index, instruction):
        arch, fields = self.arch, instruction.fields
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
        fields = {name: value.offset + (_FAR if value.region == self.name and name == field else 0)
                  if isinstance(value, Address) else value
                  for name, value in instruction.fields.items()}
        touched = accesses(self.arch, instruction.opcode, fields)
        words = [word - _FAR for memory, found in getattr(touched, side)
                 if memory == MEMORY for word in (found[0], found[-1]) if word >= _FAR // 2]
        size = self.arch.drain_cycles
        return range(min(words) // size, max(words) // size + 1) if words else range(0)

    def _tiles_of(self, touches, outside):
        """Tiles that must be brought in for a visit, and those that it writes."""
        inside, written = set(), collections.defaultdict(set)  # row groups by tile
        for touch in touches:
            wanted = set(touch.read)
            if not touch.whole:
                wanted |= set(touch.written) & outside.keys()
            for tiles in touch.added.values():
                if written.keys() & set(tiles) or len({outside.get(tile) for tile in tiles}) > 1:
                    wanted |= set(tiles)
            inside |= wanted - written.keys()
            for tile in touch.written:
                written[tile] |= set(touch.groups)
        inside |= {tile for tile, groups in written.items()
                   if len(groups) < self.arch.drain_cycles}
        return inside, set(written)

    # ---- what becomes of them ------------------------------------------------------------------

    def _moved(self, visit, touch, present):
        """The instruction with the words of the visit, or those in POS."""
        instruction, size = self.plan.instructions[touch.index], self.arch.drain_cycles
        fields = dict(instruction.fields)
        for name, value in instruction.fields.items():
            if not isinstance(value, Address) or value.region != self.name:
                continue
            tile, word = divmod(value.offset, size)
            if set(touch.added.get(name, ())) <= present:
                fields[name] = self.window(visit, tile).plus(word)
            else:
                fields[name] = self.addend(visit, tile).plus(word)
                fields[_ADDENDS[name]] = AddSource.POS.value
        return dataclasses.replace(instruction, fields=fields)

    def _bring(self, visit, run):
        """Words from POS to RESID: the addend of a product of scale 0; zeros if there are none."""
        count = len(run)
        fields = dict.fromkeys(FORMATS[Opcode.MM_ACC], 0) | {
            "a_src": ASource.IMEM.value, "a_addr": Address(self._pixels),
            "b_src": BSource.WEIGHT.value, "b_addr": self._zeros("weight", count),
            "param_addr": self._zeros("scale", count), "n_tiles": count, "k_words": 1,
            "a_planes": 1, "b_planes": 1, "row_hi": self.arch.rows, "sat": self.arch.resid_bits,
            "dst_addr": self.window(visit, run[0])}
        if run[0] in visit.stored:
            fields |= {"add_src": AddSource.POS.value, "add_addr": self.addend(visit, run[0])}
        return self.beside(visit.touches[0], Opcode.MM_ACC, fields)

    def _store(self, visit, run):
        return self.beside(visit.touches[-1], Opcode.STORE, {
            "src": 0, "src_addr": self.window(visit, run[0]), "ext_addr": self.beats(visit, run),
            "words": len(run) * self.arch.drain_cycles})

    def beside(self, touch: _Touch, opcode: Opcode, fields: dict) -> Instruction:
        """An instruction of the layer and the operation of another one."""
        like = self.plan.instructions[touch.index]
        return Instruction(opcode, fields, like.layer, operation=like.operation,
                           iteration=like.iteration, group=like.group)

    def _zeros(self, memory, count):
        name = f"zero/{memory}/{count}"
        self.segments.setdefault(name, Segment(name, memory, (0,) * count, self.region.layer))
        return Address(name)

    def _stored_runs(self, tiles, outside) -> Iterator[list[int]]:
        """Tiles that were stored together and follow each other."""
        for run in self.runs(tiles):
            part = []
            for tile in run:
                if part and outside.get(tile) != outside.get(part[0]):
                    yield part
                    part = []
                part.append(tile)
            yield part

    def runs(self, tiles) -> list[list[int]]:
        """Runs of tiles that follow each other, as long as one STORE takes."""
        longest, runs = _LONGEST // self.arch.drain_cycles, []
        for tile in sorted(tiles):
            if runs and runs[-1][-1] + 1 == tile and len(runs[-1]) < longest:
                runs[-1].append(tile)
            else:
                runs.append([tile])
        return runs
