"""The stem engine against the numeric definitions, bit for bit and cycle for cycle."""

import dataclasses
import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from bivit.compiler.ir import numeric
from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE
from bivit.hw.blocks.memory import Rom
from bivit.hw.blocks.stem import StemUnit, timing
from bivit.hw.emit import emit
from bivit.hw.encoding import encode
from bivit.hw.isa import Opcode
from bivit.hw.memories import BIAS_BITS, CLIPPED_BITS, SCALE_BITS, memories
from bivit.hw.targets import TARGETS

SMALL = {"stem_pixels": 70, "stem_depth": 300, "stem_scale_depth": 160, "smem_depth": 400}
ODD = dataclasses.replace(TARGETS["odd"], stem_macs=7, **SMALL)
TINY = dataclasses.replace(TARGETS["tiny"], stem_macs=3, **SMALL)
WIDE = dataclasses.replace(TARGETS["tiny"], stem_macs=140, **SMALL)
TWO = dataclasses.replace(ODD, name="two", stem_macs=14, stem_simd=2)
FOUR = dataclasses.replace(TINY, name="four", stem_macs=12, stem_simd=4)
WIDE_FOUR = dataclasses.replace(WIDE, name="wide-four", stem_macs=140, stem_simd=4)
ONE = dataclasses.replace(TARGETS["zynq-7020"], stem_macs=1, **SMALL)


