"""What an operation does again and again, as streams of instructions.

The instructions of an operation with one place in its iterations form a stream: equal but for
indexed fields, each of which follows a :class:`Course`. An operation is cut where a course would
break, and what repeats nowhere stays straight code.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from bivit.compiler.structures import Instruction
from bivit.hw.isa import INDEXED, Opcode

__all__ = ["Course", "Roll", "course_of", "find_rolls", "fixed_fields"]

_ONCE = 16
"""A wrap that comes once has a period longer than any loop."""
_LAYERS = 4
"""Most kinds of wraps in a course."""
_SHORTEST_LAYERED = 14
"""Iterations from which on a course may have wraps of several kinds."""
_LONGEST_PATTERN = 64
"""Instructions that may repeat as a whole in an operation without iterations."""
_OVERHEAD = 3
"""Lines that a loop takes beside its body."""


@dataclasses.dataclass(frozen=True)
class Course:
    """What a field adds up: ``step * i + wrap * ((i + phase) // period)``; no period, no wraps.

    With `pulse` it is 1 where ``(i + phase) % period`` is 0, and 0 elsewhere. `more` are courses
    of wraps alone that are added.
    """

    step: int = 0
    wrap: int = 0
    period: int = 0
    phase: int = 0
    pulse: bool = False
    more: tuple["Course", ...] = ()

    def later(self, iterations: int) -> "Course":
        """The same course, begun some iterations later."""
        if not self.period:
            return self
        return dataclasses.replace(
            self, phase=(self.phase - iterations) % self.period,
            more=tuple(course.later(iterations) for course in self.more))

    @property
    def moves(self) -> bool:
        """Whether it changes anything."""
        return bool(self.step or self.wrap or self.pulse)


@dataclasses.dataclass(frozen=True)
class Roll:
    """Iterations of an operation that are alike, or instructions that are not.

    Parameters
    ----------
    columns : tuple of tuple of int
        Instructions by place in the iteration, then by iteration: positions in canonical order.
    rest : tuple of int
        Instructions that follow each other, if there are no columns.
    """

    columns: tuple[tuple[int, ...], ...] = ()
    rest: tuple[int, ...] = ()


def fixed_fields(instruction: Instruction) -> tuple:
    """What a stream has in common."""
    indexed = INDEXED[instruction.opcode]
    return (instruction.opcode,
            tuple(value for name, value in instruction.fields.items() if name not in indexed))


def course_of(values: Sequence[int]) -> Course | None:
    """The course of a field, or None if it has none."""
    steps = [after - before for before, after in zip(values, values[1:], strict=False)]
    kinds = set(steps)
    if len(kinds) <= 1:
        return Course(steps[0] if steps else 0)
    if set(values) == {0, 1}:
        ones = [index for index, value in enumerate(values) if value]
        period = _period(ones, len(values))
        if ones[0] < period:
            return Course(period=period, phase=-ones[0] % period, pulse=True)
    if len(kinds) > 2:
        return _layered(steps)
    common, other = sorted(kinds, key=lambda step: (-steps.count(step), step))
    for usual, rare in ((common, other), (other, common)):
        wraps = [index + 1 for index, step in enumerate(steps) if step == rare]
        if period := _period(wraps, len(values)):
            return Course(usual, rare - usual, period, -wraps[0] % period)
    return _layered(steps)


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
    first, *more = sorted(layers, key=lambda layer: layer.period)
    return dataclasses.replace(first, step=usual, more=tuple(more))


def _periods(rest, length):
    """Distances from the first wrap to others like it, and one longer than any loop."""
    first, *others = rest
    return [place - first for place in others
            if rest[place] == rest[first] and place - first >= first] + [2 * length + _ONCE]


def _without(rest, length, period):
    """What is left without the first wrap and those that follow it at a period; their course."""
    first = next(iter(rest))
    left, wrap = dict(rest), rest[first]
    for place in range(first, length, period):
        left[place] = left.get(place, 0) - wrap
    left = {place: left[place] for place in sorted(left) if left[place]}
    return left, Course(0, wrap, period, -first % period)


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
    rolls = [roll for iterations in operations.values()
             for roll in _pieces(instructions, list(iterations.values()))]
    return [*rolls, Roll(rest=(len(instructions) - 1,))]


def _pieces(instructions, rows) -> Iterator[Roll]:
    """Iterations, grouped as far as they are alike; the others, as far as something repeats."""
    signatures = [tuple(fixed_fields(instructions[index]) for index in row) for row in rows]
    begin, straight = 0, []
    while begin < len(rows):
        end = begin + 1
        while end < len(rows) and signatures[end] == signatures[begin]:
            end += 1
        end = begin + _regular(instructions, rows[begin:], _alike(instructions, rows[begin:end]))
        if end - begin > 1:
            yield from _patterns(instructions, straight)
            straight = []
            yield Roll(tuple(zip(*rows[begin:end], strict=True)))
        else:
            straight += rows[begin]
        begin = end
    yield from _patterns(instructions, straight)


def _alike(instructions, rows):
    """How many iterations from the first on have courses."""
    low, high = 1, len(rows)
    if all(_has_courses(instructions, column) for column in zip(*rows, strict=True)):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        columns = zip(*rows[:middle], strict=True)
        if all(_has_courses(instructions, column) for column in columns):
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
    return min((course.period - course.phase for course in courses
                if course.wrap and course.period > count), default=count)


def _has_courses(instructions, column):
    names = INDEXED[instructions[column[0]].opcode]
    return all(course_of([instructions[index].fields[name] for index in column]) is not None
               for name in names)


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
            yield Roll(tuple(zip(*rows, strict=True)))
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
