"""Which words of which pieces of the constants each instruction reads."""

import bisect
import collections

from bivit.compiler.accesses import CONSTANTS, accesses
from bivit.compiler.structures import Address, Plan
from bivit.hw.arch import Arch

__all__ = ["constant_reads"]


def constant_reads(plan: Plan, arch: Arch) -> list[dict[str, tuple[int, int]]]:
    """Of each instruction, the words that it reads by the name of a segment: the first, and the one
    behind the last.

    A segment that an instruction names without reading it counts with the word it names.
    """
    names, starts = collections.defaultdict(list), collections.defaultdict(list)
    place, end = {}, collections.Counter()  # places that segments would have behind each other
    for segment in plan.segments:
        names[segment.memory].append(segment.name)
        starts[segment.memory].append(end[segment.memory])
        place[segment.name] = end[segment.memory]
        end[segment.memory] += len(segment.words)
    result = []
    for instruction in plan.instructions:
        touched = collections.defaultdict(list)
        fields = {}
        for field, value in instruction.fields.items():
            if isinstance(value, Address):
                if value.region in place:
                    touched[value.region].append(value.offset)
                value = place.get(value.region, 0) + value.offset
            fields[field] = value
        for memory, words in accesses(arch, instruction.opcode, fields).reads:
            if memory in CONSTANTS and len(words):
                number = bisect.bisect(starts[memory], words[0]) - 1
                first = starts[memory][number]
                touched[names[memory][number]] += [words[0] - first, words[-1] - first]
        result.append({name: (min(offsets), max(offsets) + 1) for name, offsets in touched.items()})
    return result
