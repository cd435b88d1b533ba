"""Which words of which pieces of the constants each instruction reads."""

import bisect
import collections
from collections.abc import Collection, Sequence

from bivit.compiler.accesses import CONSTANTS, accesses
from bivit.compiler.structures import Address, Plan
from bivit.hw.arch import Arch

__all__ = ["Reads", "constant_reads", "ranges_of"]

Reads = Sequence[dict[str, tuple[int, int]]]
"""What :func:`constant_reads` gives."""

_FAR = 1 << 40
"""Where regions lie meanwhile: behind all constants, for words of POS that are none."""


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
                value = place.get(value.region, _FAR) + value.offset
            fields[field] = value
        for memory, words in accesses(arch, instruction.opcode, fields).reads:
            if memory in CONSTANTS and len(words) and words[0] < end[memory]:
                number = bisect.bisect(starts[memory], words[0]) - 1
                first = starts[memory][number]
                touched[names[memory][number]] += [words[0] - first, words[-1] - first]
        result.append({name: (min(offsets), max(offsets) + 1) for name, offsets in touched.items()})
    return result


def ranges_of(indices: Collection[int], reads: Reads,
              together: Sequence[dict[str, int]] = ()) -> dict[str, tuple[int, int]]:
    """Words that instructions read, by segment; all words of what lies together, by name."""
    found = {}
    for index in indices:
        for name, words in reads[index].items():
            for other, count in next((run for run in together if name in run), {}).items():
                _extend(found, other, (0, count))
            _extend(found, name, words)
    return found


def _extend(ranges, name, words):
    """Take words of a segment in."""
    low, high = ranges.get(name, words)
    ranges[name] = min(low, words[0]), max(high, words[1])
