"""Seventh pass, first half: fields of a loop that change, as registers, and steps that change them.

A field is ``immediate + register``. Fields with the same course, whose values in the calls of a
loop differ by the same amounts, share a register.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.streams import Course, course_of, fixed_fields
from bivit.compiler.structures import LARGEST_STAGE, Instruction, Order, Pipeline, Stream
from bivit.hw.isa import FORMATS, INDEXED, REGISTER_BITS, REGISTERS, STEPS

__all__ = ["Indexing", "Unrolled", "courses_of", "index_fields", "signature", "steps_allowed",
           "steps_needed"]

_MODULUS = 1 << REGISTER_BITS


class Unrolled(Exception):
    """A loop that the registers or the steps of an END do not suffice for."""


@dataclasses.dataclass(frozen=True)
class Indexing:
    """A loop's registers.

    Parameters
    ----------
    fields : tuple of dict
        The indexed fields of each stream: immediate, and register.
    fixed : dict of int to int
        Registers that begin with the same value in every call.
    given : dict of int to tuple of int
        Registers that begin with a value for each call.
    steps : tuple of tuple of (register, add, limit, on_wrap)
        What the lines of END do.
    """

    fields: tuple[dict[str, tuple[int, int]], ...]
    fixed: dict[int, int]
    given: dict[int, tuple[int, ...]]
    steps: tuple[tuple[tuple[int, int, int, int], ...], ...]


def courses_of(instructions: Sequence[Instruction], stream: Stream) -> dict[str, Course]:
    """The course of every indexed field of a stream."""
    return {name: course_of([instructions[index].fields[name] for index in stream.indices])
            for name in INDEXED[instructions[stream.indices[0]].opcode]}


def signature(instructions: Sequence[Instruction], streams: Sequence[Stream]) -> tuple:
    """What loops that are alike have in common."""
    return tuple((stream.begin, stream.end, fixed_fields(instructions[stream.indices[0]]),
                  tuple(courses_of(instructions, stream).items())) for stream in streams)


def steps_allowed(streams: int) -> int:
    """Steps that the END of a loop may have: a long body has time for more of them."""
    return max(2 * STEPS, streams)


def steps_needed(courses: Sequence[dict[str, Course]], begins: Sequence[int], count: int) -> int:
    """Steps of END that the courses take, begun in these turns, if all calls were equal."""
    registers = _Registers(1, count)
    for stream, fields in enumerate(courses):
        for course in fields.values():
            if course.moves:
                registers.of(course, begins[stream], (0,))
    return sum(map(len, registers.steps()))


def index_fields(instructions: Sequence[Instruction], calls: Sequence[Pipeline],
                 order: Order) -> Indexing:
    """Registers for all calls of a loop.

    Raises
    ------
    Unrolled
        If there are not enough of them, or of steps.
    """
    courses = [courses_of(instructions, stream) for stream in calls[0].streams]
    registers = _Registers(len(calls), calls[0].count)
    fields = []
    for number, stream in enumerate(calls[0].streams):
        opcode, found = instructions[stream.indices[0]].opcode, {}
        stage = order.stages[number] + stream.begin
        for name, course in courses[number].items():
            width = _width(opcode, name)
            starts = [instructions[call.streams[number].indices[0]].fields[name] for call in calls]
            least = min(starts) if width > REGISTER_BITS else starts[0]
            offsets = tuple(start - least for start in starts)
            if width > REGISTER_BITS and max(offsets) >= _MODULUS:
                raise Unrolled(f"{name} differs too much from call to call")
            register, first = registers.of(course, stage, offsets)
            immediate = least + _shifted(course, stage) - first
            found[name] = immediate % (1 << width), register
        fields.append(found)
    steps = registers.steps()
    needed = sum(map(len, steps))
    if needed > steps_allowed(len(courses)) or registers.used >= REGISTERS:
        raise Unrolled(f"{needed} steps and {registers.used} registers")
    return Indexing(tuple(fields), registers.fixed, registers.given, steps)


def _shifted(course, stage):
    """What a course has added, begun `stage` iterations later, in the iteration of its start."""
    if course.pulse:
        return -int(course.pulse.phase == 0)
    return -course.step * stage + sum(
        wrap.add * ((wrap.phase - stage - later.phase) // wrap.period)
        for wrap, later in zip(course.wraps, course.later(stage).wraps, strict=True))


def _width(opcode, name):
    shape = FORMATS[opcode][name]
    return shape if isinstance(shape, int) else shape.as_shape().width


class _Registers:
    """Registers of one loop, as fields ask for them."""

    def __init__(self, calls, count):
        self._same, self._count = (0,) * calls, count
        self._numbers, self._rings = {}, {}
        self._plain, self._cleared, self._limited, self._wrapped = [], [], [], {}
        self.fixed, self.given, self.used = {}, {}, 0

    def of(self, course: Course, stage: int, offsets: tuple[int, ...]) -> tuple[int, int]:
        """The register of a course that begins with a stage, and its value before `offsets` are
        added."""
        begun, course = course.pulse, course.later(stage)
        offsets = tuple(offset % _MODULUS for offset in offsets)
        same = offsets == self._same
        if same and not course.moves:
            return 0, 0
        if course.pulse:
            return self._pulse(course.pulse, offsets, at_start=begun.phase == 0), 0
        if same and len(course.wraps) == 1:
            (add, period, phase), = course.wraps
            if add == -course.step * period:
                return self._ring(course.step, period, phase), course.step * phase
        key = course, offsets
        if key not in self._numbers:
            number = self._numbers[key] = self._new(0, offsets)
            if course.step:
                self._plain.append((number, course.step % _MODULUS, 0, 0))
            for add, period, phase in course.wraps:
                self._wrapped[self._counter(period, phase)].append(
                    (number, add % _MODULUS, 0, 1))
        return self._numbers[key], 0

    def _new(self, value, offsets):
        self.used += 1
        if offsets == self._same:
            self.fixed[self.used] = value % _MODULUS
        else:
            self.given[self.used] = offsets
        return self.used

    def _ring(self, step, period, phase):
        """A register that is 0 again at every period."""
        key = period, phase, step
        if key not in self._rings:
            self._rings[key] = number = self._new(step * phase, self._same)
            self._wrapped[number] = []
            self._limited.append((number, step % _MODULUS, step * period % _MODULUS, 0))
        return self._rings[key]

    def _counter(self, period, phase):
        """A ring that wraps so often, with room for a step behind it in its line of END."""
        for key, number in self._rings.items():
            if key[:2] == (period, phase) and len(self._wrapped[number]) < STEPS - 1:
                return number
        step = 1 + sum(key[:2] == (period, phase) for key in self._rings)
        while (period, phase, step) in self._rings:
            step += 1
        return self._ring(step, period, phase)

    def _pulse(self, pulse, offsets, *, at_start):
        """A register whose lowest bit is the course."""
        if offsets != self._same:
            raise Unrolled("a pulse that differs from call to call")
        if pulse in self._numbers:
            return self._numbers[pulse]
        before = (pulse.period - pulse.phase) % pulse.period
        if at_start and before + pulse.period >= self._count + LARGEST_STAGE:  # odd, then even
            self._numbers[pulse] = self._new(-1 - 2 * before, self._same)
            self._limited.append((self._numbers[pulse], 2, 1, 0))
            return self._numbers[pulse]
        counter = self._counter(*pulse)
        self._numbers[pulse] = number = self._new(int(pulse.phase == 0), self._same)
        self._cleared.append((number, 0, 1, 0))
        self._wrapped[counter].append((number, 1, 0, 1))
        return number

    def steps(self):
        """The steps of END, in lines; a ring and what hangs on it share one."""
        groups = [(step,) for step in self._plain + self._cleared]
        groups += [(limited, *self._wrapped.get(limited[0], ())) for limited in self._limited]
        lines = [()]
        for group in groups:
            if len(lines[-1]) + len(group) > STEPS:
                lines.append(())
            lines[-1] += group
        return tuple(lines)
