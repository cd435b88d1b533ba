"""The vector unit against the numeric definitions, bit for bit and cycle for cycle."""

import functools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import isqrt, normalise_to_bits, normalise_to_codes, reciprocal
from bivit.hw.arch import Arch
from bivit.hw.blocks.root import RECIPROCAL_CYCLES, Reciprocal, SquareRoot, root_cycles
from bivit.hw.blocks.vector import VectorUnit, timing
from bivit.hw.emit import emit
from bivit.hw.isa import Opcode, encode
from bivit.hw.memories import memories
from bivit.hw.targets import TARGETS

ODD = TARGETS["odd"]
SMALL = Arch(name="small", rows=4, cols=4, lanes=16, post_rows=4, resid_depth=256)
NARROW = Arch(name="narrow", rows=1, cols=3, lanes=4, resid_bits=6, resid_depth=8, norm_depth=8)
SHIFTS = {0: 8, 1: 14, 2: 20, 3: 26}


class Bench(wiring.Component):
    """The unit with its two memories."""

    def __init__(self, arch, resid, norm):
        self.unit, self.arch, self.init = VectorUnit(arch), arch, {"resid": resid, "norm": norm}
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        for name, init in self.init.items():
            size = memories(self.arch)[name]
            memory = m.submodules[name] = Memory(shape=size.width, depth=size.depth, init=init)
            port, data = memory.read_port(), Signal(size.width, name=f"{name}_output")
            m.d.sync += data.eq(port.data)
            m.d.comb += [port.addr.eq(getattr(self.unit, f"{name}_addr")),
                         getattr(self.unit, f"{name}_data").eq(data)]
        return m


def run(arch, resid, norm, program, *, ready=lambda cycle: True):
    """Feed `program` without gaps; returns pops, dones, XMEM, writes (cycle, tag) and beats."""
    bench = Bench(arch, resid, norm)
    unit, pops, dones, writes, beats, xmem = bench.unit, [], [], [], [], {}

    async def testbench(ctx):
        cycle = 0
        while len(dones) < len(program):
            assert cycle < 20000, "the unit hangs"
            if len(pops) < len(program):
                opcode, fields = program[len(pops)]
                ctx.set(unit.instr.payload,
                        {"word": encode(opcode, **fields), "tag": 100 + len(pops)})
            ctx.set(unit.instr.valid, len(pops) < len(program))
            ctx.set(unit.m_axis.ready, ready(cycle))
            assert ctx.get(unit.busy) == (len(pops) > len(dones))
            if ctx.get(unit.m_axis.valid) and ctx.get(unit.m_axis.ready):
                beat = ctx.get(unit.m_axis.payload)
                beats.append((beat.data, beat.last))
            if mask := ctx.get(unit.xmem_we):
                address, word = ctx.get(unit.xmem_addr), ctx.get(unit.xmem_data)
                xmem[address] = xmem.get(address, ONES(arch)) & ~mask | word & mask
                writes.append((cycle, ctx.get(unit.tag)))
            if ctx.get(unit.done):
                dones.append(cycle)
            if ctx.get(unit.instr.valid) and ctx.get(unit.instr.ready):
                pops.append(cycle)
            await ctx.tick()
            cycle += 1
        assert not ctx.get(unit.busy)

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, dones, xmem, writes, beats


def ONES(arch):
    """A word of XMEM before any write: clearing must show."""
    return (1 << arch.rows * arch.lanes) - 1


def pack(values, width):
    return functools.reduce(lambda word, v: word << width | int(v) & (1 << width) - 1,
                            reversed(np.ravel(values).tolist()), 0)


