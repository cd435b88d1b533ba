# amaranth: UnusedElaboratable=no
"""Issue of matrix products against the loops of docs/architecture.md, section 3."""

import itertools
import random

import pytest
from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import latency as array_latency
from bivit.hw.blocks.lanes import PARAM_LEAD
from bivit.hw.blocks.matmul import (
    WORD_LATENCY,
    MatmulIssue,
    drain_of,
    next_counter,
    passes_of,
    timing,
)
from bivit.hw.encoding import decode, encode
from bivit.hw.isa import AddSource, ASource, Opcode
from products import PRODUCTS, random_product, records_of


def small_arch(*, rows=4, post_rows=1):
    return Arch(name="test", rows=rows, cols=9, lanes=40, post_rows=post_rows)


def memory_word(source, address):
    """What the memories of this test hold: any distinct numbers."""
    return (address * 8 + source) * 0x9E3779B1 % (1 << 100)


def expected_pairs(fields):
    """Word pairs (A address, B address, first, last) in order."""
    words, planes_b = fields["k_words"], fields.get("b_planes", 1)
    for tile, i, j, k in itertools.product(range(fields["n_tiles"]),
                                           range(fields.get("a_planes", 1)), range(planes_b),
                                           range(words)):
        yield (fields["a_addr"] + i * words + k,
               fields["b_addr"] + (tile * planes_b + j) * words + k,
               int(k == 0), int(k == words - 1))


def simulate(arch, instructions, gaps):
    """Pop cycles, words at the array and records, each with its cycle."""
    dut = MatmulIssue(arch)
    pops, words, records = [], [], []
    sources = [(dut.a_addr, dut.a_data), (dut.b_addr, dut.b_data)]

    async def testbench(ctx):
        history = [[0, 0], [0, 0]]
        waiting, gap = list(enumerate(instructions)), list(gaps)
        quiet, cycle = 0, 0
        while quiet < 60:
            for (address, ports), old in zip(sources, history, strict=True):
                for source, port in enumerate(ports):
                    ctx.set(port, memory_word(source, old[0]) % (1 << len(port)))
                old[:] = [old[1], ctx.get(address)]
            offered = bool(waiting) and gap[0] <= 0
            ctx.set(dut.instr.valid, offered)
            if offered:
                ctx.set(dut.instr.payload, {"tag": waiting[0][0], "word": waiting[0][1]})
            if offered and ctx.get(dut.instr.ready):
                pops.append(cycle)
                waiting.pop(0)
                gap.pop(0)
            elif waiting:
                gap[0] -= 1
            quiet += 1
            if ctx.get(dut.valid):
                words.append((cycle, ctx.get(dut.a), ctx.get(dut.b), ctx.get(dut.first),
                              ctx.get(dut.last)))
                quiet = 0
            if ctx.get(dut.pass_valid):
                records.append((cycle, ctx.get(dut.pass_)))
            await ctx.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, words, records


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("post_rows", [1, 3, 4])
@pytest.mark.parametrize("dense", [True, False])
def test_loops_records_and_timing(seed, post_rows, dense):
    arch, rng = small_arch(post_rows=post_rows), random.Random(f"{seed}/{post_rows}/{dense}")
    opcodes = [rng.choice(PRODUCTS) for _ in range(60)]
    program = [encode(opcode, **random_product(rng, arch, opcode)) for opcode in opcodes]
    gaps = [0 if dense else rng.choice((0, 0, 1, 2, 20)) for _ in program]
    pops, words, records = simulate(arch, program, gaps)
    instructions = [decode(word) for word in program]

    # Values and order.
    pairs = [(memory_word(fields["a_src"], a) % (1 << arch.rows * arch.lanes),
              memory_word(fields["b_src"], b) % (1 << arch.cols * arch.lanes), first, last)
             for _, fields in instructions for a, b, first, last in expected_pairs(fields)]
    assert [word[1:] for word in words] == pairs
    expected = [record for tag, (opcode, fields) in enumerate(instructions)
                for record in records_of(arch, opcode, fields, tag)]
    assert [{name: int(getattr(got[name], "value", got[name])) for name in record}
            for (_, got), record in zip(records, expected, strict=True)] == expected

    # Cycles: the model of occupancy, then the drain rule on what came out.
    free, drain, drains = 0, 0, []
    for (opcode, fields), pop, following in zip(instructions, pops, [*pops[1:], None],
                                                strict=True):
        counter = next_counter(drain, pop - free)
        free, drain = pop + timing(arch, opcode, fields, counter)[0], drain_of(arch, opcode, fields)
        drains += [drain] * passes_of(opcode, fields)
        assert following is None or following >= free
        if dense:
            assert following is None or following == free
    lasts = [cycle for cycle, _, _, _, last in words if last]
    for (end, drain), later in zip(zip(lasts, drains, strict=True), lasts[1:], strict=False):
        assert later - end >= drain
    assert [cycle for cycle, _ in records] == [
        cycle + array_latency(arch) - PARAM_LEAD for cycle in lasts]
    assert words[0][0] == pops[0] + 1 + WORD_LATENCY


@pytest.mark.parametrize("words, dual, period", [
    (1, 0, 4), (3, 0, 4), (4, 0, 4), (6, 0, 6), (3, 1, 8), (8, 1, 8), (9, 1, 9)])
def test_passes_follow_without_a_bubble(words, dual, period):
    arch = small_arch()
    fields = {"n_tiles": 3, "k_words": words, "a_planes": 2, "b_planes": 1, "sat": 8,
              "add_src": AddSource.POS.value,
              "add2_src": (AddSource.POS if dual else AddSource.VMEM).value}
    program = [encode(Opcode.MM_ACC, a_src=ASource.XMEM, **fields)] * 2
    _, pairs, _ = simulate(arch, program, [0, 0])
    ends = [cycle for cycle, _, _, _, last in pairs if last]
    assert arch.drain_cycles == 4 and drain_of(arch, Opcode.MM_ACC, fields) == 4 << dual
    assert passes_of(Opcode.MM_ACC, fields) == 6
    assert [b - a for a, b in itertools.pairwise(ends)] == [period] * 11
