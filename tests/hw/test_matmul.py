# amaranth: UnusedElaboratable=no
"""Issue of matrix products against the loops of docs/architecture.md, section 3."""

import itertools
import random

import pytest
from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import latency as array_latency
from bivit.hw.blocks.lanes import PARAM_LEAD
from bivit.hw.blocks.matmul import WORD_LATENCY, MatmulIssue, next_counter, passes_of, timing
from bivit.hw.isa import UNIT_OF, ASource, Destination, Opcode, Unit, decode, encode
from programs import random_program

MODES = {Opcode.MM_BITS: 0, Opcode.MM_SCORE: 1, Opcode.MM_ACC: 2}


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


def expected_records(arch, opcode, fields, tag):
    """Of each pass, the fields of its record that its mode uses."""
    planes = fields.get("a_planes", 1), fields.get("b_planes", 1)
    for tile, i, j in itertools.product(range(fields["n_tiles"]), range(planes[0]),
                                        range(planes[1])):
        last = (i, j) == (planes[0] - 1, planes[1] - 1)
        record = {"mode": MODES[opcode], "tag": tag, "tile": tile, "first_tile": tile == 0,
                  "plane_first": i + j == 0, "plane_last": last, "plane_shift": i + j,
                  "last_pass": last and tile == fields["n_tiles"] - 1}
        if opcode is Opcode.MM_SCORE:
            valid = min(max(fields["keys"] - tile * arch.keys_per_group, 0), arch.keys_per_group)
            yield record | {"valid_cols": valid, "slot": fields["slot"]}
            continue
        record["param_addr"] = fields["param_addr"] + tile
        if opcode is Opcode.MM_ACC:
            same = ("add_src", "row_lo", "row_hi", "base", "shift", "sat")
            yield record | {name: fields[name] for name in same} | {
                "resid_addr": fields["dst_addr"] + tile * arch.drain_cycles,
                "add_addr": fields["add_addr"] + tile * arch.drain_cycles}
            continue
        same = ("dst", "dst_col", "rows", "use_pv", "pv_first")
        record |= {name: fields[name] for name in same} | {"pv_addr": fields["pv_addr"] + tile}
        if fields["dst"] == Destination.V.value:
            yield record | {"dst_addr": fields["dst_addr"] + tile * fields["dst_stride"],
                            "dst_pos": fields["dst_pos"]}
        else:
            word, chunk = divmod(fields["dst_pos"] + tile, arch.chunks_per_word)
            yield record | {"dst_addr": fields["dst_addr"] + word, "dst_pos": chunk}


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
    program = [word for word in random_program(rng, arch, length=150)
               if UNIT_OF.get(decode(word)[0]) is Unit.MM]
    gaps = [0 if dense else rng.choice((0, 0, 1, 2, 20)) for _ in program]
    pops, words, records = simulate(arch, program, gaps)
    instructions = [decode(word) for word in program]

    # Values and order.
    pairs = [(memory_word(fields["a_src"], a) % (1 << arch.rows * arch.lanes),
              memory_word(fields["b_src"], b) % (1 << arch.cols * arch.lanes), first, last)
             for _, fields in instructions for a, b, first, last in expected_pairs(fields)]
    assert [word[1:] for word in words] == pairs
    expected = [record for tag, (opcode, fields) in enumerate(instructions)
                for record in expected_records(arch, opcode, fields, tag)]
    assert [{name: int(getattr(got[name], "value", got[name])) for name in record}
            for (_, got), record in zip(records, expected, strict=True)] == expected

    # Cycles: the model of occupancy, then the drain rule on what came out.
    free, previous = 0, None
    for (opcode, fields), pop, following in zip(instructions, pops, [*pops[1:], None],
                                                strict=True):
        counter = 0 if previous is None else next_counter(arch, previous, pop - free)
        free, previous = pop + timing(arch, opcode, fields, counter)[0], opcode
        assert following is None or following >= free
        if dense:
            assert following is None or following == free
    drains = [arch.drain_cycles if record["mode"] == 2 else 1 for record in expected]
    lasts = [cycle for cycle, _, _, _, last in words if last]
    for (end, drain), later in zip(zip(lasts, drains, strict=True), lasts[1:], strict=False):
        assert later - end >= drain
    assert [cycle for cycle, _ in records] == [
        cycle + array_latency(arch) - PARAM_LEAD for cycle in lasts]
    assert words[0][0] == pops[0] + 1 + WORD_LATENCY


@pytest.mark.parametrize("words, drain, period", [(1, 4, 4), (3, 4, 4), (4, 4, 4), (6, 4, 6)])
def test_passes_follow_without_a_bubble(words, drain, period):
    arch = small_arch()
    assert arch.drain_cycles == drain
    fields = {"n_tiles": 3, "k_words": words, "a_planes": 2, "b_planes": 1, "sat": 8}
    program = [encode(Opcode.MM_ACC, a_src=ASource.XMEM, **fields)] * 2
    _, pairs, _ = simulate(arch, program, [0, 0])
    ends = [cycle for cycle, _, _, _, last in pairs if last]
    assert passes_of(Opcode.MM_ACC, fields) == 6
    assert [b - a for a, b in itertools.pairwise(ends)] == [period] * 11
