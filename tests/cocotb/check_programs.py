"""Programs with an error, through the stream into a `loaded` target."""

import cocotb
from check_accelerator import NETWORK, Host

from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.encoding import encode
from bivit.hw.isa import INSTR_BITS, Opcode


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize((("word", "code"), [
    (0, ErrorCode.OPCODE),
    (encode(Opcode.HALT) | 1 << INSTR_BITS - 1, ErrorCode.RESERVED),
    (encode(Opcode.RETURN), ErrorCode.STACK),
    (encode(Opcode.SOFTMAX), ErrorCode.COUNT)]))
async def wrong_program(dut, word, code):
    host = await Host.on(dut)
    program = [encode(Opcode.NORM_BITS, n_tiles=1, channels=1, groups=1, eps=1), word]
    await host.load(NETWORK.packets(program=program))
    await host.check_error(code, counter=1)
    await host.reset()
    await host.load(NETWORK.packets())
    await host.check_frame(3)
