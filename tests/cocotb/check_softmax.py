"""The SOFTMAX unit: memory at each done pulse, with random pauses."""

import random

import cocotb
import numpy as np
from bench import Memory, apply_write, instructions, send, start
from test_softmax import (
    attention,
    pack,
    random_instruction,
    random_scores,
    row_minima,
    use_close_threshold,
)
from units import ARCH

from bivit.hw.isa import Opcode, SoftmaxMode
from bivit.hw.memories import score_shape


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.2])
async def attention_bits_of_all_modes(dut, p_valid):
    rng, draw = np.random.default_rng(3), random.Random(4)
    scores = random_scores(ARCH, rng)
    expected = rng.integers(0, 2, (ARCH.pmem_depth, ARCH.rows, ARCH.lanes))
    actual, program = expected.copy(), []
    for number in range(60):
        fields = random_instruction(ARCH, draw, mode=list(SoftmaxMode)[number % 7 % 3])
        fields |= {"n_tiles": ARCH.score_tiles, "keys": 3 * ARCH.keys_per_group + 1}
        use_close_threshold(ARCH, fields, scores, draw)
        program.append(fields)
    minima = [row_minima(ARCH, program[0] | {"slot": slot}, scores)
              for slot in range(ARCH.score_slots)]
    words = [pack(word.ravel(), score_shape(ARCH).width)
             for word in scores.reshape(-1, *scores.shape[2:])]
    ports = await start(dut, "softmax__", instr__valid=0,
                        minima=pack(np.ravel(minima), score_shape(ARCH).width))
    Memory(ports, dict(enumerate(words)), [("score_addr", "score_data")])
    cocotb.start_soon(send(ports, "instr__", instructions(
        [(Opcode.SOFTMAX, fields) for fields in program], tag=100), p_valid))
    finished = 0
    while finished < len(program):
        await ports.edge()
        if apply_write(ports, actual, "pmem_we", "pmem_addr", "pmem_data"):
            assert ports.get("tag") == 100 + finished
        if ports.get("done"):
            attention(ARCH, expected, program[finished], scores)
            assert np.array_equal(expected, actual), program[finished]
            finished += 1
