"""Loops whose constants leave room for the next ones, and rolls that are cut for that."""

import collections
from collections.abc import Callable, Sequence

from bivit.compiler.code import Stream
from bivit.compiler.constant_reads import Reads, ranges_of
from bivit.compiler.streams import Roll, has_courses
from bivit.compiler.structures import Instruction, Plan
from bivit.hw.arch import Arch
from bivit.hw.memories import memories

__all__ = ["SHARE", "cut_rolls", "loop_room"]

SHARE = 2
"""What is needed at the same time takes at most this part of a memory, where there is a choice, so
that what is needed next has room beside it."""


def loop_room(plan: Plan, arch: Arch, reads: Reads) -> Callable[[Sequence[int]], bool]:
    """Whether the constants of a loop of these instructions leave room for the next ones."""
    sizes = memories(arch)
    return lambda indices: all(words * SHARE <= sizes[memory].depth
                               for memory, words in _all_words(indices, reads, plan).items())


def cut_rolls(plan: Plan, rolls: Sequence[Roll], arch: Arch, apart: Sequence[Instruction],
              reads: Reads) -> list[Roll]:
    """Rolls with fewer iterations, where each iteration reads constants of its own and there is no
    room for those of all; straight code where a course is none in a part of it."""
    sizes = memories(arch)

    def cut(roll):
        count = max((stream.end for stream in roll.streams), default=0)
        words, first = (_all_words([index for stream in _between(roll, 0, end).streams
                                    for index in stream.indices], reads, plan)
                        for end in (count, 1))
        wanted = [sizes[memory].depth // SHARE * count // words[memory] for memory in words
                  if words[memory] * SHARE > sizes[memory].depth and first[memory] < words[memory]]
        length = max(min(wanted, default=count), 1)
        return [roll] if length >= count else [_between(roll, begin, begin + length)
                                               for begin in range(0, count, length)]

    def straight(piece):
        indices = sorted(index for stream in piece.streams for index in stream.indices)
        return Roll(rest=tuple(indices))

    return [piece if all(has_courses(apart, stream.indices) for stream in piece.streams)
            else straight(piece) for roll in rolls for piece in cut(roll)]


def _between(roll, begin, end):
    """Some iterations of a roll."""
    pieces = ((stream, stream.indices[max(begin - stream.begin, 0):max(end - stream.begin, 0)])
              for stream in roll.streams)
    return Roll(tuple(Stream(indices, max(stream.begin - begin, 0))
                      for stream, indices in pieces if indices))


def _all_words(indices, reads, plan):
    """Words of each memory that instructions read."""
    words = collections.Counter()
    memory_of = {segment.name: segment.memory for segment in plan.segments}
    for name, (low, high) in ranges_of(indices, reads).items():
        words[memory_of[name]] += high - low
    return words
