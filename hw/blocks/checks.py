"""Checks of an instruction before it is dispatched, and the codes of the ERROR register."""

import functools

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value, unsigned
from amaranth.lib import data, enum

from bivit.hw.arch import Arch
from bivit.hw.encoding import layout_of, reserved_bits
from bivit.hw.isa import (
    CONTROL,
    FORMATS,
    HEADER,
    INSTR_BITS,
    LEVELS,
    OPCODE_BITS,
    SETS,
    UNIT_OF,
    AddSource,
    Destination,
    Opcode,
    RowKind,
    SoftmaxMode,
    Unit,
)

__all__ = ["ErrorCode", "FAULTS", "PART_OF", "check_counts", "control_faults", "count_faults",
           "missing_part", "opcodes_of", "units_of", "word_error", "word_faults", "word_marks"]


PART_OF = {
    Opcode.ROWS_ADD: "row_sums", Opcode.ROWS_OUT: "row_sums", Opcode.MOVE: "row_moves",
    **dict.fromkeys(CONTROL, "loops"),
}
"""Opcodes that only targets with a part have, and the part (:data:`bivit.hw.arch.PARTS`)."""


class ErrorCode(enum.Enum, shape=unsigned(8)):
    """Codes of the ERROR register."""

    NONE = 0
    OPCODE = 1        # illegal opcode, or the program has no HALT
    RESERVED = 2      # reserved bits set
    COUNT = 4         # a count is zero, or a count, a row or a number of a choice too large
    STREAM_SHORT = 5  # the input stream ended early
    STREAM_LONG = 6   # no tlast on the final beat
    STACK = 7         # too many loops and calls open, or END or RETURN without one
    STAGE = 8         # a stage or a rest outside of loops
    MEMORY_ERROR = 9   # external memory answers with an error
    MEMORY_SILENT = 10  # external memory does not answer


FAULTS = data.StructLayout({"illegal": 1, "count": 1, "reserved": 8})
"""What is wrong with a word of the program: some of its reserved bits each."""

_HEADER_MASK = (1 << data.StructLayout(HEADER).size) - (1 << OPCODE_BITS)
_COUNTS = {"n_tiles", "k_words", "pixels", "channels", "count", "a_planes", "b_planes", "groups",
           "tokens", "rows", "words", "sum_tiles", *(f"count_{level}" for level in range(LEVELS))}


def count_faults(arch: Arch, opcode: Opcode, fields):
    """Fields of an instruction that are out of their range, as pairs of name and condition.

    Counts must be at least 1; counts, rows, slots and numbers of enumerations must not be too
    large. Addresses are the program's own affair.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
    fields : mapping of str to int, or to Value
        The conditions are booleans, or Values.
    """
    used = {}
    if opcode is Opcode.MM_BITS:
        used["rows"] = fields["dst"] == Destination.V.value
    if opcode is Opcode.ROWS_OUT:
        used["k_words"] = fields["kind"] == RowKind.CODES.value
    for name, counts, largest in _limits(arch, opcode):
        field = fields[name]
        if counts:
            yield name, (field == 0) & used.get(name, True)
        if largest is not None:
            yield name, (field > largest) & used.get(name, True)
    if opcode is Opcode.FETCH:
        yield "memory", fields["memory"] == 0
    if opcode is Opcode.LOAD:
        yield "row + tokens", fields["row"] + fields["tokens"] > arch.rows
    if opcode is Opcode.MM_ACC:
        yield "add_phase", (fields["add_tiles"] != 0) & (fields["add_phase"] >= fields["add_tiles"])
    if opcode is Opcode.MOVE:
        yield "dst_row", (fields["to_keys"] == 0) & (fields["dst_row"] >= arch.rows)
    if "segment_left" in FORMATS[opcode]:
        yield "segment_left", (fields["segment_left"] == 0) & (fields["segment"] != 0)
        yield "segment_left", fields["segment_left"] > fields["segment"]


def units_of(arch: Arch) -> tuple[Unit, ...]:
    """The units that a target has; instructions of others are illegal."""
    return tuple(unit for unit in Unit if unit is not Unit.FETCH or arch.weights == "streamed")


def opcodes_of(arch: Arch) -> tuple[Opcode, ...]:
    """The legal opcodes of a target: those with a stem engine have STEM in the place of LOAD,
    only those whose weights are streamed have STORE; parts may be left out (``PART_OF``)."""
    absent = {Opcode.LOAD if arch.stem_macs else Opcode.STEM}
    if arch.weights != "streamed":
        absent |= {Opcode.STORE}
    absent |= {opcode for opcode, part in PART_OF.items() if not getattr(arch, part)}
    return tuple(opcode for opcode in Opcode
                 if opcode not in absent and UNIT_OF.get(opcode) in (None, *units_of(arch)))


def missing_part(arch: Arch, opcode: Opcode, fields) -> str | None:
    """The part that an instruction needs and a target has not, or None."""
    used = {PART_OF.get(opcode)}
    if opcode is Opcode.MM_SCORE and fields["use_bias"]:
        used.add("score_biases")
    if opcode is Opcode.MM_ACC and fields["bend"]:
        used.add("bends")
    if opcode is Opcode.SOFTMAX and fields["mode"] == SoftmaxMode.ABSOLUTE.value:
        used.add("exponentials")
    return next((part for part in used if part is not None and not getattr(arch, part)), None)


def control_faults(arch: Arch, opcode: Opcode, fields):
    """The same for instructions of the sequencer itself."""
    if opcode is Opcode.LOOP:
        yield "count", fields["count"] == 0
    if opcode is Opcode.SET:
        yield "used", fields["used"] > SETS
        yield "target", (fields["call"] != 0) & (fields["target"] >= arch.program_depth)


