"""Constants from external memory in a program with loops: FETCHes in front of its parts.

Parts that belong together form a section. A section finds its constants at one end of each memory,
the next one at the other: so they come while the section before runs.
"""

import collections
import dataclasses
from collections.abc import Sequence

from bivit.compiler.code import Pipeline, Straight, Stream
from bivit.compiler.constant_reads import Reads, ranges_of
from bivit.compiler.external import external_image, fetches
from bivit.compiler.registers import signature
from bivit.compiler.stream_rolls import SHARE
from bivit.compiler.structures import Address, Instruction, Plan, Segment, TooSmall
from bivit.hw.arch import Arch
from bivit.hw.memories import fetched_memories, memories

__all__ = ["stream_parts"]


@dataclasses.dataclass
class _Section:
    """Parts that find their constants in one memory in place together.

    `operations` are their operations and groups, `ranges` the words that they read by segment, in
    the order of first use; `late`: they come only when the section before is through.
    """

    parts: list[int]
    operations: set[tuple[int, int]]
    ranges: dict[str, tuple[int, int]]
    words: int = dataclasses.field(init=False)
    start: int = 0
    late: bool = False

    def __post_init__(self):
        self.words = _words(self.ranges)


def stream_parts(plan: Plan, parts: Sequence[Straight | Pipeline], arch: Arch,
                 apart: Sequence[Instruction], reads: Reads, outside: int = 0,
                 ) -> tuple[Plan, list[Straight | Pipeline], bytes]:
    """The plan with its FETCHes, and with places for all constants; its parts; and the image.

    Parameters
    ----------
    apart : sequence of Instruction
        Those of the plan with numbers for all addresses, which show what loops are alike.
    outside : int
        Words of POS that the image begins with: room for what is stored.

    Raises
    ------
    TooSmall
        If constants that are needed at the same time have no room.
    """
    addressed = [_addressed(plan, part) for part in parts]
    sections = {memory: _sections(plan, parts, arch, memory, reads, addressed)
                for memory in fetched_memories(arch)}
    for memory, own in sections.items():
        _place(own, memory, plan, arch)
        _pad(own, parts, apart, memories(arch)[memory].depth)
    beats, image = _image(sections, plan, arch, outside)
    before = collections.defaultdict(list)
    for memory, own in sections.items():
        for number, section in enumerate(own):
            if section.words:
                early = number > 0 and not section.late
                reader = plan.instructions[_ends(section, parts)[0]]
                before[own[number - 1 if early else number].parts[0]] += fetches(
                    arch, memory, beats[memory, number], section.start, section.words, reader)
    return *_with_fetches(plan, parts, before, _located(sections, plan, parts)), image


def _indices(part):
    """Instructions of a part in canonical order."""
    if isinstance(part, Straight):
        return part.instructions
    return sorted(index for stream in part.streams for index in stream.indices)


def _addressed(plan, part):
    """Names of the segments and regions that one field of one stream of a loop goes through."""
    found = []
    for stream in part.streams if isinstance(part, Pipeline) else ():
        names = collections.defaultdict(set)
        for index in stream.indices:
            for field, address in plan.addresses[index]:
                names[field].add(address.region)
        found += [own for own in names.values() if len(own) > 1]
    return found


def _together(addressed, segments):
    """Runs of segments in their order, of which one stream of a loop reads the first, the last and
    some of those between: in one piece they keep their distances, and so the stream its course."""
    place = {name: number for number, name in enumerate(segments)}
    spans = []
    for names in addressed:
        read = [place[name] for name in names if name in place]
        if len(read) > 1:
            spans.append((min(read), max(read) + 1))
    runs, names = [], list(segments)
    for low, high in sorted(spans):
        if runs and low < runs[-1][1]:
            low, high = runs[-1][0], max(runs.pop()[1], high)
        runs.append((low, high))
    return [{name: segments[name] for name in names[low:high]} for low, high in runs]


def _words(ranges):
    return sum(high - low for low, high in ranges.values())


def _sections(plan, parts, arch, memory, reads, addressed):
    """Parts that share an operation, and straight ones behind each other where there is room."""
    depth = memories(arch)[memory].depth
    segments = {segment.name: len(segment.words) for segment in plan.segments
                if segment.memory == memory}

    own = [{name: words for name, words in row.items() if name in segments} for row in reads]

    def section_of(positions):
        indices = [index for position in positions for index in _indices(parts[position])]
        spans = [names for position in positions for names in addressed[position]]
        return _Section(positions, {(plan.instructions[index].operation,
                                     plan.instructions[index].group) for index in indices},
                        ranges_of(indices, own, _together(spans, segments)))

    sections = []
    for position in range(len(parts)):
        new = section_of([position])
        if sections and _related(sections[-1], new, parts):
            joined = section_of([*sections[-1].parts, position])
            if _has_room(sections[-1], new, joined, depth):
                sections[-1] = joined
                continue
        sections.append(new)
    ends = [index for section in sections for index in _ends(section, parts)]
    assert ends == sorted(ends), "sections overlap in canonical order"
    return sections


