"""Fourth pass: what an operation does again and again, as streams of instructions.

The instructions of an operation with one place in its iterations form a stream: equal but for
indexed fields, each of which follows ``start + step * i``, and a further step at every `period`-th
iteration. Iterations at the beginning or the end that are different stay straight code.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.structures import Instruction
from bivit.hw.isa import INDEXED, Opcode

__all__ = ["Course", "Roll", "course_of", "find_rolls", "fixed_fields"]
_ONCE = 16
"""A wrap that comes once has a period longer than any loop."""


@dataclasses.dataclass(frozen=True)
class Course:
    """What a field adds up: ``step * i + wrap * ((i + phase) // period)``; no period, no wraps."""

    step: int = 0
    wrap: int = 0
    period: int = 0
    phase: int = 0

    def later(self, iterations: int) -> "Course":
        """The same course, begun some iterations later."""
        if not self.period:
            return self
        return dataclasses.replace(self, phase=(self.phase - iterations) % self.period)

    def at(self, iteration: int) -> int:
        """What is added to the value at iteration 0."""
        wraps = (iteration + self.phase) // self.period if self.period else 0
        return self.step * iteration + self.wrap * wraps


@dataclasses.dataclass(frozen=True)
class Roll:
    """Iterations of an operation that are alike.

    Parameters
    ----------
    first : int
        Number of the first of them.
    columns : tuple of tuple of int
        Instructions by place in the iteration, then by iteration: positions in canonical order.
    before, after : tuple of int
        The other instructions of the operation.
    """

    first: int
    columns: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


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
    if len(kinds) > 2:
        return None
    common, other = sorted(kinds, key=lambda step: (-steps.count(step), step))
    for usual, rare in ((common, other), (other, common)):
        wraps = [index + 1 for index, step in enumerate(steps) if step == rare]
        gaps = {after - before for before, after in zip(wraps, wraps[1:], strict=False)}
        period = gaps.pop() if gaps else 2 * len(values) + _ONCE
        if not gaps and wraps[0] <= period and len(values) - wraps[-1] <= period:
            return Course(usual, rare - usual, period, -wraps[0] % period)
    return None


def find_rolls(instructions: Sequence[Instruction]) -> list[Roll]:
    """The operations, each with the longest range of iterations that are alike."""
    operations = {}
    for index, instruction in enumerate(instructions):
        iterations = operations.setdefault(instruction.operation, {})
        iterations.setdefault(instruction.iteration, []).append(index)
    return [_roll(instructions, iterations) for iterations in operations.values()]


def _roll(instructions, iterations):
    numbers, rows = list(iterations), list(iterations.values())
    if any(instructions[index].opcode is Opcode.HALT for index in rows[-1]):
        return Roll(0, (), tuple(index for row in rows for index in row), ())
    signatures = [tuple(fixed_fields(instructions[index]) for index in row) for row in rows]
    begin, end = _longest(signatures)
    for first, last in ((begin, end), (begin + 1, end), (begin, end - 1), (begin + 1, end - 1)):
        columns = tuple(zip(*rows[first:last], strict=True))
        if last - first > 1 and all(_is_stream(instructions, column) for column in columns):
            break
    else:
        first, last, columns = len(rows), len(rows), ()
    return Roll(numbers[first] if columns else 0, columns,
                tuple(index for row in rows[:first] for index in row),
                tuple(index for row in rows[last:] for index in row))


def _longest(signatures):
    """Range of the longest run of equal neighbours."""
    best, begin = (0, 0), 0
    for index in range(1, len(signatures) + 1):
        if index == len(signatures) or signatures[index] != signatures[begin]:
            best = max(best, (begin, index), key=lambda run: run[1] - run[0])
            begin = index
    return best


def _is_stream(instructions, column):
    names = INDEXED[instructions[column[0]].opcode]
    return all(course_of([instructions[index].fields[name] for index in column]) is not None
               for name in names)