def word_marks(arch: Arch, word: Value) -> data.View:
    """What is wrong with a word of the program: ``FAULTS``, with a bit for those that are reserved
    in the same opcodes, and for each instruction of the sequencer."""
    is_ = {opcode: word[:OPCODE_BITS] == opcode.value for opcode in opcodes_of(arch)}
    alike = {}  # bits that are reserved in the same opcodes
    for bit in range(INSTR_BITS):
        opcodes = tuple(opcode for opcode, mask in _reserved(arch).items() if mask >> bit & 1)
        if opcodes:
            alike.setdefault(opcodes, []).append(word[bit])
    wrong = Cat(Cat(bits).any() & Cat(is_[opcode] for opcode in opcodes).any()
                for opcodes, bits in alike.items())
    count = Cat(_control_fault(arch, opcode, word) & is_[opcode] for opcode in is_
                if opcode in CONTROL)
    layout = data.StructLayout({"illegal": 1, "count": len(count), "reserved": len(wrong)})
    return data.View(layout, Cat(~Cat(is_.values()).any(), count, wrong))


def word_faults(marks: data.View) -> data.View:
    """The same with fewer bits."""
    wrong, bits = Value.cast(marks.reserved), FAULTS["reserved"].width
    share = -(-len(wrong) // bits)
    parts = [wrong[first:first + share].any() for first in range(0, len(wrong), share)]
    return data.View(FAULTS, Cat(marks.illegal, Value.cast(marks.count).any(), *parts,
                                 Const(0, bits - len(parts))))


def word_error(m: Module, faults: data.View) -> tuple[Signal, Value]:
    """The first error that a word of the program shows, whatever registers hold, or ``NONE``; and
    whether there is one."""
    error = Signal(ErrorCode)
    with m.If(faults.illegal):
        m.d.comb += error.eq(ErrorCode.OPCODE)
    with m.Elif(faults.reserved.any()):
        m.d.comb += error.eq(ErrorCode.RESERVED)
    with m.Elif(faults.count):
        m.d.comb += error.eq(ErrorCode.COUNT)
    return error, faults.as_value().any()


def _reserved(arch):
    """Bits that must be zero, of each opcode."""
    return {opcode: reserved_bits(opcode) | (_HEADER_MASK if opcode in CONTROL else 0)
            for opcode in opcodes_of(arch)}


def _control_fault(arch, opcode, word):
    """Whether a field of an instruction of the sequencer is wrong."""
    return Cat(wrong for _, wrong in control_faults(arch, opcode, _fields(opcode, word))).any()


def check_counts(m: Module, arch: Arch, word: Value) -> Signal:
    """Whether a count of an instruction for a unit is wrong, registers added."""
    wrong = Signal()
    with m.Switch(word[:OPCODE_BITS]):
        for opcode in (opcode for opcode in opcodes_of(arch) if opcode in UNIT_OF):
            with m.Case(opcode.value):
                faults = count_faults(arch, opcode, _fields(opcode, word))
                m.d.comb += wrong.eq(Cat(fault for _, fault in faults).any())
    return wrong


def _fields(opcode, word):
    view = data.View(layout_of(opcode), word)
    return {name: Value.cast(view[name]) for name in FORMATS[opcode]}


@functools.cache
def _limits(arch, opcode):
    """Fields that have limits: name, whether it is a count, the largest value if not all are."""
    found, limits = _largest(arch, opcode), []
    for name, shape in FORMATS[opcode].items():
        largest = found.get(name)
        if largest is not None and largest >= (1 << Shape.cast(shape).width) - 1:
            largest = None
        if name in _COUNTS or largest is not None:
            limits.append((name, name in _COUNTS, largest))
    return tuple(limits)


def _largest(arch, opcode):
    """The largest values of some fields, whatever their width."""
    largest = {"a_planes": 8, "b_planes": 8, "groups": arch.drain_cycles, "tokens": arch.rows,
               "rows": arch.rows, "row_lo": arch.rows, "row_hi": arch.rows,
               "slot": arch.score_slots - 1, "sum_row": arch.sums_depth - 1,
               "sum_tiles": arch.sums_depth}
    largest |= dict.fromkeys(("row", "src_row", "dst_row"), arch.rows - 1)
    largest |= {f"rows_{level}": arch.rows - 1 for level in range(LEVELS)}
    if "slot" in FORMATS[opcode]:
        largest["n_tiles"] = arch.score_tiles
    if opcode is Opcode.MOVE:
        largest["dst_row"] = arch.keys_per_group - 1
    if opcode is Opcode.STEM:
        largest |= {"tokens": (1 << FORMATS[opcode]["tokens"]) - 1, "pixels": arch.stem_pixels}
    choices = {name: shape for name, shape in FORMATS[opcode].items() if isinstance(shape, type)}
    largest |= {name: max(choice.value for choice in shape) for name, shape in choices.items()}
    if opcode is Opcode.SOFTMAX and not arch.exponentials:
        largest["mode"] = SoftmaxMode.LIMIT.value
    if opcode is Opcode.MM_SCORE and not arch.score_biases:
        largest["use_bias"] = 0
    if opcode is Opcode.MM_ACC and not arch.bends:
        largest["bend"] = 0
    if opcode is Opcode.MM_ACC:  # SMEM is a first addend, of a target that has one
        largest |= {"add_src": (AddSource.SMEM if arch.stem_macs else AddSource.VMEM).value,
                    "add2_src": AddSource.VMEM.value}
    return largest