def _related(section, new, parts):
    """Whether a part shares an operation with the section before it, or all is straight."""
    return bool(section.operations & new.operations) or all(
        isinstance(parts[position], Straight) for position in (*section.parts, *new.parts))


def _has_room(section, new, joined, depth):
    """Whether the constants of both can be in place together."""
    if not section.words or not new.words:
        return True
    same = section.operations & new.operations and joined.words == section.words
    return joined.words * (1 if same else SHARE) <= depth


def _ends(section, parts):
    """The first and the last instruction of a section."""
    indices = [index for part in section.parts for index in _indices(parts[part])]
    return min(indices), max(indices)


def _place(sections, memory, plan, arch):
    """The two ends of a memory in turns."""
    size, last = memories(arch)[memory], None
    for number, section in enumerate(sections):
        if not section.words:
            continue
        if section.words > size.depth:
            raise _too_small(section, sections, memory, plan, arch)
        if last is not None and not sections[last].start:
            section.start = size.depth - section.words
        section.late = last == number - 1 and sections[last].words + section.words > size.depth
        last = number


def _too_small(section, sections, memory, plan, arch):
    segments = {segment.name: segment for segment in plan.segments}
    size, ranges = memories(arch)[memory], section.ranges
    largest = max(ranges, key=lambda name: ranges[name][1] - ranges[name][0])
    needed = max(other.words for other in sections)
    return TooSmall(
        f"layer {segments[largest].layer}: its constants in {memory.upper()} are "
        f"{ranges[largest][1] - ranges[largest][0]} words of {size.width} bits; with the others "
        f"that are needed meanwhile they take {(needed - size.depth) * size.width} bits more than "
        f"target {arch.name} has; raise {memory}_depth to {needed}", {f"{memory}_depth": needed})


def _pad(sections, parts, apart, depth):
    """Pieces somewhat shorter than those that are fetched in front of loops that are alike."""
    alike = collections.defaultdict(list)
    for number, section in enumerate(sections[:-1]):
        if isinstance(part := parts[section.parts[0]], Pipeline):
            alike[signature(apart, part)].append(number + 1)
    for numbers in alike.values():
        words = [sections[number].words for number in numbers]
        usual = max(set(words), key=lambda count: (words.count(count), count))
        for number in numbers:
            if usual <= 2 * sections[number].words < 2 * usual:
                _lengthen(sections, number, usual, depth)


def _lengthen(sections, number, words, depth):
    """Let a piece take more words, if all can come as early as before."""
    section = sections[number]
    if any(other.words + words > depth for other in sections[max(number - 1, 0):number + 2]
           if other is not section):
        return
    if section.start:
        section.start = depth - words
    section.words = words


def _image(sections, plan, arch, outside):
    """First beat of each piece by memory and number of the section, and the bytes; equal pieces lie
    there once."""
    segments = {segment.name: segment for segment in plan.segments}
    pieces, names = {}, {}
    for memory, own in sections.items():
        for number, section in enumerate(own):
            if not section.words:
                continue
            words = tuple(word for name, (low, high) in section.ranges.items()
                          for word in segments[name].words[low:high])
            words += (0,) * (section.words - len(words))
            layer = segments[next(iter(section.ranges))].layer
            piece = pieces.setdefault((memory, words), Segment(str(len(pieces)), memory, words,
                                                               layer))
            names[memory, number] = piece.name
    room = Segment("outside", "pos", (0,) * outside, plan.layers[0].name)
    beats, image = external_image((room, *pieces.values()), arch)
    return {key: beats[name] for key, name in names.items()}, image


def _located(sections, plan, parts):
    """All instructions, with numbers for the addresses of their constants."""
    places = {}
    for own in sections.values():
        for section in own:
            start, found = section.start, {}
            for name, (low, high) in section.ranges.items():
                found[name] = start - low
                start += high - low
            for part in section.parts:
                places.setdefault(part, {}).update(found)
    result = list(plan.instructions)
    for position, part in enumerate(parts):
        found = places[position]
        for index in _indices(part):
            fields = {name: found[value.region] + value.offset
                      if isinstance(value, Address) and value.region in found else value
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
            streams = tuple(Stream(tuple(place[index] for index in stream.indices), stream.begin)
                            for stream in part.streams)
            moved.append(Pipeline(streams, extra[position]))
    return dataclasses.replace(plan, instructions=tuple(instructions), segments=()), moved
