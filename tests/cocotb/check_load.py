"""The load unit: random gaps, and packets that end too early or too late."""

import cocotb
from bench import instructions, masked, send, start
from test_load import fields_of, stimulus
from units import ARCH

from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE
from bivit.hw.isa import Opcode

PROGRAM = [dict(tokens=3, pixels=25), dict(tokens=1, pixels=3, row=1, dst_addr=30),
           dict(tokens=2, pixels=12, row=1, dst_addr=40), dict(tokens=1, pixels=1, dst_addr=60),
           dict(tokens=1, pixels=13, row=2, dst_addr=70, last=1)]
IDLE = {"instr__valid": 0, "s_axis__valid": 0, "clear": 0}


def beats_of(beats):
    return [{"payload": data | last << 32} for data, last in beats]


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.3], p_instruction=[1.0, 0.1])
async def pixels_become_planes(dut, p_valid, p_instruction):
    program = [fields_of(ARCH, **fields) for fields in PROGRAM]
    beats, expected = stimulus(ARCH, program, seed=1)
    ports = await start(dut, "load__", **IDLE)
    cocotb.start_soon(send(ports, "instr__", instructions([(Opcode.LOAD, fields)
                                                           for fields in program]), p_instruction))
    sender = cocotb.start_soon(send(ports, "s_axis__", beats_of(beats), p_valid))
    imem, done = {}, 0
    while done < len(program):
        await ports.edge()
        if mask := ports.get("imem_we"):
            address = ports.get("imem_addr")
            imem[address] = masked(imem.get(address, 0), mask, ports.get("imem_data"))
        done += ports.get("done")
    assert sender.done()
    assert imem == expected
    await ports.edge()
    assert (ports.get("busy"), ports.get("error")) == (0, 0)


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize((("last", "marked", "code"), [
    (1, None, ENDED_LATE), (1, 3, ENDED_EARLY), (0, 5, ENDED_EARLY), (0, 0, ENDED_EARLY)]))
async def packet_of_the_wrong_length(dut, last, marked, code):
    fields = fields_of(ARCH, tokens=2, pixels=9, last=last)  # 6 beats
    program = instructions([(Opcode.LOAD, fields)] * 2)
    ports = await start(dut, "load__", **IDLE)
    cocotb.start_soon(send(ports, "instr__", program))
    taken = []
    cocotb.start_soon(send(ports, "s_axis__", beats_of([(0, int(index == marked))
                                                        for index in range(8)]), 0.5))
    for _ in range(60):
        await ports.edge()
        taken.append(ports.get("s_axis__valid") and ports.get("s_axis__ready"))
        assert not ports.get("done")
    assert ports.get("error") == code
    assert sum(taken) == (6 if marked is None else marked + 1)
    ports.set(clear=1)
    await ports.edge()
    ports.set(clear=0)
    await ports.edge()
    assert (ports.get("busy"), ports.get("error"), ports.get("instr__ready")) == (0, 0, 1)
