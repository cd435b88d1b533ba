"""Straight lines that come again and again, as subroutines.

Layers that are alike begin their loops and move their rows with the same lines. Each sequence of
them is kept once, behind HALT, and called; it holds no loop of its own and no other such sequence,
so that the stack has room.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from bivit.compiler.code import Code, Line, looped
from bivit.hw.isa import Opcode

__all__ = ["call_repeats"]

_LONGEST = 64
"""Most lines of a sequence."""


@dataclasses.dataclass(frozen=True)
class _Repeat:
    """Lines that follow each other, by the number of the first one each time."""

    starts: tuple[int, ...]
    length: int

    @property
    def saved(self) -> int:
        """Lines fewer, with calls and RETURN."""
        return (len(self.starts) - 1) * (self.length - 1) - 2


def call_repeats(code: Code) -> Code:
    """The same program, with what its straight lines have in common kept once."""
    halt = next(number for number, line in enumerate(code.lines) if line.opcode is Opcode.HALT)
    repeats = list(_repeats(code.lines[:halt]))
    if not repeats:
        return code
    begins = {start: repeat for repeat in repeats for start in repeat.starts}
    inside = {start + place for start, repeat in begins.items() for place in range(repeat.length)}
    lines, where = [], {}  # new lines, and the new number of an old line, or of a sequence
    for number, line in enumerate(code.lines):
        if number not in inside:
            where[number] = len(lines)
            lines.append(line)
        elif number in begins:
            where[begins[number], number] = len(lines)
            lines.append(Line(Opcode.SET, {"used": 0, "call": 1, "target": begins[number]}))
    for repeat in repeats:
        where[repeat] = len(lines)
        first = repeat.starts[0]
        for place, line in enumerate(code.lines[first:first + repeat.length]):
            where |= dict.fromkeys((start + place for start in repeat.starts), len(lines))
            lines.append(line)
        where[repeat, "end"] = len(lines)
        lines.append(Line(Opcode.RETURN))
    return Code(tuple(_targeted(line, where) for line in lines),
                tuple(_steps(code.steps, where, begins, inside, halt)))


def _targeted(line, where):
    """A line whose call goes to where its target is now."""
    if not line.fields.get("call"):
        return line
    return dataclasses.replace(line, fields=line.fields | {"target": where[line.fields["target"]]})


def _steps(steps, where, begins, inside, halt):
    """What runs, with calls and RETURNs."""
    running = None
    for line, index in steps:
        if line in begins or (line <= halt and line not in inside):
            if running:
                yield where[running, "end"], None
            running = begins.get(line)
            if running:
                yield where[running, line], None
        yield where[line], index


def _repeats(lines) -> Iterator[_Repeat]:
    """The sequences that save most, one after another; a line belongs to one at most."""
    unlike = itertools.count()
    keys = [next(unlike) if in_loop else (line.opcode, *sorted(line.fields.items()))
            for line, in_loop in zip(lines, looped(lines), strict=True)]
    while (best := max(_candidates(keys), key=lambda repeat: repeat.saved)).saved > 0:
        yield best
        for start in best.starts:
            keys[start:start + best.length] = itertools.islice(unlike, best.length)


def _candidates(keys: Sequence) -> Iterator[_Repeat]:
    """For each length, the sequence that comes most often."""
    for length in range(1, _LONGEST + 1):
        found = {}
        for start in range(len(keys) - length + 1):
            starts = found.setdefault(tuple(keys[start:start + length]), [])
            if not starts or starts[-1] + length <= start:
                starts.append(start)
        starts = max(found.values(), key=len, default=())
        yield _Repeat(tuple(starts), length)
        if len(starts) < 2:
            return
