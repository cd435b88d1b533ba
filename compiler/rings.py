"""Values of which each turn of a loop needs words of its own, in rings: no two turns need them all.

So bits between the operations of a loop take a few blocks, and not those of all tokens.
"""

import dataclasses

import numpy as np

from bivit.compiler.place import spread
from bivit.compiler.structures import Address, Region
from bivit.compiler.touched import touched_words
from bivit.compiler.turns import RING, Turned
from bivit.hw.arch import Arch

__all__ = ["in_rings"]


@dataclasses.dataclass(frozen=True)
class _Ring:
    """Place of the words of a value in a ring: by turn, its first word in the value and the one in
    the ring."""

    region: Region
    words: int
    firsts: dict[int, tuple[int, int]]

    def address(self, turn: int, offset: int) -> Address:
        """Where a word of the value is in a turn."""
        low, start = self.firsts[turn]
        return Address(f"{self.region.name}{RING}", start + offset - low)


def in_rings(turned: Turned, arch: Arch, memory: str, count: int) -> Turned:
    """The plan with all values of a memory for which that can be, and is less, in rings of `count`
    places."""
    rings = _rings(turned, arch, memory, count)
    while rings:
        changed = _changed(turned, rings)
        broken = {name.removesuffix(RING) for name in changed.broken()} & rings.keys()
        if not broken:
            return changed
        rings = {name: ring for name, ring in rings.items() if name not in broken}
    return turned


def _rings(turned, arch, memory, count):
    """The rings of values that live in one loop, in words that are apart in different turns."""
    regions = {region.name: region for region in turned.plan.regions if region.memory == memory}
    users = {}
    for index, instruction in enumerate(turned.plan.instructions):
        for name in instruction.regions & regions.keys():
            users.setdefault(name, []).append(index)
    apart, where = spread(turned.plan)
    touched = touched_words(apart.instructions, arch, share_sums=False)
    found = {}
    for name, indices in users.items():
        places = [turned.places[index] for index in indices]
        if len({place.part for place in places}) == 1 and places[0].in_turns:
            spans = _spans(turned, touched, where[name], name, indices)
            ring = _ring(regions[name], spans, count)
            if ring is not None:
                found[name] = ring
    return found


def _spans(turned, touched, where, name, indices):
    """By turn the first word of a value that it touches, and the one behind the last."""
    memory, start, words = where
    spans = {}
    for index in indices:
        rows = slice(touched.first[index], touched.first[index + 1])
        own = np.array([touched.names[number] == memory for number in touched.memories[rows]])
        low, high = touched.low[rows] - start, touched.high[rows] - start
        own &= (low >= 0) & (low < words)
        offsets = [address.offset for _, address in turned.plan.addresses[index]
                   if address.region == name]
        turn = turned.places[index].turn
        before = spans.get(turn, (offsets[0], offsets[0] + 1))
        spans[turn] = (min([before[0], *offsets, *low[own].tolist()]),
                       max([before[1], *high[own].tolist()]))
    return spans


def _ring(region, spans, count):
    rows = sorted(spans.values())
    size = max(high - low for low, high in rows)
    used = min(count, max(spans) - min(spans) + 1)
    if (used * size >= region.words
            or any(before[1] > behind[0] for before, behind in zip(rows, rows[1:], strict=False))):
        return None
    first = min(spans)
    return _Ring(region, used * size, {turn: (low, (turn - first) % count * size)
                                       for turn, (low, _) in spans.items()})


def _changed(turned, rings):
    instructions = []
    for instruction, addresses, place in zip(turned.plan.instructions, turned.plan.addresses,
                                             turned.places, strict=True):
        fields = {name: rings[address.region].address(place.turn, address.offset)
                  for name, address in addresses if address.region in rings}
        instructions.append(instruction.with_fields(instruction.fields | fields)
                            if fields else instruction)
    regions = [region for region in turned.plan.regions if region.name not in rings]
    regions += [dataclasses.replace(ring.region, name=f"{name}{RING}", words=ring.words)
                for name, ring in rings.items()]
    return dataclasses.replace(turned, plan=dataclasses.replace(
        turned.plan, instructions=tuple(instructions), regions=tuple(regions)))
