"""Seventh pass, first half: fields of a loop that change, as registers, and steps that change them.

A field is ``immediate + register``. Fields with the same course, whose values in the calls of a
loop differ by the same amounts, share a register.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.code import LARGEST_STAGE, Order, Pipeline, Stream
from bivit.compiler.streams import Course, course_of, fixed_fields
from bivit.compiler.structures import Instruction
from bivit.hw.isa import FORMATS, INDEXED, REGISTER_BITS, REGISTERS, STEPS

__all__ = ["Indexing", "Unrolled", "courses_of", "ends_allowed", "ends_needed", "index_fields",
           "signature"]

_END_LINES = 5
"""Lines that the steps of any loop may take."""
_MORE_LINES = 1
"""Lines more where calls differ."""

_BITS = {name for fields in FORMATS.values() for name, width in fields.items() if width == 1}
"""Fields of one bit."""

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
    before : tuple of dict
        Those of each instruction in front of the loop.
    fixed : dict of int to int
        Registers that begin with the same value in every call.
    given : dict of int to tuple of int
        Registers that begin with a value for each call.
    ends : tuple of tuple of (register, add, limit, on_wrap)
        What each END does.
    """

    fields: tuple[dict[str, tuple[int, int]], ...]
    before: tuple[dict[str, tuple[int, int]], ...]
    fixed: dict[int, int]
    given: dict[int, tuple[int, ...]]
    ends: tuple[tuple[tuple[int, int, int, int], ...], ...]


def courses_of(instructions: Sequence[Instruction], stream: Stream) -> dict[str, Course]:
    """The course of every indexed field of a stream."""
    rows = [instructions[index].fields for index in stream.indices]
    return {name: course_of([fields[name] for fields in rows])
            for name in INDEXED[instructions[stream.indices[0]].opcode]}


def ends_allowed(streams: int) -> int:
    """Lines that the steps of a loop may take: a long body has time for more of them."""
    return max(_END_LINES, streams // STEPS)


def signature(instructions: Sequence[Instruction], loop: Pipeline) -> tuple:
    """What loops have in common that can be calls of one body."""
    return (tuple(fixed_fields(instructions[index]) for index in loop.before),
            tuple((stream.begin, stream.end, fixed_fields(instructions[stream.indices[0]]),
                   tuple(courses_of(instructions, stream).items())) for stream in loop.streams))


def ends_needed(courses: Sequence[dict[str, Course]], begins: Sequence[int], count: int) -> int:
    """ENDs that the courses take, begun in these turns, if all calls were equal."""
    registers = _Registers(1, count)
    for stream, fields in enumerate(courses):
        for name, course in fields.items():
            if course.moves:
                registers.of(course, begins[stream], (0,), narrow=name in _BITS)
    if registers.used >= REGISTERS:
        return ends_allowed(len(courses)) + 1
    return len(registers.ends())


def index_fields(instructions: Sequence[Instruction], calls: Sequence[Pipeline],
                 order: Order) -> Indexing:
    """Registers for all calls of a loop.

    Raises
    ------
    Unrolled
        If there are not enough of them, or of steps.
    """
    registers = _Registers(len(calls), calls[0].count)
    before = tuple(_fields(registers, instructions,
                           [Stream((call.before[position],)) for call in calls], 0)
                   for position in range(len(calls[0].before)))
    fields = tuple(_fields(registers, instructions, [call.streams[stream] for call in calls],
                           stage + calls[0].streams[stream].begin)
                   for stream, stage in enumerate(order.stages))
    ends, lines = registers.ends(), ends_allowed(len(fields)) + _MORE_LINES * (len(calls) > 1)
    if len(ends) > lines or registers.used >= REGISTERS:
        raise Unrolled(f"{len(ends)} lines of steps and {registers.used} registers")
    return Indexing(fields, before, registers.fixed, registers.given, ends)


def _fields(registers, instructions, streams, stage):
    """Immediates and registers of one stream in all calls."""
    opcode, found = instructions[streams[0].indices[0]].opcode, {}
    for name, course in courses_of(instructions, streams[0]).items():
        width = _width(opcode, name)
        starts = [instructions[stream.indices[0]].fields[name] for stream in streams]
        least = min(starts) if width > REGISTER_BITS else starts[0]
        offsets = tuple(start - least for start in starts)
        if width > REGISTER_BITS and max(offsets) >= _MODULUS:
            raise Unrolled(f"{name} differs too much from call to call")
        register, first = registers.of(course, stage, offsets, narrow=name in _BITS)
        immediate = least + _shifted(course, stage) - first
        found[name] = immediate % (1 << width), register
    return found


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

    def of(self, course: Course, stage: int, offsets: tuple[int, ...], *,
           narrow: bool) -> tuple[int, int]:
        """The register of a course that begins with a stage, and its value before `offsets` are
        added; only the lowest bit matters to a `narrow` field."""
        begun, course = course.pulse, course.later(stage)
        offsets = tuple(offset % _MODULUS for offset in offsets)
        same = offsets == self._same
        if same and not course.moves:
            return 0, 0
        if course.pulse:
            at_start = narrow and begun.phase == 0
            return self._pulse(course.pulse, offsets, at_start=at_start), 0
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

    def _ring(self, step, period, phase, copy=0):
        """A register that is 0 again at every period; `copy` tells equal ones apart."""
        key = period, phase, step, copy
        if key not in self._rings:
            self._rings[key] = number = self._new(step * phase, self._same)
            self._wrapped[number] = []
            self._limited.append((number, step % _MODULUS, step * period % _MODULUS, 0))
        return self._rings[key]

    def _counter(self, period, phase):
        """A ring that wraps so often."""
        found = [number for key, number in self._rings.items() if key[:2] == (period, phase)]
        for number in found:
            if len(self._wrapped[number]) < STEPS - 1:
                return number
        return self._ring(1, period, phase, len(found))

    def _pulse(self, pulse, offsets, *, at_start):
        """A register whose lowest bit is the course."""
        if offsets != self._same:
            raise Unrolled("a pulse that differs from call to call")
        key = pulse, at_start
        if key in self._numbers:
            return self._numbers[key]
        before = (pulse.period - pulse.phase) % pulse.period
        if at_start and before + pulse.period >= self._count + LARGEST_STAGE:  # odd, then even
            self._numbers[key] = self._new(-1 - 2 * before, self._same)
            self._limited.append((self._numbers[key], 2, 1, 0))
            return self._numbers[key]
        counter = self._counter(*pulse)
        self._numbers[key] = number = self._new(int(pulse.phase == 0), self._same)
        self._cleared.append((number, 0, 1, 0))
        self._wrapped[counter].append((number, 1, 0, 1))
        return number

    def ends(self):
        """The steps of each END; bits are cleared before others set them, and what hangs on a
        limit stays behind it."""
        groups = [[step] for step in self._plain + self._cleared]
        for limited in self._limited:
            groups.append([limited, *self._wrapped.get(limited[0], ())])
        ends = [[]]
        for group in groups:
            end = next((end for end in ends if len(end) + len(group) <= STEPS), None)
            if end is None:
                ends.append(end := [])
            end += group
        return tuple(tuple(end) for end in ends)
