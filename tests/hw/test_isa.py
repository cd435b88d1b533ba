"""Layouts of instructions: what the hardware takes from fixed places, and words there and back."""

import functools
import operator
import random

import pytest

from bivit.hw.encoding import decode, encode, layout_of, reserved_bits
from bivit.hw.isa import (
    INDEXED,
    INSTR_BITS,
    NUMBER_BITS,
    OPCODE_MASK,
    SLOTS,
    UNIT_OF,
    Opcode,
    register_of,
)

SHARED = ((Opcode.MM_BITS, Opcode.MM_SCORE, Opcode.MM_ACC),
          (Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS))
"""Instructions that a unit reads with the layout of one of them."""


@pytest.mark.parametrize("opcodes", SHARED)
def test_common_fields_lie_at_the_same_bits(opcodes):
    layouts = [dict(layout_of(opcode)) for opcode in opcodes]
    common = functools.reduce(operator.and_, (layout.keys() for layout in layouts))
    assert len(common) > 10
    assert all(layout[name] == layouts[0][name] for layout in layouts for name in common)


@pytest.mark.parametrize("opcode", UNIT_OF)
def test_registers_lie_in_their_slots(opcode):
    """The adders look at no opcode: other fields are nowhere that a number is not zero."""
    layout, slots = layout_of(opcode), {offset: (width, at) for offset, width, at in SLOTS}
    for name in INDEXED[opcode]:
        width, at = slots.pop(layout[name].offset)
        assert layout[name].width <= width and layout[register_of(name)].offset == at
        inside = sum((1 << field.width) - 1 << field.offset for other, field in layout
                     if other != name) >> layout[name].offset & (1 << width) - 1
        assert inside == 0
    for _, at in slots.values():
        assert reserved_bits(opcode) >> at & (1 << NUMBER_BITS) - 1 == (1 << NUMBER_BITS) - 1


@pytest.mark.parametrize("opcode", Opcode)
def test_there_and_back(opcode):
    rng, layout = random.Random(opcode.name), layout_of(opcode)
    fields = {name: rng.getrandbits(field.width) for name, field in layout if name != "opcode"}
    word = encode(opcode, **fields)
    assert word < 1 << INSTR_BITS and word & OPCODE_MASK == opcode.value
    assert decode(word) == (opcode, fields)
    for name in fields:
        with pytest.raises(ValueError, match=f"{name}=.* does not fit"):
            encode(opcode, **fields | {name: 1 << layout[name].width})
    with pytest.raises(ValueError, match="reserved"):
        decode(word | reserved_bits(opcode) & -reserved_bits(opcode))
    with pytest.raises(ValueError, match="has no field 'nothing'"):
        encode(opcode, nothing=0)
