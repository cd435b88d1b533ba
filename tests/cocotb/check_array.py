"""The systolic array: counts of random passes with bubbles."""

import cocotb
import numpy as np
from bench import start
from units import ARCH

from bivit.hw.blocks.array import latency
from post_model import pack, unpack


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(bubbles=[0, 0.5])
async def counts_mismatches(dut, bubbles):
    rng = np.random.default_rng(1)
    ports = await start(dut, "array__", valid=0)
    expected, got = {}, {}
    cycle, total = 0, None
    passes = [(words, word) for words in rng.integers(1, 5, 60) for word in range(words)]
    while passes or cycle <= max(expected) + latency(ARCH):
        valid = bool(passes) and rng.random() >= bubbles
        first, last = rng.integers(0, 2, 2)
        a = rng.integers(0, 2, (ARCH.rows, 1, ARCH.lanes))
        b = rng.integers(0, 2, (ARCH.cols, ARCH.lanes))
        if valid:
            words, word = passes.pop(0)
            first, last = word == 0, word == words - 1
            total = (a ^ b).sum(-1) + (0 if first else total)
            if last:
                expected[cycle] = total
        ports.set(valid=valid, first=first, last=last, a=pack(a.ravel(), 1), b=pack(b.ravel(), 1))
        await ports.edge()
        got[cycle] = ports.get("counts")
        cycle += 1
    for end, total in expected.items():
        counts = unpack(got[end + latency(ARCH)], total.size, ARCH.count_bits)
        assert np.array_equal(counts, total.ravel())
    assert len(expected) == 60
