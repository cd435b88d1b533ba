"""Rescaling and bending of a number: multiply, add, shift, clip."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import BIAS_FRACTION, RESCALE_SHIFTS
from bivit.hw.blocks.lanes import delayed, saturated
from bivit.hw.blocks.rounding import FACTOR_BITS, PRODUCT_CYCLES, aligned, product
from bivit.hw.emit import place
from bivit.hw.memories import BIAS_BITS, CLIPPED_BITS, SCALE_BITS

__all__ = ["BEND_LATENCY", "RESCALE_LATENCY", "Bend", "Rescale"]

RESCALE_LATENCY = PRODUCT_CYCLES + 2
"""Cycles from the operands of a :class:`Rescale` to its result."""

BEND_LATENCY = 2 + RESCALE_LATENCY
"""Cycles from the operands of a :class:`Bend` to its result."""


class Rescale(wiring.Component):
    """``numeric.rescale``, clipped to ``CLIPPED_BITS``.

    Parameters
    ----------
    width : int
        Bits of the signed number.

    Members
    -------
    number, scale : ``In``, cycle 0
    bias, shift : ``In``, cycle 1
        `shift` is an index into ``RESCALE_SHIFTS``.
    result : ``Out``, cycle ``RESCALE_LATENCY``
    """

    def __init__(self, width: int):
        if width >= 2 * FACTOR_BITS:
            raise ValueError(f"width must be at most {2 * FACTOR_BITS - 1}, not {width}")
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
        half = Signal(signed(BIAS_BITS + 1), reset_less=True)
        m.d.sync += half.eq(self.bias + Const(1 << (BIAS_FRACTION - 1)))
        exact = product(m, self.number, self.scale, name="product")
        total = aligned(exact, delayed(m, self.shift, 1, name="shift_after")) + half
        shifted = Signal(signed(len(total) - BIAS_FRACTION), reset_less=True)
        m.d.sync += shifted.eq(total >> BIAS_FRACTION)
        largest = Const((1 << (CLIPPED_BITS - 1)) - 1, CLIPPED_BITS - 1)
        result = Signal(signed(CLIPPED_BITS), reset_less=True)
        m.d.sync += result.eq(saturated(shifted, largest))
        m.d.comb += self.result.eq(result)
        return m


class Bend(wiring.Component):
    """``numeric.bend`` of a number saturated to 16 bits, clipped to ``CLIPPED_BITS``.

    Members
    -------
    number, knee : ``In``, cycle 0
    scale_above, bias_above, scale_below, bias_below : ``In``, cycle 1
    shift : ``In``, cycle 3
        Index into ``RESCALE_SHIFTS``.
    result : ``Out``, cycle ``BEND_LATENCY``
    """

    def __init__(self):
        super().__init__({
            "number": In(signed(CLIPPED_BITS + 1)),
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
        number = saturated(self.number, Const(0x7FFF, 15))
        # Beside the saturation, which matters for the least knee alone.
        above = delayed(m, (self.number >= self.knee) | (self.knee == -0x8000), 1, name="above")
        scale, bias = (Mux(above, getattr(self, f"{name}_above"), getattr(self, f"{name}_below"))
                       for name in ("scale", "bias"))
        m.d.comb += [
            rescale.number.eq(delayed(m, number, 2, name="number_after")),
            rescale.scale.eq(delayed(m, scale, 1, name="scale_after")),
            rescale.bias.eq(delayed(m, bias, 2, name="bias_after")),
            rescale.shift.eq(self.shift),
            self.result.eq(rescale.result),
        ]
        return m
