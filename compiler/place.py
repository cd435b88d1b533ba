"""An address for every region and segment.

Equal loops get equal places where there is room. Else, and in a straight program, the search for
room goes on behind the region placed last and around the end, so that words are left alone as long
as possible and reuse costs little waiting.
"""

import contextlib
import dataclasses

from bivit.compiler.lifetimes import Lifetimes
from bivit.compiler.structures import Plan, TooSmall
from bivit.hw.arch import Arch
from bivit.hw.memories import memories

__all__ = ["first_gap", "place", "place_regions", "spread"]


def spread(plan: Plan) -> tuple[Plan, dict[str, tuple[str, int, int]]]:
    """The plan with a place of its own for every region, in memories without end; the places."""
    where, ends = {}, {}
    for piece in (*plan.segments, *plan.regions):
        words = piece.words if isinstance(piece.words, int) else len(piece.words)
        start = ends.get(piece.memory, 0)
        where[piece.name], ends[piece.memory] = (piece.memory, start, words), start + words
    return _located(plan, where), where


def place(plan: Plan, arch: Arch,
          lifetimes: Lifetimes) -> tuple[Plan, dict[str, tuple[str, int, int]]]:
    """The plan with numbers for addresses, and where everything lies.

    Returns
    -------
    tuple
        The plan; memory, first word and number of words by the name of a region or segment.

    Raises
    ------
    TooSmall
        If memories are too small; the message says how large the first would have to be.
    """
    where, problems = {}, []
    for memory in dict.fromkeys(segment.memory for segment in plan.segments):
        segments = [segment for segment in plan.segments if segment.memory == memory]
        with _collected(problems):
            where |= _place_segments(segments, memory, arch)
    for memory in dict.fromkeys(region.memory for region in plan.regions):
        with _collected(problems):
            where |= place_regions(plan, lifetimes, memory, arch)
    if problems:
        raise TooSmall(str(problems[0]), {name: words for problem in problems
                                          for name, words in problem.needed.items()})
    return _located(plan, where), where


@contextlib.contextmanager
def _collected(problems):
    """Go on behind a memory that is too small, so that all of them are named."""
    try:
        yield
    except TooSmall as problem:
        problems.append(problem)


def _located(plan, where):
    """The plan with numbers for addresses."""
    starts = {name: start for name, (_, start, _) in where.items()}
    instructions = []
    for instruction, addresses in zip(plan.instructions, plan.addresses, strict=True):
        fields = instruction.fields.copy()
        for name, address in addresses:
            fields[name] = starts[address.region] + address.offset
        instructions.append(instruction.with_fields(fields))
    return dataclasses.replace(plan, instructions=tuple(instructions))


def _place_segments(segments, memory, arch):
    where, next_word = {}, 0
    size = memories(arch)[memory]
    needed = sum(len(segment.words) for segment in segments)
    for segment in segments:
        where[segment.name] = (memory, next_word, len(segment.words))
        next_word += len(segment.words)
        if next_word > size.depth:
            raise TooSmall(
                f"layer {segment.layer}: the constants of this network take {needed} words of "
                f"{size.width} bits in {memory.upper()}, {(needed - size.depth) * size.width} bits "
                f"more than target {arch.name} has; raise {memory}_depth to {needed}, make weights "
                f"streamed or the network smaller",
                {f"{memory}_depth": needed})
    return where


def place_regions(plan: Plan, lifetimes: Lifetimes, memory: str,
                  arch: Arch) -> dict[str, tuple[str, int, int]]:
    """The same for the regions of one memory."""
    size = memories(arch)[memory]
    regions = [r for r in plan.regions if r.memory == memory and r.name in lifetimes.lives]
    for allocate in (_zones, _around, _lowest):
        where, problem = allocate(regions, lifetimes, memory, size.depth)
        if not problem:
            return where
    enough, _ = _lowest(regions, lifetimes, memory, 1 << 62)
    peak = max(start + words for _, start, words in enough.values())
    raise TooSmall(
        f"layer {problem.layer}: {problem.words} words of {size.width} bits have no room in "
        f"{memory.upper()}; all that is needed at the same time takes "
        f"{(peak - size.depth) * size.width} bits more than target {arch.name} has; raise "
        f"{memory}_depth to {peak} or make the network smaller", {f"{memory}_depth": peak})


def _zones(regions, lifetimes, memory, depth):
    """Regions of one moment from word 0 on, the others behind those of the moments they live in.

    So that equal loops use equal places.
    """
    lives, where, ends, longer = lifetimes.lives, {}, {}, []
    for region in sorted(regions, key=lambda region: lives[region.name][0]):
        first, last = lives[region.name]
        if first != last:
            longer.append(region)
            continue
        where[region.name] = memory, ends.get(first, 0), region.words
        ends[first] = ends.get(first, 0) + region.words
    followed = set()
    for region in longer:
        first, last = lives[region.name]
        before = next((other for other in longer if other.name in where
                       and other.name not in followed and other.words == region.words
                       and lives[other.name][1] == first
                       and lifetimes.follows(other.name, region.name)), None)
        floor = max((end for moment, end in ends.items() if first <= moment <= last), default=0)
        living = [other for other in longer
                  if other.name in where and lives[other.name][1] >= first]
        place = None
        if before:
            start = max(where[before.name][1], floor)
            place = first_gap(_places(living, where, before), region.words, start, depth)
        if before is None or place != where[before.name][1]:
            place = first_gap(_places(living, where), region.words, floor, depth)
        else:
            followed.add(before.name)
        where[region.name] = memory, place or 0, region.words
        if place is None:
            return where, region
    low = max(ends.values(), default=0)
    return where, None if low <= depth else regions[0]


def _places(regions, where, left_out=None):
    """First word, and the one behind the last, of regions that have a place."""
    return sorted((where[region.name][1], where[region.name][1] + region.words)
                  for region in regions if region is not left_out)


def _around(regions, lifetimes, memory, depth):
    """Behind the region placed last, and around the end."""
    return _allocate(regions, lifetimes.lives, memory, depth, around=True)


def _lowest(regions, lifetimes, memory, depth):
    """Where there is room first."""
    return _allocate(regions, lifetimes.lives, memory, depth, around=False)


def _allocate(regions, lives, memory, depth, *, around):
    """Places, or the first region that has none."""
    where, cursor = {}, 0
    for region in sorted(regions, key=lambda region: lives[region.name][0]):
        first = lives[region.name][0]
        taken = sorted((start, start + words) for name, (_, start, words) in where.items()
                       if lives[name][1] >= first)
        start = first_gap(taken, region.words, cursor, depth) if around else None
        if start is None:
            start = first_gap(taken, region.words, 0, depth)
        if start is None:
            return where, region
        where[region.name] = (memory, start, region.words)
        cursor = start + region.words
    return where, None


def first_gap(taken, words, start, depth):
    """First place for `words` words, at `start` or later, beside sorted intervals."""
    for low, high in taken:
        if start + words <= low:
            break
        start = max(start, high)
    return start if start + words <= depth else None
