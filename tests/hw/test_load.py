"""Pixels into planes and constants into memories, bit for bit and cycle for cycle."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE, LoadUnit, timing
from bivit.hw.emit import emit
from bivit.hw.encoding import encode
from bivit.hw.isa import Opcode
from bivit.hw.memories import beats_per_word, constant_memories, loaded_memories
from bivit.hw.targets import TARGETS

ODD, TINY = TARGETS["odd"], TARGETS["tiny"]


def fields_of(arch, *, tokens, pixels, row=0, dst_addr=0, last=0):
    return {"dst_addr": dst_addr, "row": row, "tokens": tokens, "pixels": pixels,
            "k_words": -(-pixels // arch.lanes), "last": last}


def run(arch, program, beats, *, p_valid=1.0, cycles=5000):
    """Feed instructions and beats; returns pops, dones, IMEM, error and the beats taken."""
    unit, pops, dones, imem, taken = LoadUnit(arch), [], [], {}, 0
    rng = random.Random(1)
    error = 0

    async def testbench(ctx):
        nonlocal taken, error
        offered = False
        for cycle in range(cycles):
            if len(pops) < len(program):
                word = encode(Opcode.LOAD, **program[len(pops)])
                ctx.set(unit.instr.payload, {"word": word, "tag": len(pops)})
            ctx.set(unit.instr.valid, len(pops) < len(program))
            offered = offered or (taken < len(beats) and rng.random() < p_valid)
            if offered:
                ctx.set(unit.s_axis.payload, {"data": beats[taken][0], "last": beats[taken][1]})
            ctx.set(unit.s_axis.valid, offered)
            assert ctx.get(unit.busy) == (len(pops) > len(dones))
            if mask := ctx.get(unit.imem_we):
                address, word = ctx.get(unit.imem_addr), ctx.get(unit.imem_data)
                imem[address] = imem.get(address, 0) & ~mask | word & mask
                for row in range(arch.rows):  # a write takes the whole row of the word
                    part = mask >> row * arch.lanes & (1 << arch.lanes) - 1
                    assert part in (0, (1 << arch.lanes) - 1)
            if ctx.get(unit.done):
                dones.append(cycle)
            if ctx.get(unit.instr.valid) and ctx.get(unit.instr.ready):
                pops.append(cycle)
            if offered and ctx.get(unit.s_axis.ready):
                taken, offered = taken + 1, False
            await ctx.tick()
            error = ctx.get(unit.error)
            if len(dones) == len(program):
                return
        assert error
        ctx.set(unit.instr.valid, 1)
        ctx.set(unit.s_axis.valid, 1)
        assert not ctx.get(unit.instr.ready) and not ctx.get(unit.s_axis.ready)
        ctx.set(unit.clear, 1)
        await ctx.tick()
        ctx.set(unit.clear, 0)
        assert not ctx.get(unit.busy) and not ctx.get(unit.error) and ctx.get(unit.instr.ready)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, dones, imem, error, taken


def stimulus(arch, program, seed):
    """Beats of a program, padding bytes not zero, and IMEM afterwards."""
    rng = np.random.default_rng(seed)
    beats, imem = [], {}
    for fields in program:
        pixels, tokens = fields["pixels"], fields["tokens"]
        padded = -(-pixels // 4) * 4
        image = rng.integers(0, 256, (tokens, padded))
        words = image.reshape(-1, 4) @ (1 << 8 * np.arange(4))
        beats += [(int(word), 0) for word in words]
        if fields["last"]:
            beats[-1] = (beats[-1][0], 1)
        for token, plane in np.ndindex(tokens, 8):
            for word in range(fields["k_words"]):
                part = image[token, :pixels][word * arch.lanes:][:arch.lanes] >> plane & 1
                shift = (fields["row"] + token) * arch.lanes
                address = fields["dst_addr"] + plane * fields["k_words"] + word
                mask = (1 << arch.lanes) - 1 << shift
                value = sum(int(bit) << position for position, bit in enumerate(part)) << shift
                imem[address] = imem.get(address, 0) & ~mask | value
    return beats, imem


PROGRAMS = [
    (ODD, [dict(tokens=3, pixels=49), dict(tokens=1, pixels=3, row=1, dst_addr=40),
           dict(tokens=2, pixels=24, row=1, dst_addr=50), dict(tokens=1, pixels=1, dst_addr=60),
           dict(tokens=1, pixels=25, row=2, dst_addr=70, last=1)]),
    (TINY, [dict(tokens=2, pixels=16), dict(tokens=1, pixels=18, dst_addr=8),
            dict(tokens=1, pixels=48, row=1, dst_addr=24, last=1)]),
    (TARGETS["zynq-7020"], [dict(tokens=6, pixels=4), dict(tokens=2, pixels=130, row=3, dst_addr=9),
                           dict(tokens=2, pixels=64, row=1, dst_addr=40, last=1)]),
]


@pytest.mark.parametrize("arch, program", PROGRAMS, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("p_valid", [1.0, 0.3])
def test_planes(arch, program, p_valid):
    program = [fields_of(arch, **fields) for fields in program]
    beats, imem = stimulus(arch, program, seed=3)
    pops, dones, got, error, taken = run(arch, program, beats, p_valid=p_valid)
    assert got == imem
    assert (error, taken) == (0, len(beats))
    if p_valid == 1:
        times = [timing(arch, Opcode.LOAD, fields) for fields in program]
        assert np.diff(pops).tolist() == [occupancy for occupancy, _ in times[:-1]]
        assert [done - pop for pop, done in zip(pops, dones, strict=True)] == [t[1] for t in times]


@pytest.mark.parametrize("last, marked, error", [
    (1, None, ENDED_LATE), (1, 3, ENDED_EARLY), (0, 5, ENDED_EARLY), (0, 0, ENDED_EARLY),
])
def test_end_of_the_packet(last, marked, error):
    program = [fields_of(ODD, tokens=2, pixels=9, last=last)]  # 6 beats
    beats = [(0, int(index == marked)) for index in range(6)]
    _, dones, _, got, taken = run(ODD, program, beats, cycles=100)
    assert got == error
    assert not dones
    assert taken == (6 if marked is None else marked + 1)


def load_constants(arch, packets):
    """Send `packets` of (index, beats, last beat marked); returns the memories."""
    loader, memories = ConstantLoader(arch), {name: {} for name in constant_memories(arch)}

    async def watch(ctx):
        for name, size in loaded_memories(arch).items():
            if mask := ctx.get(getattr(loader, f"{name}_we")):
                assert mask == (1 << size.width) - 1
                address = ctx.get(getattr(loader, f"{name}_addr"))
                memories[name][address] = ctx.get(getattr(loader, f"{name}_data"))

    async def tick(ctx):
        await watch(ctx)
        await ctx.tick()

    async def testbench(ctx):
        for index, beats in packets:
            assert not ctx.get(loader.busy)
            ctx.set(loader.select_index, index)
            ctx.set(loader.select_beats, len(beats))
            ctx.set(loader.select_valid, 1)
            await tick(ctx)
            ctx.set(loader.select_valid, 0)
            for number, beat in enumerate(beats):
                ctx.set(loader.s_axis.payload, {"data": beat, "last": number == len(beats) - 1})
                ctx.set(loader.s_axis.valid, 1)
                assert ctx.get(loader.busy) and ctx.get(loader.s_axis.ready)
                await tick(ctx)
                if number % 3 == 1:
                    ctx.set(loader.s_axis.valid, 0)
                    await tick(ctx)
            ctx.set(loader.s_axis.valid, 0)
            assert not ctx.get(loader.s_axis.ready)
            while ctx.get(loader.busy):
                await tick(ctx)
            assert not ctx.get(loader.error)

    simulator = Simulator(loader)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return memories


def test_constants_reach_their_memories():
    rng, packets, expected = random.Random(5), [], {}
    for index, (name, size) in reversed(list(enumerate(constant_memories(ODD).items()))):
        count = beats_per_word(size.width)
        words = [rng.getrandbits(size.width) for _ in range(4)]
        beats = [word >> 32 * beat & 0xFFFFFFFF for word in words for beat in range(count)]
        packets += [(index, beats)]
        expected[name] = dict(enumerate(words))
    assert load_constants(ODD, packets) == expected


def test_packet_longer_than_the_memory_or_not_whole():
    arch = type(ODD)(name="short", rows=1, cols=4, lanes=4, thr_depth=3,
                     weights="loaded")  # THR words: 72 bits
    assert load_constants(arch, [(2, list(range(14)))])["thr"] == {
        0: 2 << 64 | 1 << 32, 1: 5 << 64 | 4 << 32 | 3, 2: 8 << 64 | 7 << 32 | 6}
    assert load_constants(arch, [(2, [7, 8, 9, 10]), (2, [1, 2, 3])])["thr"] == {
        0: 3 << 64 | 2 << 32 | 1}


def test_streamed_targets_load_their_program_alone():
    arch = dataclasses.replace(TINY, weights="streamed")
    beats = list(range(beats_per_word(constant_memories(arch)["program"].width)))
    memories = load_constants(arch, [(1, [1, 2, 3]), (0, beats), (2, [4])])
    assert memories.pop("program") == {0: sum(beat << 32 * beat for beat in beats)}
    assert not any(memories.values())


def test_verilog_of_both_is_deterministic():
    for block in (LoadUnit, ConstantLoader):
        assert emit(block(ODD), "block") == emit(block(ODD), "block")
