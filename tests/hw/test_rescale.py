"""Rescale and bend against the numeric definitions, with new operands in every cycle."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import RESCALE_SHIFTS, bend, rescale, saturate
from bivit.hw.blocks.rescale import BEND_LATENCY, RESCALE_LATENCY, Bend, Rescale
from bivit.hw.memories import BIAS_BITS, CLIPPED_BITS, SCALE_BITS

BITS = {"scale": SCALE_BITS, "bias": BIAS_BITS, "number": CLIPPED_BITS + 1, "knee": 16}
COUNT = 400


def signed(rng, bits):
    """Numbers of all sizes, the extremes among them."""
    largest = (1 << (bits - 1)) - 1
    numbers = rng.integers(-largest - 1, largest + 1, COUNT) >> rng.integers(0, bits, COUNT)
    numbers[::7], numbers[3::7] = -largest - 1, largest
    return rng.permutation(numbers)


def clipped(numbers):
    half = 1 << (CLIPPED_BITS - 1)
    return np.clip(numbers, -half, half - 1)


def outputs(dut, operands, latency):
    """Results of a stream of operands: name to (cycle in which it counts, values)."""
    found = []

    async def testbench(ctx):
        for cycle in range(COUNT + latency):
            for name, (stage, values) in operands.items():
                ctx.set(getattr(dut, name), int(values[(cycle - stage) % COUNT]))
            if cycle >= latency:
                found.append(ctx.get(dut.result))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return found


@pytest.mark.parametrize("width", [2, 18, 19, 25, 35])
def test_rescale(width):
    rng = np.random.default_rng(width)
    number, scale, bias = (signed(rng, bits) for bits in (width, SCALE_BITS, BIAS_BITS))
    shift = rng.integers(0, len(RESCALE_SHIFTS), COUNT)
    expected = [clipped(rescale(n, s, b, RESCALE_SHIFTS[k]))
                for n, s, b, k in zip(number, scale, bias, shift, strict=True)]
    assert outputs(Rescale(width), {
        "number": (0, number), "scale": (0, scale), "bias": (1, bias), "shift": (1, shift),
    }, RESCALE_LATENCY) == expected


def test_bend():
    rng = np.random.default_rng(1)
    names = ("number", "knee", "scale_above", "bias_above", "scale_below", "bias_below")
    operands = {name: signed(rng, BITS[name.split("_")[0]]) for name in names}
    operands["knee"][::5] = saturate(operands["number"][::5], 16)
    shift = rng.integers(0, len(RESCALE_SHIFTS), COUNT)
    number, *parameters = operands.values()
    expected = [clipped(bend(x, knee, (scale_above, bias_above), (scale_below, bias_below),
                             RESCALE_SHIFTS[k]))
                for x, knee, scale_above, bias_above, scale_below, bias_below, k
                in zip(saturate(number, 16), *parameters, shift, strict=True)]
    stages = {name: int(name not in ("number", "knee")) for name in names}
    assert outputs(Bend(), {name: (stages[name], operands[name]) for name in names}
                   | {"shift": (3, shift)}, BEND_LATENCY) == expected


def test_number_of_more_than_two_factors():
    with pytest.raises(ValueError, match=r"^width must be at most 35, not 36$"):
        Rescale(36)
