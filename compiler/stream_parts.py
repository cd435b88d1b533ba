"""Constants from external memory in a program with loops: FETCHes in front of its parts.

Parts that belong together form a section. A section finds its constants at one end of each memory,
the next one at the other: so they come while the section before runs.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence

from bivit.compiler.constant_reads import constant_reads
from bivit.compiler.external import external_image, fetches
from bivit.compiler.registers import signature
from bivit.compiler.structures import (
    Address,
    Instruction,
    Pipeline,
    Plan,
    Segment,
    Straight,
    TooSmall,
)
from bivit.hw.arch import Arch
from bivit.hw.memories import fetched_memories, memories

__all__ = ["SHARE", "loop_room", "stream_parts"]

SHARE = 2
"""What is needed at the same time takes at most this part of a memory, where there is a choice, so
that what is needed next has room beside it."""


@dataclasses.dataclass
class _Section:
    """Parts that find their constants in place together.

    `operations` are their operations and groups, `ranges` the words that they read by memory and
    segment, in the order of first use; `late` the memories whose words come only when the section
    before is through.
    """

    parts: list[int]
    operations: set[tuple[int, int]]
    ranges: dict[str, dict[str, tuple[int, int]]]
    words: dict[str, int] = dataclasses.field(init=False)
    starts: dict[str, int] = dataclasses.field(default_factory=dict)
    late: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self):
        self.words = _words(self.ranges)


def loop_room(plan: Plan, arch: Arch) -> Callable[[Sequence[int]], bool]:
    """Whether the constants of a loop of these instructions leave room for the next ones."""
    reads, sizes = constant_reads(plan, arch), memories(arch)
    memory_of = {segment.name: segment.memory for segment in plan.segments}

    def has_room(indices):
        words = _words(_ranges(indices, reads, memory_of))
        return all(count * SHARE <= sizes[memory].depth for memory, count in words.items())
    return has_room


def stream_parts(plan: Plan, parts: Sequence[Straight | Pipeline], arch: Arch,
                 apart: Sequence[Instruction]) -> tuple[Plan, list[Straight | Pipeline], bytes]:
    """The plan with its FETCHes, and with places for all constants; its parts; and the image.

    Parameters
    ----------
    apart : sequence of Instruction
        Those of the plan with numbers for all addresses, which show what loops are alike.

    Raises
    ------
    TooSmall
        If constants that are needed at the same time have no room.
    """
    sections = _sections(plan, parts, arch)
    for memory in fetched_memories(arch):
        _place(sections, memory, plan, arch)
    _pad(sections, parts, apart, arch)
    beats, image = _image(sections, plan, arch)
    before = collections.defaultdict(list)
    for number, section in enumerate(sections):
        for memory in section.starts:
            early = number > 0 and memory not in section.late
            place = sections[number - 1 if early else number].parts[0]
            first = next(iter(_indices(parts[section.parts[0]])))
            before[place] += fetches(arch, memory, beats[number, memory], section.starts[memory],
                                     section.words[memory], plan.instructions[first])
    return *_with_fetches(plan, parts, before, _located(sections, plan, parts)), image


def _indices(part):
    """Instructions of a part in canonical order."""
    if isinstance(part, Straight):
        return part.instructions
    return sorted(index for stream in part.streams for index in stream)


def _ranges(indices, reads, memory_of):
    """Words that instructions read, by memory and segment."""
    found = collections.defaultdict(dict)
    for index in indices:
        for name, words in reads[index].items():
            _extend(found[memory_of[name]], name, words)
    return found


def _extend(ranges, name, words):
    """Take words of a segment in."""
    low, high = ranges.get(name, words)
    ranges[name] = min(low, words[0]), max(high, words[1])


def _words(ranges):
    return {memory: sum(high - low for low, high in own.values())
            for memory, own in ranges.items()}


def _sections(plan, parts, arch):
    """Parts that share an operation, and straight ones behind each other where there is room."""
    reads = constant_reads(plan, arch)
    memory_of = {segment.name: segment.memory for segment in plan.segments}
    sections = []
    for position, part in enumerate(parts):
        indices = _indices(part)
        new = _Section([position], {(plan.instructions[index].operation,
                                     plan.instructions[index].group) for index in indices},
                       _ranges(indices, reads, memory_of))
        if not (sections and _join(sections[-1], new, parts, memories(arch))):
            sections.append(new)
    ends = [index for section in sections for index in _ends(section, parts)]
    assert ends == sorted(ends), "sections overlap in canonical order"
    return sections


def _join(section, new, parts, sizes):
    """Take a part into the section before it, if their constants can be in place together."""
    same = section.operations & new.operations
    straight = all(isinstance(parts[position], Straight)
                   for position in (*section.parts, *new.parts))
    if not (same or straight):
        return False
    ranges = {memory: dict(own) for memory, own in section.ranges.items()}
    for memory, own in new.ranges.items():
        for name, words in own.items():
            _extend(ranges.setdefault(memory, {}), name, words)
    words, share = _words(ranges), 1 if same else SHARE
    if any(words[memory] * share > sizes[memory].depth
           for memory in section.words.keys() & new.words.keys()):
        return False
    section.parts += new.parts
    section.operations |= new.operations
    section.ranges, section.words = ranges, words
    return True


def _ends(section, parts):
    """The first and the last instruction of a section."""
    indices = [index for part in section.parts for index in _indices(parts[part])]
    return min(indices), max(indices)


def _place(sections, memory, plan, arch):
    """The two ends of a memory in turns."""
    size, last = memories(arch)[memory], None
    for number, section in enumerate(sections):
        if memory not in section.words:
            continue
        if section.words[memory] > size.depth:
            raise _too_large(section, sections, memory, size, plan, arch)
        low = last is None or sections[last].starts[memory] > 0
        section.starts[memory] = 0 if low else size.depth - section.words[memory]
        if last == number - 1 and (sections[last].words[memory] + section.words[memory]
                                   > size.depth):
            section.late.add(memory)
        last = number


def _too_large(section, sections, memory, size, plan, arch):
    segments = {segment.name: segment for segment in plan.segments}
    ranges = section.ranges[memory]
    largest = max(ranges, key=lambda name: ranges[name][1] - ranges[name][0])
    needed = max(other.words.get(memory, 0) for other in sections)
    return TooSmall(
        f"layer {segments[largest].layer}: its constants in {memory.upper()} are "
        f"{ranges[largest][1] - ranges[largest][0]} words of {size.width} bits; with the others "
        f"that are needed meanwhile they take {(needed - size.depth) * size.width} bits more than "
        f"target {arch.name} has; raise {memory}_depth to {needed}", {f"{memory}_depth": needed})


def _pad(sections, parts, apart, arch):
    """Pieces somewhat shorter than those that are fetched in front of loops that are alike."""
    alike = collections.defaultdict(list)
    for number, section in enumerate(sections[:-1]):
        if isinstance(part := parts[section.parts[0]], Pipeline):
            alike[signature(apart, part)].append(number + 1)
    for numbers in alike.values():
        for memory in fetched_memories(arch):
            words = [sections[number].words.get(memory, 0) for number in numbers]
            usual = max(set(words), key=lambda count: (words.count(count), count))
            for number in numbers:
                if usual <= 2 * sections[number].words.get(memory, 0) < 2 * usual:
                    _lengthen(sections, number, memory, usual, memories(arch)[memory].depth)


def _lengthen(sections, number, memory, words, depth):
    """Let a piece take more words, if all can come as early as before."""
    section = sections[number]
    beside = [sections[other] for other in (number - 1, number + 1)
              if other < len(sections) and memory in sections[other].words]
    if any(other.words[memory] + words > depth for other in beside):
        return
    if section.starts[memory]:
        section.starts[memory] = depth - words
    section.words[memory] = words


def _image(sections, plan, arch):
    """First beat of each piece by section and memory, and the bytes; equal pieces lie there once.
    """
    segments = {segment.name: segment for segment in plan.segments}
    pieces, names = {}, {}
    for number, section in enumerate(sections):
        for memory, ranges in section.ranges.items():
            words = tuple(word for name, (low, high) in ranges.items()
                          for word in segments[name].words[low:high])
            words += (0,) * (section.words[memory] - len(words))
            layer = segments[next(iter(ranges))].layer
            piece = pieces.setdefault((memory, words), Segment(str(len(pieces)), memory, words,
                                                               layer))
            names[number, memory] = piece.name
    beats, image = external_image(tuple(pieces.values()), arch)
    return {key: beats[name] for key, name in names.items()}, image


def _located(sections, plan, parts):
    """All instructions, with numbers for the addresses of their constants."""
    result = list(plan.instructions)
    for section in sections:
        places = {}
        for memory, ranges in section.ranges.items():
            start = section.starts[memory]
            for name, (low, high) in ranges.items():
                places[name] = start - low
                start += high - low
        for part in section.parts:
            for index in _indices(parts[part]):
                fields = {name: places[value.region] + value.offset
                          if isinstance(value, Address) and value.region in places else value
                          for name, value in result[index].fields.items()}
                result[index] = dataclasses.replace(result[index], fields=fields)
    return result


def _with_fetches(plan, parts, before, located):
    """The plan and its parts, with what comes before each part."""
    starts = {min(_indices(part)): position for position, part in enumerate(parts)}
    instructions, place, extra = [], {}, {}
    for index, instruction in enumerate(located):
        if index in starts:
            first = len(instructions)
            instructions += before[starts[index]]
            extra[starts[index]] = tuple(range(first, len(instructions)))
        place[index] = len(instructions)
        instructions.append(instruction)
    moved = []
    for position, part in enumerate(parts):
        if isinstance(part, Straight):
            own = tuple(place[index] for index in part.instructions)
            moved.append(Straight((*extra[position], *own)))
        else:
            streams = tuple(tuple(place[index] for index in stream) for stream in part.streams)
            moved.append(Pipeline(streams, extra[position]))
    return dataclasses.replace(plan, instructions=tuple(instructions), segments=()), moved
