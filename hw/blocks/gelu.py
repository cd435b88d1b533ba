"""GELU of a number, straight between knots (:func:`bivit.compiler.ir.numeric.gelu`)."""

from amaranth.hdl import Array, C, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import GELU_FRACTION, GELU_KNOTS, GELU_STEP, round_shift
from bivit.hw.blocks.lanes import delayed

__all__ = ["GELU_CYCLES", "Gelu"]

GELU_CYCLES = 3
"""Cycles from a number to its GELU: knots, slope times rest, sum."""

_LIMIT = 4 << GELU_FRACTION
_SLOPES = [after - before for before, after in zip(GELU_KNOTS, GELU_KNOTS[1:], strict=False)]


class Gelu(wiring.Component):
    """GELU, or the number itself, after `GELU_CYCLES`.

    Parameters
    ----------
    width : int
        Bits of the number and of the result.

    Members
    -------
    number : one in every cycle
    bypass : results are the numbers; does not change while numbers are on their way
    result : `GELU_CYCLES` later
    """

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({"number": In(signed(width)), "bypass": In(1),
                          "result": Out(signed(width))})

    def elaborate(self, platform):
        m = Module()
        inside = Signal(len(C(2 * _LIMIT - 1)))
        knot = Signal(signed(len(C(_LIMIT)) + 1), reset_less=True)
        slope = Signal(signed(len(C(max(_SLOPES))) + 1), reset_less=True)
        rest = Signal(GELU_STEP, reset_less=True)
        product = Signal(signed(len(slope) + GELU_STEP), reset_less=True)
        m.d.comb += inside.eq(self.number + _LIMIT)
        m.d.sync += [
            knot.eq(Array(C(value, knot.shape()) for value in GELU_KNOTS)[inside[GELU_STEP:]]),
            slope.eq(Array(C(value, slope.shape()) for value in _SLOPES)[inside[GELU_STEP:]]),
            rest.eq(inside[:GELU_STEP]),
            product.eq(slope * rest),
        ]
        number = delayed(m, self.number, GELU_CYCLES - 1, name="number")
        curve = delayed(m, knot, 1, name="knot") + round_shift(product, GELU_STEP)
        m.d.sync += self.result.eq(
            Mux(self.bypass | (number >= _LIMIT), number, Mux(number < -_LIMIT, 0, curve)))
        return m
