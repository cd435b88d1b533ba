"""Instructions as words: layouts of the opcodes, encoding and decoding."""

import functools

from amaranth.lib import data

from bivit.hw.isa import (
    FORMATS,
    HEADER,
    INDEXED,
    INSTR_BITS,
    NUMBER_BITS,
    OPCODE_MASK,
    SLOT_FIELDS,
    SLOTS,
    Opcode,
    register_of,
)
from bivit.hw.packing import pack

__all__ = ["decode", "encode", "layout_of", "reserved_bits"]


@functools.cache
def layout_of(opcode: Opcode) -> data.FlexibleLayout:
    """Layout of an instruction with `opcode`."""
    places = {name: place for (_, names), place in zip(SLOT_FIELDS, SLOTS, strict=True)
              for name in INDEXED.get(opcode, ()) if name in names}
    room = ((sum(SLOTS[-2][:2]), SLOTS[-1][2]) if places else
            (data.StructLayout(HEADER).size, INSTR_BITS))
    return pack(INSTR_BITS, HEADER, FORMATS[opcode], places,
                {register_of(name): NUMBER_BITS for name in places}, room)


@functools.cache
def _table(opcode):
    """Name, offset and mask of every field."""
    return tuple((name, field.offset, (1 << field.width) - 1) for name, field in layout_of(opcode))


@functools.cache
def reserved_bits(opcode: Opcode) -> int:
    """A mask of the bits that must be zero."""
    return ((1 << INSTR_BITS) - 1) ^ sum(mask << offset for _, offset, mask in _table(opcode))


def encode(opcode: Opcode, **fields: int) -> int:
    """The instruction as an integer of ``INSTR_BITS`` bits; absent fields are 0.

    Raises ``ValueError`` for an unknown field or a value that does not fit.
    """
    word, table = opcode.value, _table(opcode)
    if unknown := set(fields) - {name for name, _, _ in table}:
        raise ValueError(f"{opcode.name} has no field {sorted(unknown)[0]!r}")
    for name, offset, mask in table:
        value = fields.get(name, 0)
        value = int(getattr(value, "value", value))
        if not 0 <= value <= mask:
            raise ValueError(f"{name}={value} of {opcode.name} does not fit "
                             f"{mask.bit_length()} bits")
        word |= value << offset
    return word


def decode(word: int) -> tuple[Opcode, dict[str, int]]:
    """Opcode and fields (plain integers, header and registers included) of an instruction.

    Raises ``ValueError`` for an unknown opcode or a non-zero reserved bit.
    """
    opcode = Opcode(word & OPCODE_MASK)
    if word & reserved_bits(opcode):
        raise ValueError(f"reserved bits of {opcode.name} are not zero")
    fields = {name: word >> offset & mask for name, offset, mask in _table(opcode)}
    del fields["opcode"]
    return opcode, fields