def constants(arch, seed):
    """Weights (words, lanes), scales and biases; the greatest of each among them."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (arch.stem_depth, arch.stem_macs)) * 2 + 1
    weights[:40] = 255
    scales = rng.integers(-(1 << 15), 1 << 15, arch.stem_scale_depth)
    scales[::3] >>= 9
    biases = rng.integers(-(1 << 23), 1 << 23, arch.stem_scale_depth)
    return weights, scales, biases


def fields_of(**fields):
    return {"dst_addr": 0, "row": 0, "dst_stride": 40, "segment": 0, "weight_addr": 0,
            "scale_addr": 0, "shift": 0, "last": 0, "next": 0} | fields


def run(arch, program, beats, parameters, *, p_valid=1.0, cycles=20000):
    """Feed instructions and beats; returns pops, dones, SMEM, error and the beats taken."""
    unit, pops, dones, smem, taken = StemUnit(arch), [], [], {}, 0
    weights, scales, biases = parameters
    stem = [sum((int(w) >> 1 & 255) << 8 * lane for lane, w in enumerate(word))
            for word in weights]
    scale = [int(s) & (1 << SCALE_BITS) - 1 | (int(b) & (1 << BIAS_BITS) - 1) << SCALE_BITS
             for s, b in zip(scales, biases, strict=True)]
    rng = random.Random(1)
    error = 0

    async def testbench(ctx):
        nonlocal taken, error
        offered = False
        for cycle in range(cycles):
            if len(pops) < len(program):
                word = encode(Opcode.STEM, **program[len(pops)])
                ctx.set(unit.instr.payload, {"word": word, "tag": len(pops)})
            ctx.set(unit.instr.valid, len(pops) < len(program))
            offered = offered or (taken < len(beats) and rng.random() < p_valid)
            if offered:
                ctx.set(unit.s_axis.payload, {"data": beats[taken][0], "last": beats[taken][1]})
            ctx.set(unit.s_axis.valid, offered)
            assert ctx.get(unit.busy) == (len(pops) > len(dones))
            if mask := ctx.get(unit.smem_we):
                address, word = ctx.get(unit.smem_write_addr), ctx.get(unit.smem_write_data)
                smem[address] = smem.get(address, 0) & ~mask | word & mask
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

    top = Module()
    top.submodules.unit = unit
    for name, words in (("stem", stem), ("stem_scale", scale)):
        top.submodules[name] = rom = Rom(width=memories(arch)[name].width, depth=len(words),
                                         file="", init=words)
        top.d.comb += [rom.read_addr.eq(getattr(unit, f"{name}_addr")),
                       getattr(unit, f"{name}_data").eq(rom.read_data)]
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, dones, smem, error, taken


def expected_of(arch, fields, image, parameters):
    """SMEM words that an instruction writes, by address: (mask, value)."""
    weights, scales, biases = parameters
    pixels, channels, simd = fields["pixels"], fields["channels"], arch.stem_simd
    lanes, steps = arch.stem_macs // simd, -(-pixels // simd)
    groups = -(-channels // lanes)
    words = weights[fields["weight_addr"]:][:groups * steps]
    matrix = words.reshape(groups, steps, lanes, simd).transpose(0, 2, 1, 3)
    matrix = matrix.reshape(-1, steps * simd)[:channels, :pixels]
    start = fields["scale_addr"]
    numbers = numeric.rescale(
        (2 * image[:, :pixels] - 255) @ matrix.T, scales[start:start + channels],
        biases[start:start + channels], numeric.RESCALE_SHIFTS[fields["shift"]])
    half = 1 << (CLIPPED_BITS - 1)
    numbers = np.clip(numbers, -half, half - 1)
    found, place = {}, 0
    length = fields["segment"] or len(numbers)
    for token, row in enumerate(numbers):
        segment, inside = divmod(token, length)
        block, place = divmod(fields["row"] + inside, arch.rows)
        block += segment * -(-(fields["row"] + length) // arch.rows)
        for channel, number in enumerate(row.tolist()):
            tile, column = divmod(channel, arch.cols)
            address = (fields["dst_addr"] + block * fields["dst_stride"]
                       + tile * arch.drain_cycles + place // arch.post_rows)
            shift = (place % arch.post_rows * arch.cols + column) * CLIPPED_BITS
            mask, value = found.get(address, (0, 0))
            found[address] = (mask | (1 << CLIPPED_BITS) - 1 << shift,
                              value | (number & (1 << CLIPPED_BITS) - 1) << shift)
    return found


def stimulus(arch, program, parameters, seed):
    """Beats of a program, padding bytes not zero, and SMEM afterwards."""
    rng = np.random.default_rng(seed)
    beats, smem = [], {}
    for fields in program:
        padded = -(-fields["pixels"] // 4) * 4
        image = rng.integers(0, 256, (fields["tokens"], padded))
        image[0] = 255
        beats += [(int(word), 0) for word in image.reshape(-1, 4) @ (1 << 8 * np.arange(4))]
        if fields["last"]:
            beats[-1] = (beats[-1][0], 1)
        for address, (mask, value) in expected_of(arch, fields, image, parameters).items():
            smem[address] = smem.get(address, 0) & ~mask | value
    return beats, smem


PROGRAMS = [
    (ODD, [dict(tokens=4, pixels=49, channels=14), dict(tokens=1, pixels=3, channels=1, row=2),
           dict(tokens=9, pixels=5, channels=23, row=1, dst_addr=50, segment=4, weight_addr=30,
                scale_addr=40, shift=2),
           dict(tokens=3, pixels=7, channels=14, dst_addr=300),
           dict(tokens=2, pixels=70, channels=6, row=2, dst_addr=200, shift=3, last=1)]),
    (WIDE, [dict(tokens=3, pixels=70, channels=80), dict(tokens=3, pixels=5, channels=3, row=1),
            dict(tokens=2, pixels=67, channels=150, dst_addr=200, last=1)]),
    (TINY, [dict(tokens=5, pixels=16, channels=9, row=1, shift=1),
            dict(tokens=2, pixels=1, channels=1, dst_addr=9),
            dict(tokens=6, pixels=2, channels=7, dst_addr=200, segment=3, last=1)]),
    (TWO, [dict(tokens=4, pixels=49, channels=14), dict(tokens=1, pixels=3, channels=1, row=2),
           dict(tokens=9, pixels=5, channels=23, row=1, dst_addr=50, segment=4, weight_addr=30,
                scale_addr=40, shift=2),
           dict(tokens=3, pixels=14, channels=7, dst_addr=300),
           dict(tokens=4, pixels=1, channels=8),
           dict(tokens=2, pixels=70, channels=6, row=2, dst_addr=200, shift=3, last=1)]),
    (FOUR, [dict(tokens=5, pixels=pixels, channels=channels, row=1, shift=1)
            for pixels, channels in ((16, 3), (70, 2), (69, 3), (67, 7), (1, 1), (5, 3), (18, 1))]
     + [dict(tokens=6, pixels=2, channels=7, dst_addr=200, segment=3, last=1)]),
    (WIDE_FOUR, [dict(tokens=3, pixels=70, channels=80), dict(tokens=3, pixels=64, channels=9),
                 dict(tokens=2, pixels=67, channels=35, dst_addr=200, last=1)]),
    (ONE, [dict(tokens=5, pixels=1, channels=1), dict(tokens=3, pixels=1, channels=2),
           dict(tokens=7, pixels=4, channels=9, row=5),
           dict(tokens=3, pixels=7, channels=3, dst_addr=250, segment=1, row=4, last=1)]),
]


@pytest.mark.parametrize("arch, program", PROGRAMS, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("p_valid", [1.0, 0.2])
def test_numbers(arch, program, p_valid):
    program = [fields_of(**fields) for fields in program]
    parameters = constants(arch, 7)
    beats, smem = stimulus(arch, program, parameters, seed=3)
    pops, dones, got, error, taken = run(arch, program, beats, parameters, p_valid=p_valid)
    assert got == smem
    assert (error, taken) == (0, len(beats))
    if p_valid == 1:
        times = [timing(arch, Opcode.STEM, fields) for fields in program]
        assert np.diff(pops).tolist() == [occupancy for occupancy, _ in times[:-1]]
        assert [done - pop for pop, done in zip(pops, dones, strict=True)] == [t[1] for t in times]


def test_numbers_are_clipped():
    """The stimulus reaches both ends of the range, and numbers inside of it."""
    program = [fields_of(**fields) for fields in PROGRAMS[0][1]]
    _, smem = stimulus(ODD, program, constants(ODD, 7), seed=3)
    entries = {word >> shift & (1 << CLIPPED_BITS) - 1 for word in smem.values()
               for shift in range(0, 10 * CLIPPED_BITS, CLIPPED_BITS)}
    half = 1 << (CLIPPED_BITS - 1)
    assert {half, half - 1} < entries and len(entries) > 50


@pytest.mark.parametrize("last, marked, error", [
    (1, None, ENDED_LATE), (1, 3, ENDED_EARLY), (0, 5, ENDED_EARLY), (0, 0, ENDED_EARLY),
])
def test_end_of_the_packet(last, marked, error):
    program = [fields_of(tokens=2, pixels=9, channels=2, last=last)]  # 6 beats
    beats = [(0, int(index == marked)) for index in range(6)]
    _, dones, _, got, taken = run(ODD, program, beats, constants(ODD, 1), cycles=100)
    assert got == error
    assert not dones
    assert taken == (6 if marked is None else marked + 1)


def test_verilog_is_deterministic_and_has_one_lane():
    text = emit(StemUnit(TWO), "block")
    assert text == emit(StemUnit(TWO), "block")
    assert text.count("module bivit_stem_lane") == 1
