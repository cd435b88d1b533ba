"""The vector unit: random programs of all its instructions, output with random back pressure."""

import cocotb
import numpy as np
from bench import Memory, collect, instructions, send, start
from units import ARCH

from bivit.hw.blocks.checks import opcodes_of
from bivit.hw.isa import FORMATS, LEVELS, UNIT_OF, Opcode, Unit
from vector_bench import READS, WRITES
from vector_programs import random_model, random_program

OPCODES = [opcode for opcode in opcodes_of(ARCH) if UNIT_OF.get(opcode) is Unit.VEC]

START_ALL_SUMS = Opcode.ROWS_ADD, {
    "n_tiles": ARCH.sums_depth, "sum_tiles": ARCH.sums_depth, "first": 1, "sums_0": 1,
    **{f"count_{level}": 1 for level in range(LEVELS)}, "count_0": ARCH.post_rows}
"""Other tests leave sums behind."""


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.1], p_ready=[1.0, 0.3], seed=[1, 2])
async def programs_change_memories(dut, p_valid, p_ready, seed):
    rng = np.random.default_rng(seed)
    model = random_model(ARCH, rng)
    program, waits = random_program(model, [OPCODES[i] for i in rng.permutation(28) % 7], rng)
    program = [(opcode, dict.fromkeys(FORMATS[opcode], 0) | fields)
               for opcode, fields in (START_ALL_SUMS, *program)]
    ports = await start(dut, "vector__", instr__valid=0, m_axis__ready=0)
    memories = {name: dict(enumerate(model.words(name))) for name in READS | WRITES}
    for name, words in memories.items():
        Memory(ports, words, [READS[name]] if name in READS else [], WRITES.get(name))
    received, done = [], 0
    cocotb.start_soon(collect(ports, "m_axis__", received, p_ready=p_ready))
    payloads = instructions(program, tag=100)
    ends = [*(1 + index for index in sorted(waits)), len(program)]
    for first, end in zip([0, *ends], ends, strict=False):
        cocotb.start_soon(send(ports, "instr__", payloads[first:end], p_valid))
        while done < end:
            await ports.edge()
            for mask, _, _ in WRITES.values():
                assert not ports.get(mask) or 100 + done <= ports.get("tag") < 100 + end
            done += ports.get("done")
    await ports.edge()
    await ports.edge()
    for opcode, fields in program:
        model.run(opcode, fields)
    assert [(beat & 0xFFFFFFFF, beat >> 32) for beat, in received] == model.beats
    for name, words in memories.items():
        assert list(words.values()) == model.words(name), name
