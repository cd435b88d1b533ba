"""The vector unit against the numeric definitions, bit for bit and cycle for cycle."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import isqrt, reciprocal
from bivit.hw.arch import Arch
from bivit.hw.blocks.root import RECIPROCAL_CYCLES, Reciprocal, SquareRoot, root_cycles
from bivit.hw.blocks.vector import VectorUnit, timing
from bivit.hw.emit import emit
from bivit.hw.isa import NumberSource, Opcode
from bivit.hw.targets import TARGETS
from vector_bench import run
from vector_model import VectorModel
from vector_programs import ARCHS, check, random_model, random_program

BITS, CODES, NUMBERS = Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS
NORMS, ALL = (BITS, CODES, NUMBERS), (BITS, CODES, NUMBERS, Opcode.OUTPUT, Opcode.ROWS_ADD,
                                      Opcode.ROWS_OUT, Opcode.MOVE)
ODD = ARCHS[0]


@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: arch.name)
@pytest.mark.parametrize("seed, opcodes", [(1, (*NORMS, Opcode.OUTPUT)), (3, ALL),
                                           (4, ALL)])
def test_programs_bit_and_cycle_exact(arch, seed, opcodes):
    rng = np.random.default_rng(seed)
    model = random_model(arch, rng)
    program, waits = random_program(
        model, [opcodes[i] for i in rng.integers(len(opcodes), size=12)], rng)
    check(model, program, waits=waits)


def test_every_instruction_after_every_other():
    """Also where the last writes of one overlap with the next."""
    pairs = [opcode for first in ALL for second in ALL for opcode in (first, second)]
    rng = np.random.default_rng(7)
    model = random_model(ODD, rng)
    program, waits = random_program(model, pairs, rng)
    assert len(waits) < len(pairs) // 4
    check(model, program, waits=waits)


@pytest.mark.parametrize("opcode", NORMS)
@pytest.mark.parametrize("source", NumberSource)
def test_heads_that_do_not_fill_their_tiles(opcode, source):
    """3 heads of 7 channels in 10 columns each; what lies behind the last does not count."""
    rng = np.random.default_rng(11)
    model = random_model(ODD, rng)
    column = np.arange(30) % 10 < 7
    numbers = rng.choice([-1, 1], (3, 30)) * rng.integers(1, 2**14, (3, 30)) * column
    numbers[:, 27:] = 2**15 - 1
    model.scale[:6] = rng.integers(-2**15, 2**15, (6, 5)) * column.reshape(6, 5)
    model.bias[:6] = np.where(column, rng.integers(0, 4, 30), 2 * (opcode is BITS)).reshape(6, 5)
    memory = getattr(model, source.name.lower())
    for row, values in enumerate(numbers):
        memory[4 + row // 2:16:2, row % 2] = values.reshape(6, 5)
    fields = {"src": source.value, "src_addr": 4, "n_tiles": 6, "channels": 21, "span": 27,
              "groups": 2, "dst_addr": 20, "eps": 3}
    extra = {BITS: {}, CODES: {"shift": 1, "k_words": 2}, NUMBERS: {"shift": 1, "sat": 12}}
    check(model, [(opcode, fields | extra[opcode])])
    got = model.vmem[20:32] if opcode is NUMBERS else model.xmem[20:24]
    assert got.any()


def test_extremes_of_the_longest_row():
    """Largest sums that the widths must hold, and thresholds that are met exactly."""
    arch = Arch(name="wide", rows=1, cols=16, lanes=16, resid_depth=256, vmem_depth=4,
                norm_depth=256, xmem_depth=256, hmem_depth=4, kmem_depth=4, sums_depth=2)
    rng = np.random.default_rng(1)
    for row in (np.full(4096, -2**15), np.tile([-2**15, 2**15 - 1], 2048)):
        model = VectorModel(arch, rng)
        model.resid[:] = row.reshape(256, 1, 16)
        model.scale[:] = rng.choice([-2**15, 2**15 - 1, 0, 4096, -4096], (256, 16))
        model.bias[:] = rng.integers(0, 4, (256, 16))
        check(model, [(BITS, {"n_tiles": 256, "channels": 4095, "span": 4095, "groups": 1,
                              "eps": 2**32 - 1})])


def test_zero_eps_does_not_hang():
    fields = {"n_tiles": 1, "channels": 3, "span": 3, "groups": 1, "eps": 0, "k_words": 1}
    trace = run(ODD, {"resid": [0], "norm": [0], "vmem": [], "xmem": []}, [(CODES, fields)])
    assert trace.dones == [timing(ODD, CODES, fields)[1]]


def test_wait_between_passes_is_short():
    fields = {"n_tiles": 16, "channels": 128, "groups": 1}
    occupancy, _ = timing(TARGETS["zynq-7020"], BITS, fields)
    assert occupancy - 2 * 16 <= 24


def test_output_with_back_pressure():
    rng = np.random.default_rng(4)
    model = random_model(ODD, rng)
    program, _ = random_program(model, [Opcode.OUTPUT] * 5, rng)
    contents = {name: model.words(name) for name in ("resid", "vmem")}
    trace = run(ODD, contents, program, ready=lambda cycle: rng.random() < 0.4)
    for opcode, fields in program:
        model.run(opcode, fields)
    assert trace.beats == model.beats


@pytest.mark.parametrize("width", [54, 33, 7])
def test_square_root_and_reciprocal(width):
    rng = np.random.default_rng(width)
    top = (1 << width) - 1
    numbers = [0, 1, 2, 3, 4, top, top - 1, *(int(n) for n in rng.integers(0, top, 10)),
               *(int(n) ** 2 - d for n in rng.integers(1, 1 << (width // 2), 5) for d in (0, 1))]
    m, root = Module(), SquareRoot(width=width)
    inverse = Reciprocal(width=-(-width // 2))
    m.submodules.root, m.submodules.inverse = root, inverse
    m.d.comb += [inverse.clear.eq(root.start), inverse.digits.eq(root.root)]

    async def testbench(ctx):
        for number in numbers:
            ctx.set(root.radicand, number)
            ctx.set(root.start, 1)
            await ctx.tick()
            ctx.set(root.start, 0)
            await ctx.tick().repeat(root_cycles(width))
            sigma = ctx.get(root.root)
            assert sigma == isqrt(number)
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
    text = emit(VectorUnit(ODD), "vector_unit")
    for name in ("norm_lane", "norm_column", "square_root", "reciprocal", "norm_writer",
                 "gelu", "row_column", "source_walk", "destination_walk", "row_sums"):
        assert text.count(f"module bivit_{name}(") == 1
