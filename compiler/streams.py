"""What an operation does again and again, as streams of instructions.

The instructions of an operation with one place in its iterations form a stream: equal but for
indexed fields, each of which follows a :class:`Course`. An operation is cut where a course would
break, and what repeats nowhere stays straight code.
"""

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bivit.compiler.code import Stream
from bivit.compiler.structures import Instruction
from bivit.hw.isa import FORMATS, INDEXED, Opcode

__all__ = ["Course", "Pulse", "Roll", "Wrap", "course_of", "find_rolls", "fixed_fields",
           "has_courses"]

_ONCE = 16
"""A wrap that comes once has a period longer than any loop."""
_MOST_WRAPS = 2
"""Wraps of a course."""
_OFTEN = 3
"""How often a wrap comes at least if there is a second one."""
_LAYERS = 4
"""Most kinds of wraps in a long course."""
_SHORTEST_LAYERED = 14
"""Iterations from which on a course may have wraps of several kinds."""
_LONGEST_PATTERN = 64
"""Instructions that may repeat as a whole in an operation without iterations."""
_OVERHEAD = 3
"""Lines that a loop takes beside its body."""

_FIXED = {opcode: tuple(name for name in fields if name not in INDEXED.get(opcode, ()))
          for opcode, fields in FORMATS.items()}
"""Fields that are the same in all instructions of a stream."""


class Wrap(NamedTuple):
    """What a course adds besides: ``add * ((i + phase) // period)``."""

    add: int
    period: int
    phase: int


class Pulse(NamedTuple):
    """1 where ``(i + phase) % period`` is 0, and 0 elsewhere."""

    period: int
    phase: int


@dataclasses.dataclass(frozen=True)
class Course:
    """What a field adds up: ``step * i`` and its wraps; or a pulse."""

    step: int = 0
    wraps: tuple[Wrap, ...] = ()
    pulse: Pulse | None = None

    def later(self, iterations: int) -> "Course":
        """The same course, begun some iterations later."""
        def begun(part):
            return part._replace(phase=(part.phase - iterations) % part.period)

        return Course(self.step, tuple(map(begun, self.wraps)), self.pulse and begun(self.pulse))

    @property
    def moves(self) -> bool:
        """Whether it changes anything."""
        return bool(self.step or self.wraps or self.pulse)


@dataclasses.dataclass(frozen=True)
class Roll:
    """Iterations of an operation that are alike, or instructions that are not.

    Parameters
    ----------
    streams : tuple of Stream
    rest : tuple of int
        Instructions that follow each other, if there are no streams: positions in canonical order.
    """

    streams: tuple[Stream, ...] = ()
    rest: tuple[int, ...] = ()


def fixed_fields(instruction: Instruction) -> tuple:
    """What a stream has in common."""
    return instruction.opcode, tuple(map(instruction.fields.get, _FIXED[instruction.opcode]))


def course_of(values: Sequence[int]) -> Course | None:
    """The course of a field, or None if it has none."""
    step = values[1] - values[0] if len(values) > 1 else 0
    if values == (list(range(values[0], values[0] + step * len(values), step)) if step
                  else [values[0]] * len(values)):
        return Course(step)
    steps = [after - before for before, after in zip(values, values[1:], strict=False)]
    kinds = sorted(set(steps), key=lambda step: (-steps.count(step), step))
    if set(values) == {0, 1}:
        ones = [index for index, value in enumerate(values) if value]
        period = _period(ones, len(values))
        if period and ones[0] < period:
            return Course(pulse=Pulse(period, -ones[0] % period))
    found = [Course(step, wraps) for step in kinds[:2]
             if (wraps := _wraps([other - step for other in steps]))]
    return min(found, key=lambda course: len(course.wraps), default=None) or _layered(steps)


def _wraps(left):
    """What steps are more than the usual one, as a wrap or two; or nothing if it has no order."""
    wraps, often = [], True
    while any(left):
        places = [index + 1 for index, rest in enumerate(left) if rest]
        gaps = set(map(operator.sub, places[1:], places))
        if len(gaps) > 1 or not often or len(wraps) == _MOST_WRAPS:
            return ()
        often = len(places) >= _OFTEN
        period = gaps.pop() if gaps else _period(places, len(left) + 1)
        adds = [left[place - 1] for place in places]
        wrap = Wrap(max(adds, key=adds.count), period, -places[0] % period)
        wraps.append(wrap)
        left = [rest - wrap.add * ((index + 1 + wrap.phase) % period == 0)
                for index, rest in enumerate(left)]
    return tuple(wraps)


def _layered(steps):
    """A course with wraps of several kinds, the most frequent first, or None."""
    length = len(steps) + 1
    if length < _SHORTEST_LAYERED:
        return None
    usual = max(sorted(set(steps)), key=steps.count)
    rest = {index + 1: step - usual for index, step in enumerate(steps) if step != usual}
    layers = []
    while rest and len(layers) < _LAYERS:
        rest, layer = min((_without(rest, length, period) for period in _periods(rest, length)),
                          key=lambda found: len(found[0]))
        layers.append(layer)
    if rest:
        return None
    return Course(usual, tuple(sorted(layers, key=lambda layer: layer.period)))


def _periods(rest, length):
    """Distances from the first wrap to others like it, and one longer than any loop."""
    first, *others = rest
    return [place - first for place in others
            if rest[place] == rest[first] and place - first >= first] + [2 * length + _ONCE]


