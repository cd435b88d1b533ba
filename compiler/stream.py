"""Constants that come from external memory while the network runs: FETCH in the plan.

What an instruction reads of a constant memory at once is a range. Ranges that overlap make a piece;
small pieces behind each other are one. A piece lies in its memory from a FETCH to its last reader,
for each run of consecutive operations that read it.
"""

import collections
import dataclasses

from bivit.compiler.accesses import CONSTANTS
from bivit.compiler.constant_reads import constant_reads
from bivit.compiler.external import external_image, fetches
from bivit.compiler.place import first_gap
from bivit.compiler.structures import Address, Plan, TooSmall
from bivit.hw.arch import Arch
from bivit.hw.blocks.fetch import port_beats
from bivit.hw.isa import Opcode
from bivit.hw.memories import memories

__all__ = ["stream"]

_SMALL = 16
"""A piece smaller than this part of its memory takes the next one in."""


@dataclasses.dataclass
class _Piece:
    """Words `low` to `high` of a segment, read by instructions `first` to `last`."""

    segment: str
    memory: str
    low: int
    high: int
    first: int
    last: int

    @property
    def words(self):
        return self.high - self.low


def stream(plan: Plan, arch: Arch) -> tuple[Plan, bytes]:
    """The plan with its FETCHes, and with places for all constants; and the image.

    Raises
    ------
    TooSmall
        If constants that are needed at the same time have no room.
    """
    beats, image = external_image(plan.segments, arch)
    stored, plan = _stored(plan.instructions), _with_beats(plan, beats, arch)
    pieces = sorted(_pieces(plan, arch), key=lambda piece: (piece.first, piece.memory, piece.low))
    begins = _begins(plan.instructions)
    fetched, places = collections.defaultdict(list), {}
    for memory in CONSTANTS:
        own = [piece for piece in pieces if piece.memory == memory]
        found = _place(own, begins, stored, plan, arch)
        for piece, (position, start) in zip(own, found, strict=True):
            fetched[position].append((piece, start))
            places.setdefault(piece.segment, []).append((piece, start))
    instructions = []
    for index, instruction in enumerate(plan.instructions):
        for piece, start in sorted(fetched[index], key=lambda fetch: fetch[0].first):
            beat = beats[piece.segment] + piece.low * port_beats(arch, piece.memory)
            reader = dataclasses.replace(plan.instructions[piece.first],
                                         operation=instruction.operation)
            instructions += fetches(arch, piece.memory, beat, start, piece.words, reader)
        instructions.append(_with_places(instruction, index, places))
    return dataclasses.replace(plan, instructions=tuple(instructions), segments=()), image


def _stored(instructions):
    """Index behind the STORE of each spilled segment."""
    return {instruction.fields["ext_addr"].region: index + 1
            for index, instruction in enumerate(instructions)
            if instruction.opcode is Opcode.STORE}


def _with_beats(plan, beats, arch):
    """STOREs with the beats of their segments."""
    def changed(instruction):
        if instruction.opcode is not Opcode.STORE:
            return instruction
        return dataclasses.replace(instruction, fields=instruction.fields | {
            "ext_addr": beats[instruction.fields["ext_addr"].region]})
    return dataclasses.replace(plan, instructions=tuple(map(changed, plan.instructions)))


def _begins(instructions):
    """Index of the first instruction of each operation, in canonical order."""
    begins = {}
    for index, instruction in enumerate(instructions):
        begins.setdefault(instruction.operation, index)
    return begins


def _pieces(plan, arch):
    """All pieces of the plan."""
    uses = collections.defaultdict(list)
    for index, reads in enumerate(constant_reads(plan, arch)):
        for name, (low, high) in reads.items():
            uses[name].append((plan.instructions[index].operation, index, low, high))
    for segment in plan.segments:
        small = memories(arch)[segment.memory].depth // _SMALL
        for visit in _visits(uses[segment.name]):
            yield from _cut(segment, visit, small)


def _visits(uses):
    """Uses in consecutive operations."""
    visit = []
    for use in uses:
        if visit and use[0] > visit[-1][0] + 1:
            yield visit
            visit = []
        visit.append(use)
    if visit:
        yield visit


def _cut(segment, visit, small):
    """The pieces of a visit."""
    ranges = {}
    for _, index, low, high in visit:
        first, _ = ranges.get((low, high), (index, index))
        ranges[low, high] = first, index
    piece = None
    for (low, high), (first, last) in sorted(ranges.items()):
        if piece is not None and (low < piece.high or piece.words < small):
            piece.high = max(piece.high, high)
            piece.first, piece.last = min(piece.first, first), max(piece.last, last)
            continue
        if piece is not None:
            yield piece
        piece = _Piece(segment.name, segment.memory, low, high, first, last)
    if piece is not None:
        yield piece


def _place(pieces, begins, stored, plan, arch):
    """For each piece, before which instruction it is fetched, and its first word."""
    if not pieces:
        return []
    memory = pieces[0].memory
    size = memories(arch)[memory]
    earliest = [max(stored.get(piece.segment, 0),
                    begins.get(plan.instructions[piece.first].operation - 1,
                               begins[plan.instructions[piece.first].operation]))
                for piece in pieces]
    found, _ = _allocate(pieces, earliest, size.depth)
    latest = [piece.first for piece in pieces]
    if found is None:
        found, problem = _allocate(pieces, latest, size.depth)
    if found is None:
        room, _ = _allocate(pieces, latest, 1 << 62)
        needed = max(start + piece.words for piece, (_, start) in zip(pieces, room, strict=True))
        layer = plan.layers[plan.instructions[problem.first].layer].name
        raise TooSmall(
            f"layer {layer}: its constants in {memory.upper()} are {problem.words} words of "
            f"{size.width} bits; with the others that are needed meanwhile they take "
            f"{(needed - size.depth) * size.width} bits more than target {arch.name} has; raise "
            f"{memory}_depth to {needed}", {f"{memory}_depth": needed})
    return found


def _allocate(pieces, earliest, depth):
    """Places in a ring, each as early as there is room; or None and the piece that has none."""
    found, cursor = [], 0
    for piece, soonest in zip(pieces, earliest, strict=True):
        ends = sorted({soonest, *(other.last + 1 for other in pieces[:len(found)]
                                  if soonest <= other.last < piece.first)})
        ends = [end for end in ends if end <= piece.first]
        for position in ends:
            taken = sorted((start, start + other.words) for other, (_, start) in
                           zip(pieces, found, strict=False) if other.last >= position)
            start = first_gap(taken, piece.words, cursor, depth)
            if start is None:
                start = first_gap(taken, piece.words, 0, depth)
            if start is not None:
                break
        else:
            return None, piece
        found.append((position, start))
        cursor = start + piece.words
    return found, None


def _with_places(instruction, index, places):
    """An instruction with numbers for the addresses of its constants."""
    fields = dict(instruction.fields)
    for name, value in fields.items():
        if isinstance(value, Address) and value.region in places:
            piece, start = next((piece, start) for piece, start in places[value.region]
                                if piece.first <= index <= piece.last
                                and piece.low <= value.offset < piece.high)
            fields[name] = start + value.offset - piece.low
    return dataclasses.replace(instruction, fields=fields)
