"""The check of finished programs finds what is wrong with them."""

import pytest

from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.passes import lower
from bivit.hw.encoding import encode, reserved_bits
from bivit.hw.isa import WAIT_FIELDS, Destination, Opcode
from graphs import random_vit_graph
from lowering import SQUARE

ARCH = SQUARE


@pytest.fixture(scope="module")
def program():
    return lower(random_vit_graph(1, depth=2, embed_dim=20), ARCH)


def check(program, words):
    check_program(words, ARCH, {name: len(values) for name, values in program.constants.items()})


def changed(program, position, **fields):
    """The program with other fields in one instruction."""
    words = list(program.words)
    instruction = program.instructions[position]
    words[position] = encode(instruction.opcode, **instruction.fields | fields)
    return words


def find(program, opcode, **fields):
    return next(position for position, instruction in enumerate(program.instructions)
                if instruction.opcode is opcode
                and fields.items() <= instruction.fields.items())


def test_a_good_program_passes(program):
    check(program, program.words)


def test_every_wait_is_needed_and_every_missing_one_found(program):
    waits = [(position, name) for position, instruction in enumerate(program.instructions)
             for name in WAIT_FIELDS.values() if instruction.fields.get(name)]
    assert len(waits) > 20
    for position, name in waits:
        with pytest.raises(IllegalProgram, match="without waiting"):
            check(program, changed(program, position, **{name: 0}))


def test_waiting_for_too_little(program):
    found = 0
    for position, instruction in enumerate(program.instructions):
        for name in WAIT_FIELDS.values():
            distance = instruction.fields.get(name, 0)
            if distance:
                try:
                    check(program, changed(program, position, **{name: distance + 1}))
                except IllegalProgram:
                    found += 1
    assert found > 20


def test_a_wait_for_what_was_not_sent_is_for_nothing(program):
    """The first iterations of a loop have no earlier ones to wait for."""
    check(program, changed(program, 0, wait_vec=1))
    position = find(program, Opcode.MM_ACC, wait_load=1)
    with pytest.raises(IllegalProgram, match="without waiting"):
        check(program, changed(program, position, wait_load=200))


@pytest.mark.parametrize("field, value, message", (
    ("a_addr", 60000, "not all within"), ("param_addr", 60000, "THR are not"),
    ("b_addr", 1 << 20, "WEIGHT are not"), ("n_tiles", 0, "n_tiles is 0"),
    ("dst_pos", 200, "dst_pos is 200"), ("dst_addr", 1023, "not all within"),
    ("a_addr", 500, "which nothing wrote"),
))
def test_wrong_fields(program, field, value, message):
    position = find(program, Opcode.MM_BITS, dst=Destination.HMEM.value, use_pv=0)
    if field == "dst_addr":
        value = ARCH.hmem_depth
    with pytest.raises(IllegalProgram, match=message):
        check(program, changed(program, position, **{field: value}))


def test_reserved_bits(program):
    with pytest.raises(IllegalProgram, match="reserved"):
        reserved = reserved_bits(program.instructions[0].opcode)
        check(program, [program.words[0] | reserved & -reserved, *program.words[1:]])


def test_halt_is_last(program):
    with pytest.raises(IllegalProgram, match="without HALT"):
        check(program, program.words[:-1])
    with pytest.raises(IllegalProgram, match="is never reached"):
        check(program, [*program.words, program.words[-1]])
