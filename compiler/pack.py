"""Seventh pass: segments to the words of the constant memories."""

from bivit.compiler.accesses import CONSTANTS
from bivit.compiler.structures import Plan
from bivit.hw.arch import Arch
from bivit.hw.memories import constant_memories

__all__ = ["pack"]


def pack(plan: Plan, where: dict[str, tuple[str, int, int]], arch: Arch) -> dict[str, list[int]]:
    """Words of each constant memory (but the program's) from address 0 on, without gaps.

    A memory that the network does not use has one word.
    """
    constants = {memory: [] for memory in constant_memories(arch) if memory in CONSTANTS}
    for segment in plan.segments:
        memory, start, count = where[segment.name]
        assert start == len(constants[memory]) and count == len(segment.words)
        constants[memory].extend(segment.words)
    return {memory: words or [0] for memory, words in constants.items()}
