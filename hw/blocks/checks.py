"""Checks of an instruction before it is dispatched, and the codes of the ERROR register."""

import functools
import operator

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, enum

from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, UNIT_OF, Destination, Opcode, Unit, layout_of

__all__ = ["ErrorCode", "check_instruction", "count_limits", "unit_bits"]


class ErrorCode(enum.Enum, shape=unsigned(8)):
    """Codes of the ERROR register."""

    NONE = 0
    OPCODE = 1        # illegal opcode, or the program has no HALT
    RESERVED = 2      # reserved bits set
    WAIT = 3          # wait beyond what was dispatched
    COUNT = 4         # a count field is zero or too large
    STREAM_SHORT = 5  # the input stream ended early
    STREAM_LONG = 6   # no tlast on the final beat


def count_limits(arch: Arch, opcode: Opcode) -> dict[str, int | None]:
    """Count fields of an opcode with their largest value; the smallest is 1.

    ``None`` stands for any value that fits the field. Besides, LOAD needs ``row + tokens`` to be
    at most `rows`, and ``rows`` of MM_BITS counts only where the destination is V.
    """
    limits = {"n_tiles": None, "k_words": None, "pixels": None, "channels": None, "count": None,
              "a_planes": 8, "b_planes": 8, "groups": arch.drain_cycles,
              "tokens": arch.rows, "rows": arch.rows}
    return {name: limits[name] for name in FORMATS[opcode] if name in limits}


def unit_bits(unit: Unit) -> int:
    """Bits of the longest instruction of a unit."""
    return max(layout_of(opcode).size - layout_of(opcode)["reserved"].width
               for opcode, owner in UNIT_OF.items() if owner == unit)


def check_instruction(m: Module, arch: Arch, word: Value) -> Signal:
    """The first error that `word` alone shows, or ``ErrorCode.NONE``."""
    error = Signal(ErrorCode, init=ErrorCode.OPCODE)
    with m.Switch(word[:4]):
        for opcode in Opcode:
            with m.Case(opcode.value):
                view = data.View(layout_of(opcode), word)
                m.d.comb += error.eq(ErrorCode.NONE)
                with m.If(view.reserved != 0):
                    m.d.comb += error.eq(ErrorCode.RESERVED)
                with m.Elif(_any(_count_errors(arch, opcode, view))):
                    m.d.comb += error.eq(ErrorCode.COUNT)
    return error


def _count_errors(arch, opcode, view):
    for name, limit in count_limits(arch, opcode).items():
        field = view[name]
        wrong = field == 0
        if limit is not None:
            wrong |= field > limit
        if name == "rows":
            wrong &= view.dst == Destination.V
        yield wrong
    if opcode is Opcode.LOAD:
        yield view.row + view.tokens > arch.rows


def _any(conditions):
    return functools.reduce(operator.or_, conditions, Cat().any())
