"""Arithmetic that blocks share: products, shifts of a rescale, limits, clipping and sums."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data

from bivit.compiler.ir.numeric import BIAS_FRACTION, CODE_BITS, RESCALE_SHIFTS
from bivit.hw.blocks.lanes import delayed, saturated

__all__ = ["FACTOR_BITS", "PRODUCT_CYCLES", "aligned", "clip", "limits", "limits_layout",
           "product", "times", "tree"]

FACTOR_BITS = 18
"""Bits of a signed factor that one multiplier takes."""

PRODUCT_CYCLES = 2
"""Cycles from factors to their :func:`product`."""


def product(m: Module, left: Value, right: Value, *, name: str) -> Value:
    """Product of signed factors, ``PRODUCT_CYCLES`` later.

    Parameters
    ----------
    m : Module
    left, right : Value
        At most ``2 * FACTOR_BITS - 1`` bits, of two multipliers if more than ``FACTOR_BITS``; and
        at most ``FACTOR_BITS``.
    name : str
        Of the product.
    """
    if len(left) <= FACTOR_BITS:
        return delayed(m, left * right, PRODUCT_CYCLES, name=name)
    low_bits = FACTOR_BITS - 1  # without a sign
    low, high = (
        delayed(m, factor.as_signed() * right, 1, name=f"{name}_{part}") for part, factor in
        (("low", Cat(left[:low_bits], C(0, 1))), ("high", left[low_bits:])))
    result = Signal(signed(len(left) + len(right)), name=name, reset_less=True)
    m.d.sync += result.eq(Cat(low[:low_bits], high + (low >> low_bits)).as_signed())
    return result


def aligned(number: Value, shift: Value) -> Value:
    """`number` with ``BIAS_FRACTION`` bits below the result of a rescale, as a bias has them.

    What is shifted out here cannot change a sum with a bias that is then shifted right: ``(n +
    (b << k)) >> (k + f)`` is ``((n >> k) + b) >> f``. So the bias needs no shift of its own.

    Parameters
    ----------
    number : Value
        Signed.
    shift : Value
        Index into ``RESCALE_SHIFTS``.
    """
    return Array([number >> (amount - BIAS_FRACTION) for amount in RESCALE_SHIFTS])[shift]


def limits_layout(shape: Shape) -> data.StructLayout:
    """The limits of results of that signed shape: whether they are codes, and the greatest one."""
    return data.StructLayout({"codes": 1, "largest": shape.width - 1})


def limits(layout: data.StructLayout, codes: Value, sat: Value) -> Value:
    """Limits of codes, or of signed numbers of `sat` bits."""
    return Cat(codes, *(Mux(codes, bit < CODE_BITS, bit + 1 < sat)
                        for bit in range(layout["largest"].width)))


def clip(value: Value, bounds: data.View) -> Value:
    """Signed `value`, or the limit that it passes."""
    codes, below = bounds.codes, value[-1]
    clipped = saturated(value, bounds.largest)
    return Mux(codes & below, C(0, len(clipped)), clipped).as_signed()


def times(value: Value, factor: int) -> Value:
    """Unsigned `value` times a constant above 0, of sums: a product would take a multiplier."""
    return tree([value << bit for bit in range(factor.bit_length()) if factor >> bit & 1])


def tree(terms: list[Value]) -> Value:
    """Sum of `terms` as a balanced tree."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[2 * len(pairs):]
    return terms[0]
