# amaranth: UnusedElaboratable=no
"""Attention bits against NumPy: exact memory at each done pulse, exact cycles."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import ATTENTION_FRACTION, EXPONENTIALS, MASKING_BIAS, exponential
from bivit.hw.arch import Arch
from bivit.hw.blocks.exponential import EXPONENTIAL_STAGES, Exponential, distance_bits, sum_bits
from bivit.hw.blocks.post import Mode, PostProcessing, latency
from bivit.hw.blocks.softmax import SoftmaxThreshold, timing
from bivit.hw.encoding import encode
from bivit.hw.isa import Opcode, SoftmaxMode
from bivit.hw.memories import masked_score, score_shape, score_shift

ARCHS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, score_slots=3, score_tiles=8, pmem_depth=16),
    Arch(name="odd", rows=3, cols=5, lanes=24, score_slots=4, score_tiles=9, pmem_depth=16,
         post_rows=2),
    Arch(name="ragged", rows=3, cols=8, lanes=28, score_slots=2, score_tiles=5, pmem_depth=16,
         count_bits=7, post_rows=3),
    Arch(name="one", rows=4, cols=4, lanes=4, score_slots=1, score_tiles=8, pmem_depth=16,
         post_rows=3),
    Arch(name="unbiased", rows=3, cols=5, lanes=24, score_slots=2, score_tiles=9, pmem_depth=16,
         post_rows=2, score_biases=False),
)}


def pack(numbers, width):
    """Words of a memory; numbers may be negative."""
    return sum((int(number) & (1 << width) - 1) << (index * width)
               for index, number in enumerate(numbers))


def random_scores(arch, rng):
    """Scores, some of them masked if the target has biases."""
    shape = arch.score_slots, arch.score_tiles, arch.rows, arch.cols
    if not arch.score_biases:
        return np.where(rng.random(shape) < 0.5, rng.integers(0, 1 << arch.count_bits, shape),
                        rng.integers(0, 30, shape)) << score_shift(arch)
    largest = (1 << arch.count_bits) - 1 << 5
    scores = rng.integers(MASKING_BIAS + 1, largest - MASKING_BIAS, shape)
    near = rng.random(shape) < 0.5  # so that exponentials are not zero
    scores = np.where(near, rng.integers(MASKING_BIAS + 1, MASKING_BIAS + 900, shape), scores)
    scores[rng.random(shape) < 0.1] = masked_score(arch)
    scores[:, 0, :, 0] = rng.integers(MASKING_BIAS + 1, MASKING_BIAS + 900, shape[0:1] + shape[2:3])
    return scores


def random_instruction(arch, rng, *, mode):
    """Fields of a SOFTMAX."""
    n_tiles = rng.randint(1, arch.score_tiles)
    delta = {SoftmaxMode.RELATIVE: rng.choice([0, (1 << 24) - 1, rng.randint(0, 1000)]),
             SoftmaxMode.LIMIT: rng.choice([(1 << 23) - 1, 1 << 23, rng.randint(0, 1 << 14),
                                            -rng.randint(0, -MASKING_BIAS)]) & (1 << 24) - 1}
    return {"slot": rng.randrange(arch.score_slots), "n_tiles": n_tiles,
            "keys": rng.randint(1, n_tiles * arch.keys_per_group), "mode": mode,
            "delta": delta.get(mode, 0), "dst_addr": rng.randint(0, 7),
            "multiplier": rng.choice([0, 1, 65535, rng.randint(1, 1 << 14)]),
            "threshold": rng.choice([0, 1 << 20, (1 << 21) - 1, rng.randint(0, 1 << 18)]),
            "flip": rng.getrandbits(1)}


def use_close_threshold(arch, fields, scores, rng):
    """Let the threshold of an ABSOLUTE instruction be that of one of its keys, or next to it."""
    shares = row_shares(arch, fields, scores)[rng.randrange(arch.rows)]
    share, total = int(rng.choice(shares.tolist())), int(shares.sum())
    fields["threshold"] = min((share << ATTENTION_FRACTION) // total + rng.getrandbits(1),
                              (1 << 21) - 1)


def row_minima(arch, fields, scores):
    """What the score buffer keeps for the slot of an instruction."""
    full, slot = arch.keys_per_group, scores[fields["slot"]]
    rows = slot[:, :, :full].transpose(1, 0, 2).reshape(arch.rows, -1)
    return rows[:, :fields["keys"]].min(1)


def score_rows(arch, fields, scores):
    """Scores of an instruction, (rows, keys), and which of them take part."""
    full, tiles, keys = arch.keys_per_group, fields["n_tiles"], fields["keys"]
    rows = scores[fields["slot"], :tiles, :, :full].transpose(1, 0, 2).reshape(arch.rows, -1)
    return rows, (np.arange(tiles * full) < keys) & (rows != masked_score(arch))


def row_shares(arch, fields, scores):
    """Exponentials of an instruction, zero where a key takes no part."""
    rows, live = score_rows(arch, fields, scores)
    distances = np.where(live, rows - row_minima(arch, fields, scores)[:, None], 0)
    return np.where(live, exponential(distances, fields["multiplier"]), 0)


def attention(arch, pmem, fields, scores):
    """Write the attention bits of an instruction into `pmem` (words, rows, lanes)."""
    full, tiles = arch.keys_per_group, fields["n_tiles"]
    rows, live = score_rows(arch, fields, scores)
    minima = row_minima(arch, fields, scores)[:, None]
    match SoftmaxMode(fields["mode"]):
        case SoftmaxMode.RELATIVE:
            bits = rows <= minima + fields["delta"]
        case SoftmaxMode.LIMIT:
            bits = rows <= fields["delta"] - (fields["delta"] >> 23 << 24)
        case SoftmaxMode.ABSOLUTE:
            shares = row_shares(arch, fields, scores)
            limits = fields["threshold"] * shares.sum(1, keepdims=True)
            bits = ((shares << ATTENTION_FRACTION) >= limits) ^ bool(fields["flip"])
    bits = bits & live
    for tile in range(tiles):
        word, position = divmod(tile, arch.key_groups_per_word)
        piece = pmem[fields["dst_addr"] + word]
        if position == 0:
            piece[:] = 0
        piece[:, position * full:(position + 1) * full] = bits[:, tile * full:(tile + 1) * full]


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


def simulate(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("multiplier", [0, 1, 5000, 65535])
def test_exponential(multiplier):
    arch, rng = ARCHS["odd"], np.random.default_rng(multiplier)
    limit = min((1 << 22) // max(multiplier, 1) + 50, 1 << distance_bits(arch))
    distances = [0, 1, (1 << distance_bits(arch)) - 1, *rng.integers(0, limit, 300)]
    dut = Exponential(arch)

    async def testbench(ctx):
        ctx.set(dut.multiplier, multiplier)
        for cycle in range(len(distances) + EXPONENTIAL_STAGES):
            if cycle < len(distances):
                ctx.set(dut.distance, int(distances[cycle]))
                ctx.set(dut.live, cycle % 7 != 6)
            if (index := cycle - EXPONENTIAL_STAGES) >= 0:
                expected = int(exponential(distances[index], multiplier))
                assert ctx.get(dut.result) == (expected if index % 7 != 6 else 0)
            await ctx.tick()

    simulate(dut, testbench)


def test_largest_sum_fits():
    for arch in ARCHS.values():
        largest = arch.score_tiles * arch.keys_per_group * int(exponential(0, 1))
        assert largest == arch.score_tiles * arch.keys_per_group * EXPONENTIALS[0]
        assert largest.bit_length() == sum_bits(arch)


MODES = {"near": [SoftmaxMode.RELATIVE, SoftmaxMode.LIMIT], "absolute": [SoftmaxMode.ABSOLUTE],
         "all": list(SoftmaxMode)}


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("modes, gap", [("near", 0), ("absolute", 0), ("all", 0), ("all", 0.4)])
def test_random_instructions(name, modes, gap):
    """Instructions, with or without idle cycles between them; minima change with each one."""
    arch, rng = ARCHS[name], random.Random(f"{name}/{modes}")
    random_arrays = np.random.default_rng(5)
    scores = random_scores(arch, random_arrays)
    expected = random_arrays.integers(0, 2, (arch.pmem_depth, arch.rows, arch.lanes))
    actual = expected.copy()
    instructions = [random_instruction(arch, rng, mode=rng.choice(MODES[modes]))
                    for _ in range(25)]
    width, shift = score_shape(arch).width, score_shift(arch)
    words = [pack(word >> shift, width) for word in scores.reshape(-1, arch.rows * arch.cols)]
    # A slot is written when all that read it are done, so it has one number of keys here.
    keys = {fields["slot"]: fields["keys"] for fields in instructions}
    for fields in instructions:
        fields["keys"] = keys[fields["slot"]]
        fields["n_tiles"] = max(fields["n_tiles"], -(-fields["keys"] // arch.keys_per_group))
    minima = np.zeros((arch.score_slots, arch.rows), np.int64)
    for fields in instructions:
        if rng.random() < 0.6:
            use_close_threshold(arch, fields, scores, rng)
        minima[fields["slot"]] = row_minima(arch, fields, scores)
    dut = SoftmaxThreshold(arch)

    async def testbench(ctx):
        ctx.set(Value.cast(dut.minima), pack(minima.ravel() >> shift, width))
        popped, finished, free, dones, pipeline = 0, 0, 0, {}, [0, 0]
        for cycle in range(20000):
            valid = popped < len(instructions) and (gap == 0 or rng.random() > gap)
            ctx.set(dut.instr.valid, valid)
            if valid:
                ctx.set(dut.instr.payload, {
                    "word": encode(Opcode.SOFTMAX, **instructions[popped]), "tag": 100 + popped})
            ctx.set(Value.cast(dut.score_data), pipeline[0])
            address = min(ctx.get(dut.score_addr), len(words) - 1)
            pipeline[:] = [pipeline[1], words[address]]
            assert ctx.get(dut.busy) == bool(dones)
            assert ctx.get(dut.instr.ready) == (cycle >= free)
            if valid and cycle >= free:
                fields = {**instructions[popped], "mode": instructions[popped]["mode"].value}
                occupancy, completion = timing(arch, Opcode.SOFTMAX, fields)
                free, dones[cycle + completion] = cycle + occupancy, popped
                popped += 1
            if write(ctx, dut, actual):
                assert ctx.get(dut.tag) == 100 + finished
            assert ctx.get(dut.done) == (cycle in dones)
            if cycle in dones:
                assert dones.pop(cycle) == finished
                attention(arch, expected, instructions[finished], scores)
                assert np.array_equal(expected, actual), instructions[finished]
                finished += 1
            if finished == len(instructions):
                return
            await ctx.tick()
        raise AssertionError("not all instructions finished")

    simulate(dut, testbench)


@pytest.mark.parametrize("mode", SoftmaxMode)
@pytest.mark.parametrize("name", ["odd", "ragged", "unbiased"])
def test_reads_scores_as_soon_as_they_are_done(name, mode):
    """With the real score buffer: SOFTMAX is popped in the cycle after `done` of the scores."""
    arch, rng = ARCHS[name], np.random.default_rng(6)
    n_tiles, slot = 3, 1
    keys = 2 * arch.keys_per_group + 1
    counts = rng.integers(0, 1 << arch.count_bits, (n_tiles, arch.rows, arch.cols))
    counts[0, :, 0] = 0
    counts[:2, :, 1] = rng.integers(0, 9, (2, arch.rows))
    scores = np.zeros((arch.score_slots, n_tiles, arch.rows, arch.cols), np.int64)
    scores[slot] = counts << 5
    fields = {"slot": slot, "n_tiles": n_tiles, "keys": keys, "delta": 320, "dst_addr": 2,
              "mode": mode.value, "multiplier": 9000, "threshold": 100000, "flip": 0}
    expected = np.ones((arch.pmem_depth, arch.rows, arch.lanes), np.int64)
    actual = expected.copy()
    attention(arch, expected, fields, scores)
    assert 0 < expected[2].sum() < keys * arch.rows

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
                ctx.set(Value.cast(post.counts), pack(counts[cycle - 2].ravel(),
                                                      arch.count_bits))
            assert ctx.get(post.done) == (cycle == pop - 1)
            ctx.set(softmax.instr.valid, cycle == pop)
            ctx.set(softmax.instr.payload, {"word": encode(Opcode.SOFTMAX, **fields), "tag": 0})
            write(ctx, softmax, actual)
            assert ctx.get(softmax.done) == (cycle == end)
            await ctx.tick()
        assert np.array_equal(expected, actual)

    simulate(m, testbench)
