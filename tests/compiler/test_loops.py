"""Programs with loops: the check over what is executed, and their text."""

import pytest

from bivit.compiler.assembly import disassemble
from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.structures import Instruction, Program
from bivit.hw.isa import Opcode, decode, encode
from bivit.hw.targets import TARGETS

ARCH = TARGETS["tiny"]
CONSTANTS = {"weight": 1, "scale": 3}
SET = encode(Opcode.SET, used=1, reg_0=1, value_0=0)
HALT = encode(Opcode.HALT)
END = encode(Opcode.END, used=1, reg_0=1, add_0=1)


def load(**fields):
    return encode(Opcode.LOAD, tokens=1, pixels=4, k_words=1, **fields)


def product(**fields):
    return encode(Opcode.MM_ACC, n_tiles=1, k_words=1, a_planes=8, b_planes=1, row_hi=1, sat=8,
                  **fields)


def loop(*body, count=3):
    return [SET, encode(Opcode.LOOP, count=count), *body, END, HALT]


def check(program):
    check_program(program, ARCH, CONSTANTS)


def test_hazards_between_iterations():
    check(loop(load(wait_mm=1), product(wait_load=1, param_addr_reg=1)))
    check(loop(load(), product(wait_load=1, param_addr_reg=1), count=1))
    with pytest.raises(IllegalProgram, match="^instruction 2, executed as number 2: writes IMEM "
                       "word 0, which executed instruction 1 reads, without waiting for it$"):
        check(loop(load(), product(wait_load=1, param_addr_reg=1)))


def test_the_last_iteration_reads_too_far():
    with pytest.raises(IllegalProgram, match="^instruction 3, executed as number 7: words 3 to 3 "
                       "of SCALE are not all within its 3$"):
        check(loop(load(wait_mm=1), product(wait_load=1, param_addr_reg=1), count=4))


@pytest.mark.parametrize(("program", "message"), [
    (loop(load(dst_addr_reg=2)), "instruction 2: uses a register that nothing set"),
    ([load(), HALT, encode(Opcode.RETURN)], "instruction 2: is never reached"),
    ([load(), encode(Opcode.RETURN), HALT], "instruction 1: RETURN without a call"),
    (loop(load(row_reg=1), count=9), "instruction 2: row is 2"),
])
def test_refusals(program, message):
    with pytest.raises(IllegalProgram, match=f"^{message}$"):
        check(program)


def test_text():
    words = [encode(Opcode.SET, used=2, reg_0=3, value_0=70, reg_1=4, value_1=1, call=1, target=5),
             encode(Opcode.LOOP, count=9), product(stage=1, rest=2, wait_load=2, param_addr_reg=3),
             encode(Opcode.END, used=2, reg_0=3, add_0=4, limit_0=16, reg_1=4, add_1=1,
                    on_wrap_1=1), HALT, load(dst_addr=8, dst_addr_reg=4, row_reg=3),
             encode(Opcode.RETURN)]
    instructions = tuple(Instruction(*decode(word), None) for word in words)
    text = disassemble(Program(ARCH, None, words, {}, instructions, (), (), []))
    lines = [" ".join(line.split()) for line in text.splitlines()[3:]]
    assert lines == [
        "0 SET R3=70 R4=1 call=5",
        "1 LOOP count=9",
        "2 MM_ACC wait=load-2 stage=1 rest=2 a=IMEM[0] b=WEIGHT[0] n_tiles=1 k_words=1 a_planes=8 "
        "b_planes=1 param=SCALE[0+R3] dst=RESID[0] row_hi=1 sat=8",
        "3 END R3+=4@16 wrapped:R4+=1",
        "4 HALT",
        "5 LOAD dst=IMEM[8+R4] row=0+R3 tokens=1 pixels=4 k_words=1 ; pixels",
        "6 RETURN"]
