"""The systolic array against counting in NumPy."""

import re

import numpy as np
import pytest
from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray, latency
from bivit.hw.emit import emit

SHAPES = {
    "1x1": dict(rows=1, cols=1, lanes=4),
    "2x4 in 2x2": dict(rows=2, cols=4, lanes=8, tile_rows=2, tile_cols=2),
    "3x5x24 in 1x5": dict(rows=3, cols=5, lanes=24, tile_rows=1, tile_cols=5),
    "2x4x16 in 2x2 for ECP5": dict(rows=2, cols=4, lanes=16, tile_rows=2, tile_cols=2,
                                   pop_stages=2, fabric="ecp5"),
    "4x4x16 in 4x2 for ECP5, 5 stages": dict(rows=4, cols=4, lanes=16, tile_rows=4, tile_cols=2,
                                             pop_stages=5, fabric="ecp5"),
    "4x6 in 2x1, 3 stages": dict(rows=4, cols=6, lanes=8, tile_rows=2, tile_cols=1, pop_stages=3),
}


def stream(rng, passes, bubbles):
    """Cycles of (valid, first, last, pass number); words of a pass with bubbles between."""
    cycles = []
    for number, words in enumerate(passes):
        for word in range(words):
            while rng.random() < bubbles:
                cycles.append((0, int(rng.integers(2)), int(rng.integers(2)), number))
            cycles.append((1, int(word == 0), int(word == words - 1), number))
    return cycles


@pytest.mark.parametrize("bubbles", [0, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_numpy(shape, bubbles):
    arch = Arch(name="test", **SHAPES[shape])
    rng = np.random.default_rng(7)
    passes = [1, 1, 1, 3, 1, 2, 5, 1, 1]
    cycles = stream(rng, passes, bubbles)
    a_bits = rng.integers(0, 2, (len(cycles), arch.rows, arch.lanes), dtype=np.uint8)
    b_bits = rng.integers(0, 2, (len(cycles), arch.cols, arch.lanes), dtype=np.uint8)
    expected = np.zeros((len(passes), arch.rows * arch.cols), int)
    for (valid, _, _, number), a, b in zip(cycles, a_bits, b_bits, strict=True):
        expected[number] += valid * (a[:, None] ^ b[None]).sum(-1, dtype=int).reshape(-1)
    array, got = SystolicArray(arch), {}

    async def drive(ctx):
        for (valid, first, last, _), a, b in zip(cycles, a_bits, b_bits, strict=True):
            ctx.set(array.valid, valid)
            ctx.set(array.first, first)
            ctx.set(array.last, last)
            ctx.set(array.a, as_integer(a))
            ctx.set(array.b, as_integer(b))
            await ctx.tick()
        ctx.set(array.valid, 0)
        await ctx.tick().repeat(latency(arch) + 3)

    async def watch(ctx):
        for cycle in range(len(cycles) + latency(arch) + 2):
            *_, counts = await ctx.tick().sample(array.counts)
            got[cycle] = list(counts)

    simulator = Simulator(array)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch)
    simulator.run()
    ends = [cycle for cycle, (valid, _, last, _) in enumerate(cycles) if valid and last]
    for number, (end, following) in enumerate(zip(ends, [*ends[1:], ends[-1] + 2], strict=True)):
        for cycle in range(end, following):  # held until the next pass
            assert got[cycle + latency(arch)] == expected[number].tolist()


def as_integer(bits):
    return int.from_bytes(np.packbits(bits.reshape(-1), bitorder="little").tobytes(), "little")


def test_elements_are_one_module():
    text = emit(SystolicArray(Arch(name="big", rows=16, cols=16, lanes=16, tile_rows=2,
                                   tile_cols=2)), "array")
    assert re.findall(r"(?m)^module ([^\s(]+)", text) == [
        "array", "bivit_mesh_tile", "bivit_row_control", "bivit_element", "bivit_popcount",
        "bivit_popcount"]
    assert len(re.findall(r"(?m)^  bivit_mesh_tile tile_\d+_\d+ ", text)) == 64
    assert len(re.findall(r"(?m)^  bivit_element element_\d_\d ", text)) == 4
