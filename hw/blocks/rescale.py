"""Rescaling and bending of a number: multiply, add, shift, clip."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import BIAS_FRACTION, RESCALE_SHIFTS
from bivit.hw.blocks.lanes import delayed, saturated
from bivit.hw.blocks.rounding import aligned
from bivit.hw.emit import place
from bivit.hw.memories import BIAS_BITS, CLIPPED_BITS, SCALE_BITS

__all__ = ["BEND_LATENCY", "RESCALE_LATENCY", "Bend", "Rescale"]

RESCALE_LATENCY = 2
"""Cycles from the operands of a :class:`Rescale` to its result."""

BEND_LATENCY = 1 + RESCALE_LATENCY
"""Cycles from the operands of a :class:`Bend` to its result."""


class Rescale(wiring.Component):
    """``numeric.rescale``, clipped to ``CLIPPED_BITS``.

    Parameters
    ----------
    width : int
        Bits of the signed number.

    Members
    -------
    number, scale, bias, shift : ``In``
        Operands; `shift` is an index into ``RESCALE_SHIFTS``.
    result : ``Out``, ``RESCALE_LATENCY`` cycles later
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({
            "number": In(signed(width)),
            "scale": In(signed(SCALE_BITS)),
            "bias": In(signed(BIAS_BITS)),
            "shift": In(range(len(RESCALE_SHIFTS))),
            "result": Out(signed(CLIPPED_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        # A bias has BIAS_FRACTION bits below one, so half is 1 << (BIAS_FRACTION - 1) beside it.
        product = Signal(signed(self.width + SCALE_BITS), reset_less=True)
        half = Signal(signed(BIAS_BITS + 1), reset_less=True)
        m.d.sync += [product.eq(self.number * self.scale),
                     half.eq(self.bias + Const(1 << (BIAS_FRACTION - 1)))]
        total = aligned(product, delayed(m, self.shift, 1, name="shift_after")) + half
        shifted = Signal(signed(len(total) - BIAS_FRACTION))
        m.d.comb += shifted.eq(total >> BIAS_FRACTION)
        largest = Const((1 << (CLIPPED_BITS - 1)) - 1, CLIPPED_BITS - 1)
        result = Signal(signed(CLIPPED_BITS), reset_less=True)
        m.d.sync += result.eq(saturated(shifted, largest))
        m.d.comb += self.result.eq(result)
        return m


class Bend(wiring.Component):
    """``numeric.bend``, clipped to ``CLIPPED_BITS``.

    Members
    -------
    number, knee, scale_above, bias_above, scale_below, bias_below : ``In``, cycle 0
    shift : ``In``, cycle 1
        Index into ``RESCALE_SHIFTS``.
    result : ``Out``, cycle ``BEND_LATENCY``
    """

    def __init__(self):
        super().__init__({
            "number": In(signed(16)),
            "knee": In(signed(16)),
            "scale_above": In(signed(SCALE_BITS)),
            "bias_above": In(signed(BIAS_BITS)),
            "scale_below": In(signed(SCALE_BITS)),
            "bias_below": In(signed(BIAS_BITS)),
            "shift": In(range(len(RESCALE_SHIFTS))),
            "result": Out(signed(CLIPPED_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        rescale = place(m, platform, "rescale", Rescale(16))
        scale = Signal(signed(SCALE_BITS), reset_less=True)
        bias = Signal(signed(BIAS_BITS), reset_less=True)
        above = self.number >= self.knee
        m.d.sync += [
            scale.eq(Mux(above, self.scale_above, self.scale_below)),
            bias.eq(Mux(above, self.bias_above, self.bias_below)),
        ]
        m.d.comb += [
            rescale.number.eq(delayed(m, self.number, 1, name="number_after")),
            rescale.scale.eq(scale),
            rescale.bias.eq(bias),
            rescale.shift.eq(self.shift),
            self.result.eq(rescale.result),
        ]
        return m
