"""The softmax threshold unit: memory at each done pulse, with random pauses."""

import cocotb
import numpy as np
from bench import Memory, apply_write, instructions, send, start
from test_softmax import attention
from units import ARCH

from bivit.hw.isa import Opcode
from post_model import pack


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.2])
async def bits_of_counts_near_the_minimum(dut, p_valid):
    rng, size = np.random.default_rng(3), 1 << ARCH.count_bits
    scores = rng.integers(0, size, (ARCH.score_slots, ARCH.score_tiles, ARCH.rows, ARCH.cols))
    minima = rng.integers(0, size // 2, (ARCH.score_slots, ARCH.rows))
    expected = rng.integers(0, 2, (ARCH.pmem_depth, ARCH.rows, ARCH.lanes))
    actual, program = expected.copy(), []
    for _ in range(40):
        n_tiles = int(rng.integers(1, ARCH.score_tiles + 1))
        program.append({"slot": int(rng.integers(ARCH.score_slots)), "n_tiles": n_tiles,
                        "keys": int(rng.integers(1, n_tiles * ARCH.keys_per_group + 1)),
                        "delta": int(rng.choice([0, 4095, rng.integers(4096)])),
                        "dst_addr": int(rng.integers(8))})
    words = [pack(word.ravel(), ARCH.count_bits) for word in scores.reshape(-1, *scores.shape[2:])]
    ports = await start(dut, "softmax__", instr__valid=0,
                        minima=pack(minima.ravel(), ARCH.count_bits))
    Memory(ports, dict(enumerate(words)), [("score_addr", "score_data")])
    cocotb.start_soon(send(ports, "instr__", instructions(
        [(Opcode.SOFTMAX, fields) for fields in program], tag=100), p_valid))
    finished = 0
    while finished < len(program):
        await ports.edge()
        if apply_write(ports, actual, "pmem_we", "pmem_addr", "pmem_data"):
            assert ports.get("tag") == 100 + finished
        if ports.get("done"):
            attention(ARCH, expected, program[finished], scores, minima)
            assert np.array_equal(expected, actual), program[finished]
            finished += 1