def resid_words(arch, block, rng):
    """Words of a block (rows, N); everything outside it is rubbish."""
    limit, tiles = 1 << (arch.resid_bits - 1), -(-block.shape[1] // arch.cols)
    groups = arch.drain_cycles
    full = rng.integers(-limit, limit, (groups * arch.post_rows, tiles * arch.cols))
    full[:arch.rows, :block.shape[1]] = block
    shaped = full.reshape(groups, arch.post_rows, tiles, arch.cols).transpose(2, 0, 1, 3)
    return [pack(word, arch.resid_bits) for word in shaped.reshape(tiles * groups, -1)]


def norm_words(arch, scale, bias, rng):
    tiles = -(-len(scale) // arch.cols)
    padded = np.stack([rng.integers(-2**15, 2**15, tiles * arch.cols), rng.integers(0, 4, tiles *
                      arch.cols)], axis=-1)
    padded[:len(scale)] = np.stack([scale, bias], axis=-1)
    numbers = (padded[:, 0] & 0xFFFF) | (padded[:, 1] & 0xFFFFFF) << 16
    return [pack(word, 40) for word in numbers.reshape(tiles, arch.cols)]


def random_block(arch, channels, rng):
    """Rows of every kind: saturated, equal, one outlier, random of several sizes."""
    high = (1 << (arch.resid_bits - 1)) - 1
    kinds = [
        lambda: rng.integers(-high - 1, high + 1, channels),
        lambda: np.full(channels, rng.choice([-high - 1, high, 0, 3])),
        lambda: rng.choice([-high - 1, high], channels),
        lambda: rng.integers(-2, 3, channels),
        lambda: np.eye(1, channels, dtype=np.int64)[0] * high,
        lambda: rng.integers(-20, 21, channels) + 7,
    ]
    return np.stack([kinds[rng.integers(len(kinds))]() for _ in range(arch.rows)])


def expected_words(arch, bits, groups, address, old):
    """Chunk order of bits (rows, N) of the first row groups, from chunk 0 of `address` on."""
    per_word = arch.chunks_per_word
    for word in range(-(-bits.shape[1] // (per_word * arch.cols))):
        for row in range(min(arch.rows, groups * arch.post_rows)):
            part = bits[row, word * per_word * arch.cols:][:per_word * arch.cols]
            mask = ((1 << arch.lanes) - 1) << row * arch.lanes
            old[address + word] = (old.get(address + word, ONES(arch)) & ~mask
                                   | pack(part, 1) << row * arch.lanes)


def random_program(arch, cases, seed):
    """Memories, program and what XMEM and the stream must hold."""
    rng = np.random.default_rng(seed)
    resid, norm, program, xmem, beats, free = [], [], [], {}, [], 3
    for opcode, channels, groups in cases:
        tiles, block = -(-channels // arch.cols), random_block(arch, channels, rng)
        source = len(resid)
        resid += resid_words(arch, block, rng)
        if opcode is Opcode.OUTPUT:
            row = int(rng.integers(arch.rows))
            program.append((opcode, {"src_addr": source, "row": row, "count": channels}))
            beats += [(int(v) & 0xFFFFFFFF, int(j == channels - 1))
                      for j, v in enumerate(block[row])]
            continue
        codes = opcode is Opcode.NORM_CODES
        eps, shift = int(rng.choice([1, 5, 1000, 2**32 - 1])), int(rng.integers(4))
        scale = rng.choice([-2**15, 2**15 - 1, 0, 1, 4096, -300], channels)
        if rng.integers(2):
            scale = rng.integers(-2**15, 2**15, channels)
        bias = rng.integers(0, 4, channels)
        if codes:
            bias = rng.integers(-2**16, 2**16, channels)
            bias[::7] = rng.choice([-2**23, 2**23 - 1])
        k_words = -(-tiles // arch.chunks_per_word)
        fields = {"src_addr": source, "n_tiles": tiles, "channels": channels, "groups": groups,
                  "param_addr": len(norm), "dst_addr": free, "eps": eps}
        norm += norm_words(arch, scale, bias, rng)
        if codes:
            fields |= {"shift": shift, "k_words": k_words}
            result = normalise_to_codes(block, scale, bias, SHIFTS[shift], eps)
            for plane in range(8):
                expected_words(arch, result >> plane & 1, groups, free + plane * k_words, xmem)
        else:
            result = normalise_to_bits(block, scale, bias, eps).astype(np.int64)
            expected_words(arch, result, groups, free, xmem)
        free += k_words * (8 if codes else 1)
        program.append((opcode, fields))
    return resid, norm, program, xmem, beats


BITS, CODES, OUTPUT = Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.OUTPUT


@pytest.mark.parametrize("arch, cases", [
    (ODD, [(BITS, 23, 2), (BITS, 5, 1), (OUTPUT, 12, 0), (CODES, 13, 2), (OUTPUT, 1, 0),
           (BITS, 1, 1), (OUTPUT, 1, 0), (OUTPUT, 6, 0), (CODES, 4, 1), (CODES, 21, 1)]),
    (SMALL, [(CODES, 7, 1), (BITS, 60, 1), (BITS, 3, 1), (BITS, 17, 1), (OUTPUT, 9, 0),
             (CODES, 16, 1), (BITS, 64, 1)]),
    (TARGETS["tiny"], [(BITS, 19, 2), (CODES, 6, 2), (BITS, 32, 1), (OUTPUT, 5, 0)]),
    (NARROW, [(BITS, 2, 1), (CODES, 5, 1), (OUTPUT, 4, 0), (BITS, 6, 1)]),
], ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("seed", range(2))
def test_programs_bit_and_cycle_exact(arch, cases, seed):
    resid, norm, program, xmem, beats = random_program(arch, cases, seed)
    pops, dones, got, writes, got_beats = run(arch, resid, norm, program)
    assert got == xmem
    assert got_beats == beats
    times = [timing(arch, opcode, fields) for opcode, fields in program]
    assert np.diff(pops).tolist() == [occupancy for occupancy, _ in times[:-1]]
    assert [done - pop for pop, done in zip(pops, dones, strict=True)] == [t[1] for t in times]
    for index, (opcode, _) in enumerate(program):
        own = [cycle for cycle, tag in writes if tag == 100 + index]
        assert (opcode is OUTPUT and not own) or own[-1] == dones[index]


def test_extremes_of_the_longest_row():
    """Largest sums that the widths must hold, and thresholds that are met exactly."""
    arch = Arch(name="wide", rows=1, cols=64, lanes=64, resid_depth=64)
    rng = np.random.default_rng(1)
    for row in (np.full(4095, -2**15), np.tile([-2**15, 2**15 - 1], 2048)[:4095]):
        k, kind = rng.choice([-2**15, 2**15 - 1, 0, 4096, -4096], 4095), rng.integers(0, 4, 4095)
        fields = {"n_tiles": 64, "channels": 4095, "groups": 1, "eps": 2**32 - 1}
        resid, norm = resid_words(arch, row[None], rng), norm_words(arch, k, kind, rng)
        _, _, got, _, _ = run(arch, resid, norm, [(BITS, fields)])
        expected = {}
        bits = normalise_to_bits(row[None], k, kind, 2**32 - 1).astype(np.int64)
        expected_words(arch, bits, 1, 0, expected)
        assert got == expected


def test_zero_eps_does_not_hang():
    fields = {"n_tiles": 1, "channels": 3, "groups": 1, "eps": 0, "shift": 0, "k_words": 1}
    _, dones, _, _, _ = run(SMALL, [0], [0], [(CODES, fields)])
    assert dones == [timing(SMALL, CODES, fields)[1]]


def test_wait_between_passes_is_short():
    fields = {"n_tiles": 16, "channels": 128, "groups": 1}
    occupancy, _ = timing(TARGETS["zynq-7020"], BITS, fields)
    assert occupancy - 2 * 16 <= 24


def test_output_with_back_pressure():
    resid, norm, program, _, beats = random_program(
        ODD, [(OUTPUT, 13, 0), (OUTPUT, 1, 0), (OUTPUT, 10, 0)], 4)
    rng = np.random.default_rng(2)
    _, _, _, _, got = run(ODD, resid, norm, program, ready=lambda cycle: rng.random() < 0.4)
    assert got == beats


@pytest.mark.parametrize("width", [54, 33, 7])
def test_square_root_and_reciprocal(width):
    rng = np.random.default_rng(width)
    top = (1 << width) - 1
    numbers = [0, 1, 2, 3, 4, top, top - 1, *(int(n) for n in rng.integers(0, top, 10)),
               *(int(n) ** 2 - d for n in rng.integers(1, 1 << (width // 2), 5) for d in (0, 1))]
    m, root = Module(), SquareRoot(width=width)
    inverse = Reciprocal(width=-(-width // 2))
    m.submodules.root, m.submodules.inverse = root, inverse

    async def testbench(ctx):
        for number in numbers:
            ctx.set(root.radicand, number)
            ctx.set(root.start, 1)
            await ctx.tick()
            ctx.set(root.start, 0)
            await ctx.tick().repeat(root_cycles(width))
            sigma = ctx.get(root.root)
            assert sigma == isqrt(number)
            ctx.set(inverse.sigma, sigma)
            ctx.set(inverse.start, 1)
            await ctx.tick()
            ctx.set(inverse.start, 0)
            await ctx.tick().repeat(RECIPROCAL_CYCLES - 1)
            if sigma:
                assert (ctx.get(inverse.mantissa), ctx.get(inverse.exponent)) == reciprocal(sigma)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def test_one_verilog_module_for_each_block():
    text = emit(VectorUnit(SMALL), "vector_unit")
    for name in ("norm_lane", "norm_column", "square_root", "reciprocal", "norm_writer"):
        assert text.count(f"module bivit_{name}(") == 1