def _without(rest, length, period):
    """What is left without the first wrap and those that follow it at a period; these."""
    first = next(iter(rest))
    left, wrap = dict(rest), rest[first]
    for place in range(first, length, period):
        left[place] = left.get(place, 0) - wrap
    left = {place: left[place] for place in sorted(left) if left[place]}
    return left, Wrap(wrap, period, -first % period)


def _period(places, length):
    """Distance between places that are equally far apart, or 0."""
    gaps = {after - before for before, after in zip(places, places[1:], strict=False)}
    period = gaps.pop() if gaps else 2 * length + _ONCE
    even = not gaps and places[0] <= period and length - places[-1] <= period
    return period if even else 0


def find_rolls(instructions: Sequence[Instruction]) -> list[Roll]:
    """The operations, in pieces that are alike or straight."""
    operations = {}
    for index, instruction in enumerate(instructions):
        if instruction.opcode is not Opcode.HALT:
            key = instruction.operation, instruction.group
            iterations = operations.setdefault(key, {})
            iterations.setdefault(instruction.iteration, []).append(index)
    rolls = []
    for iterations in operations.values():
        whole = _whole(instructions, iterations)
        rolls += [whole] if whole else _pieces(instructions, list(iterations.values()))
    return [*rolls, Roll(rest=(len(instructions) - 1,))]


def _whole(instructions, iterations):
    """An operation of which every part has a course from its first to its last iteration."""
    parts, order = {}, []
    for iteration, row in iterations.items():
        place = 0
        for number, index in enumerate(row):
            name = number if instructions[index].part is None else instructions[index].part
            if name not in parts:
                order.insert(place, name)
            place = order.index(name) + 1
            parts.setdefault(name, {})[iteration] = index
    streams = [Stream(tuple(parts[name].values()), min(parts[name])) for name in order]
    for stream, part in zip(streams, map(parts.get, order), strict=True):
        if (sorted(part) != list(range(stream.begin, stream.end)) or list(part) != sorted(part)
                or len({fixed_fields(instructions[index]) for index in part.values()}) > 1
                or not has_courses(instructions, stream.indices)):
            return None
    count = max(stream.end for stream in streams)
    return Roll(tuple(streams)) if count > 1 else None


def _pieces(instructions, rows) -> Iterator[Roll]:
    """Iterations, grouped as far as they are alike; the others, as far as something repeats."""
    signatures = [tuple(fixed_fields(instructions[index]) for index in row) for row in rows]
    begin, straight = 0, []
    while begin < len(rows):
        end = begin + 1
        while end < len(rows) and signatures[end] == signatures[begin]:
            end += 1
        count = _regular(instructions, rows[begin:], _alike(instructions, rows[begin:end]))
        end = begin + _alike(instructions, rows[begin:begin + count])
        if end - begin > 1:
            yield from _patterns(instructions, straight)
            straight = []
            yield _roll(rows[begin:end])
        else:
            straight += rows[begin]
        begin = end
    yield from _patterns(instructions, straight)


def _roll(rows):
    return Roll(tuple(map(Stream, zip(*rows, strict=True))))


def _alike(instructions, rows):
    """How many iterations from the first on have courses."""
    low, high = 1, len(rows)
    if all(has_courses(instructions, column) for column in zip(*rows, strict=True)):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        columns = zip(*rows[:middle], strict=True)
        if all(has_courses(instructions, column) for column in columns):
            low = middle
        else:
            high = middle
    return low


def _regular(instructions, rows, count):
    """Fewer iterations, if a course that breaks off soon had a single wrap: before it."""
    if count == len(rows):
        return count
    courses = (course_of([instructions[index].fields[name] for index in column])
               for column in zip(*rows[:count], strict=True)
               for name in INDEXED[instructions[column[0]].opcode])
    return min((wrap.period - wrap.phase for course in courses for wrap in course.wraps
                if wrap.period > count), default=count)


def has_courses(instructions: Sequence[Instruction], column: Sequence[int]) -> bool:
    """Whether every indexed field of a stream has a course."""
    names = INDEXED[instructions[column[0]].opcode]
    rows = [instructions[index].fields for index in column]
    return all(course_of([fields[name] for fields in rows]) is not None for name in names)


def _patterns(instructions, indices) -> Iterator[Roll]:
    """Straight code, what repeats in it rolled up."""
    signatures = [fixed_fields(instructions[index]) for index in indices]
    begin, straight = 0, []
    while begin < len(indices):
        saved, rows = max(((_saving(rows), rows) for rows in _repeats(
            instructions, indices, signatures, begin)), key=lambda found: found[0],
            default=(0, None))
        if saved > 0:
            if straight:
                yield Roll(rest=tuple(straight))
                straight = []
            yield _roll(rows)
            begin += len(rows) * len(rows[0])
        else:
            straight.append(indices[begin])
            begin += 1
    if straight:
        yield Roll(rest=tuple(straight))


def _saving(rows):
    return (len(rows) - 1) * len(rows[0]) - _OVERHEAD


def _repeats(instructions, indices, signatures, begin):
    """Rows of instructions from one on that are alike, for every length of a row."""
    for length in range(1, min(_LONGEST_PATTERN, (len(indices) - begin) // 2) + 1):
        count = 1
        while signatures[begin:begin + length] == signatures[begin + count * length:
                                                             begin + (count + 1) * length]:
            count += 1
        if count > 1:
            rows = [indices[begin + k * length:begin + (k + 1) * length] for k in range(count)]
            rows = rows[:_alike(instructions, rows)]
            if len(rows) > 1:
                yield rows
