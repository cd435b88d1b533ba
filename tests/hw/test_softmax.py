"""Softmax threshold against NumPy: exact memory at each done pulse, exact cycles."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.post import Mode, PostProcessing, latency
from bivit.hw.blocks.softmax import SoftmaxThreshold, timing
from bivit.hw.isa import Opcode, encode

ARCHS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, score_slots=3, score_tiles=8, pmem_depth=16),
    Arch(name="odd", rows=3, cols=5, lanes=24, score_slots=4, score_tiles=9, pmem_depth=16),
    Arch(name="ragged", rows=3, cols=8, lanes=28, score_slots=2, score_tiles=5, pmem_depth=16,
         count_bits=7),
    Arch(name="one", rows=4, cols=4, lanes=4, score_slots=1, score_tiles=8, pmem_depth=16),
)}


def pack(numbers, width):
    return sum(int(number) << (index * width) for index, number in enumerate(numbers))


def attention(arch, pmem, fields, scores, minima):
    """Write the attention bits of an instruction into `pmem` (words, rows, lanes)."""
    full = arch.keys_per_group
    for tile in range(fields["n_tiles"]):
        word, position = divmod(tile, arch.key_groups_per_word)
        row_bits = scores[fields["slot"], tile, :, :full] <= (
            minima[fields["slot"]][:, None] + fields["delta"])
        row_bits[:, max(fields["keys"] - tile * full, 0):] = 0
        piece = pmem[fields["dst_addr"] + word]
        if position == 0:
            piece[:] = 0
        piece[:, position * full:(position + 1) * full] = row_bits


def write(ctx, dut, pmem):
    """Apply the write port; whether there was a write."""
    enable = ctx.get(dut.pmem_we)
    if enable:
        data, word = ctx.get(dut.pmem_data), pmem[ctx.get(dut.pmem_addr)]
        for row in range(word.shape[0]):
            for lane in range(word.shape[1]):
                bit = row * word.shape[1] + lane
                if enable >> bit & 1:
                    word[row, lane] = data >> bit & 1
    return enable != 0


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("gap", [0, 0.4])
def test_random_instructions(name, gap):
    """Instructions, with or without idle cycles between them, some without any valid key left."""
    arch, rng, random_arrays = ARCHS[name], random.Random(name), np.random.default_rng(5)
    size = 1 << arch.count_bits
    scores = random_arrays.integers(0, size, (arch.score_slots, arch.score_tiles, arch.rows,
                                              arch.cols))
    minima = random_arrays.integers(0, size // 2, (arch.score_slots, arch.rows))
    minima[0] = size - 1
    expected = random_arrays.integers(0, 2, (arch.pmem_depth, arch.rows, arch.lanes))
    actual = expected.copy()
    instructions = []
    for _ in range(30):
        n_tiles = rng.randint(1, arch.score_tiles)
        instructions.append({
            "slot": rng.randrange(arch.score_slots), "n_tiles": n_tiles,
            "keys": rng.randint(1, n_tiles * arch.keys_per_group),
            "delta": rng.choice([0, 4095, rng.randint(0, min(4095, size - 1))]),
            "dst_addr": rng.randint(0, 7)})
    words = scores.reshape(-1, arch.rows * arch.cols)
    dut = SoftmaxThreshold(arch)

    async def testbench(ctx):
        ctx.set(Value.cast(dut.minima), pack(minima.ravel(), arch.count_bits))
        popped, finished, free, dones, pipeline = 0, 0, 0, {}, [0, 0]
        for cycle in range(2000):
            valid = popped < len(instructions) and (gap == 0 or rng.random() > gap)
            ctx.set(dut.instr.valid, valid)
            if valid:
                ctx.set(dut.instr.payload, {
                    "word": encode(Opcode.SOFTMAX, **instructions[popped]), "tag": 100 + popped})
            ctx.set(Value.cast(dut.score_data), pipeline[0])
            address = min(ctx.get(dut.score_addr), len(words) - 1)
            pipeline[:] = [pipeline[1], pack(words[address], arch.count_bits)]
            assert ctx.get(dut.busy) == bool(dones)
            assert ctx.get(dut.instr.ready) == (cycle >= free)
            if valid and cycle >= free:
                occupancy, completion = timing(arch, Opcode.SOFTMAX, instructions[popped])
                free, dones[cycle + completion] = cycle + occupancy, popped
                popped += 1
            if write(ctx, dut, actual):
                assert ctx.get(dut.tag) == 100 + finished
            assert ctx.get(dut.done) == (cycle in dones)
            if cycle in dones:
                assert dones.pop(cycle) == finished
                attention(arch, expected, instructions[finished], scores, minima)
                assert np.array_equal(expected, actual), instructions[finished]
                finished += 1
            if finished == len(instructions):
                return
            await ctx.tick()
        raise AssertionError("not all instructions finished")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("name", ["odd", "ragged"])
def test_reads_scores_as_soon_as_they_are_done(name):
    """With the real score buffer: SOFTMAX is popped in the cycle after `done` of the scores."""
    arch, rng = ARCHS[name], np.random.default_rng(6)
    n_tiles, slot = 3, 1
    keys = 2 * arch.keys_per_group + 1
    scores = np.zeros((arch.score_slots, n_tiles, arch.rows, arch.cols), np.int64)
    scores[slot] = rng.integers(0, 1 << arch.count_bits, scores.shape[1:])
    tiles = [scores[slot, :2, :, :arch.keys_per_group].transpose(1, 0, 2).reshape(arch.rows, -1),
             scores[slot, 2, :, :1]]
    minima = {slot: np.concatenate(tiles, 1).min(1)}
    fields = {"slot": slot, "n_tiles": n_tiles, "keys": keys, "delta": 20, "dst_addr": 2}
    expected = np.ones((arch.pmem_depth, arch.rows, arch.lanes), np.int64)
    actual = expected.copy()
    attention(arch, expected, fields, scores, minima)

    m = Module()
    m.submodules.post = post = PostProcessing(arch)
    m.submodules.softmax = softmax = SoftmaxThreshold(arch)
    m.d.comb += [
        post.score_addr.eq(softmax.score_addr),
        softmax.score_data.eq(post.score_data),
        softmax.minima.eq(post.minima),
    ]

    async def testbench(ctx):
        last = n_tiles + 1
        pop = last + latency(arch) + 1
        end = pop + timing(arch, Opcode.SOFTMAX, fields)[1]
        for cycle in range(end + 1):
            ctx.set(post.pass_valid, cycle < n_tiles)
            if cycle < n_tiles:
                ctx.set(post.pass_, {
                    "mode": Mode.SCORE, "tile": cycle, "first_tile": cycle == 0,
                    "last_pass": cycle == n_tiles - 1, "slot": slot,
                    "valid_cols": min(keys - cycle * arch.keys_per_group, arch.keys_per_group)})
            if 2 <= cycle < n_tiles + 2:
                ctx.set(Value.cast(post.counts), pack(scores[slot, cycle - 2].ravel(),
                                                      arch.count_bits))
            assert ctx.get(post.done) == (cycle == pop - 1)
            ctx.set(softmax.instr.valid, cycle == pop)
            ctx.set(softmax.instr.payload, {"word": encode(Opcode.SOFTMAX, **fields), "tag": 0})
            write(ctx, softmax, actual)
            assert ctx.get(softmax.done) == (cycle == end)
            await ctx.tick()
        assert np.array_equal(expected, actual)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
