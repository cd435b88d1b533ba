"""Arithmetic that the parts of the vector unit share: limits, clipping, sums."""

from amaranth.hdl import C, Module, Mux, Signal, Value, signed

from bivit.compiler.ir.numeric import CODE_BITS

__all__ = ["LIMIT", "clip", "limits", "tree"]

LIMIT = signed(17)
"""Shape of the least and the greatest result."""


def limits(codes: Value, sat: Value) -> tuple[Value, Value]:
    """Least and greatest result: those of a code, or of a signed number of `sat` bits."""
    half = (C(1) << sat) >> 1
    return Mux(codes, 0, -half), Mux(codes, (1 << CODE_BITS) - 1, half - 1)


def clip(m: Module, value: Value, low: Value, high: Value) -> Value:
    """`value`, or the limit that it passes."""
    clipped = Signal(LIMIT)
    with m.If(value < low):
        m.d.comb += clipped.eq(low)
    with m.Elif(value > high):
        m.d.comb += clipped.eq(high)
    with m.Else():
        m.d.comb += clipped.eq(value)
    return clipped


def tree(terms: list[Value]) -> Value:
    """Sum of `terms` as a balanced tree."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs):]
    return terms[0]
