"""Fourth pass: an address for every region and segment.

A region is free again behind the last instruction, in canonical order, that mentions it. The search
for room goes on behind the region placed last and around the end, so that words are left alone
as long as possible and reuse costs little waiting.
"""

import dataclasses

from bivit.compiler.structures import Address, CompileError, Plan
from bivit.hw.arch import Arch
from bivit.hw.memories import memories

__all__ = ["place"]


def place(plan: Plan, arch: Arch) -> tuple[Plan, dict[str, tuple[str, int, int]]]:
    """The plan with numbers for addresses, and where everything lies.

    Returns
    -------
    tuple
        The plan; memory, first word and number of words by the name of a region or segment.

    Raises
    ------
    CompileError
        If a memory is too small; the message says how large it would have to be.
    """
    lives = _lifetimes(plan)
    where = {}
    for memory in dict.fromkeys(segment.memory for segment in plan.segments):
        where |= _place_segments([s for s in plan.segments if s.memory == memory], memory, arch)
    for memory in dict.fromkeys(region.memory for region in plan.regions):
        regions = [r for r in plan.regions if r.memory == memory and r.name in lives]
        where |= _place_regions(regions, lives, memory, arch)
    instructions = tuple(
        dataclasses.replace(instruction, fields={
            name: where[value.region][1] + value.offset if isinstance(value, Address) else value
            for name, value in instruction.fields.items()})
        for instruction in plan.instructions)
    return dataclasses.replace(plan, instructions=instructions), where


def _lifetimes(plan):
    """First and last instruction that mentions each region."""
    lives = {}
    for index, instruction in enumerate(plan.instructions):
        for value in instruction.fields.values():
            if isinstance(value, Address):
                first, _ = lives.get(value.region, (index, index))
                lives[value.region] = (first, index)
    return lives


def _place_segments(segments, memory, arch):
    where, next_word = {}, 0
    size = memories(arch)[memory]
    needed = sum(len(segment.words) for segment in segments)
    for segment in segments:
        where[segment.name] = (memory, next_word, len(segment.words))
        next_word += len(segment.words)
        if next_word > size.depth:
            raise CompileError(
                f"layer {segment.layer}: the constants of this network take {needed} words of "
                f"{size.width} bits in {memory.upper()} and target {arch.name} has {size.depth}; "
                f"raise {memory}_depth to {needed} or make the network smaller")
    return where


def _place_regions(regions, lives, memory, arch):
    size = memories(arch)[memory]
    where, problem = _allocate(regions, lives, memory, size.depth, around=True)
    if problem:
        where, problem = _allocate(regions, lives, memory, size.depth, around=False)
    if problem:
        enough, _ = _allocate(regions, lives, memory, 1 << 62, around=False)
        peak = max(start + words for _, start, words in enough.values())
        raise CompileError(
            f"layer {problem.layer}: {problem.words} words of {size.width} bits have no room in "
            f"{memory.upper()}, of which target {arch.name} has {size.depth}; raise "
            f"{memory}_depth to {peak} or make the network smaller")
    return where


def _allocate(regions, lives, memory, depth, *, around):
    """Places, or the first region that has none."""
    where, cursor = {}, 0
    for region in sorted(regions, key=lambda region: lives[region.name][0]):
        first = lives[region.name][0]
        taken = sorted((start, start + words) for name, (_, start, words) in where.items()
                       if lives[name][1] >= first)
        start = _gap(taken, region.words, cursor, depth) if around else None
        if start is None:
            start = _gap(taken, region.words, 0, depth)
        if start is None:
            return where, region
        where[region.name] = (memory, start, region.words)
        cursor = start + region.words
    return where, None


def _gap(taken, words, start, depth):
    """First place for `words` words, at `start` or later, beside sorted intervals."""
    for low, high in taken:
        if start + words <= low:
            break
        start = max(start, high)
    return start if start + words <= depth else None
