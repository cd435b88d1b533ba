"""The vector unit: LayerNorm to bits and codes, output with random back pressure."""

import cocotb
from bench import Memory, collect, instructions, masked, send, start
from test_vector import ONES, random_program
from units import ARCH

from bivit.hw.isa import Opcode

BITS, CODES, OUTPUT = Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.OUTPUT
CASES = [(BITS, 23, 2), (OUTPUT, 12, 0), (CODES, 13, 2), (OUTPUT, 1, 0), (CODES, 4, 1),
         (BITS, 12, 2), (OUTPUT, 5, 0), (BITS, 3, 1)]


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.1], p_ready=[1.0, 0.3], seed=[1, 2])
async def rows_become_bits_codes_and_beats(dut, p_valid, p_ready, seed):
    resid, norm, program, expected, beats = random_program(ARCH, CASES, seed)
    ports = await start(dut, "vector__", instr__valid=0, m_axis__ready=0)
    Memory(ports, dict(enumerate(resid)), [("resid_addr", "resid_data")])
    Memory(ports, dict(enumerate(norm)), [("norm_addr", "norm_data")])
    cocotb.start_soon(send(ports, "instr__", instructions(program, tag=100), p_valid))
    xmem, received, done = {}, [], 0
    cocotb.start_soon(collect(ports, "m_axis__", received, p_ready=p_ready))
    while done < len(program):
        await ports.edge()
        if mask := ports.get("xmem_we"):
            address = ports.get("xmem_addr")
            xmem[address] = masked(xmem.get(address, ONES(ARCH)), mask, ports.get("xmem_data"))
            assert ports.get("tag") == 100 + done
        done += ports.get("done")
    assert xmem == expected
    assert [(beat & 0xFFFFFFFF, beat >> 32) for beat, in received] == beats
