"""Serial arithmetic on a row's sigma: the square root and the reciprocal, two bits a cycle."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

__all__ = ["MANTISSA_BITS", "RECIPROCAL_CYCLES", "Reciprocal", "SquareRoot", "root_cycles"]

MANTISSA_BITS = 17
"""Bits of ``(2**32 - 1) // leading``."""
LEADING_BITS = 16
BITS_PER_CYCLE = 2
DIVISION_CYCLES = -(-MANTISSA_BITS // BITS_PER_CYCLE)
RECIPROCAL_CYCLES = 1 + DIVISION_CYCLES
"""Cycles from `Reciprocal.start` to the mantissa."""


def root_cycles(width: int) -> int:
    """Iterations of the square root of a number of `width` bits."""
    return -(-width // (2 * BITS_PER_CYCLE))


class SquareRoot(wiring.Component):
    """Floor of the square root.

    The radicand is taken in the cycle of `start`; `root` is there ``root_cycles(width) + 1`` cycles
    later and stays until the next `start`.

    Parameters
    ----------
    width : int
        Bits of the radicand.
    """

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({
            "start": In(1),
            "radicand": In(width),
            "root": Out(-(-width // 2)),
        })

    def elaborate(self, platform):
        m = Module()
        cycles = root_cycles(self.width)
        root_bits = cycles * BITS_PER_CYCLE
        pending = Signal(2 * root_bits)
        remainder = Signal(root_bits + 1)
        root = Signal(root_bits)
        left = Signal(range(cycles + 1))
        next_remainder, next_root, next_pending = remainder, root, pending
        for step in range(BITS_PER_CYCLE):
            next_remainder, next_root = self._step(
                m, step, next_pending[-2:], next_remainder, next_root)
            next_pending = next_pending << 2
            next_pending = next_pending[:2 * root_bits]
        with m.If(self.start):
            m.d.sync += [pending.eq(self.radicand), remainder.eq(0), root.eq(0), left.eq(cycles)]
        with m.Elif(left != 0):
            m.d.sync += [pending.eq(next_pending), remainder.eq(next_remainder),
                         root.eq(next_root), left.eq(left - 1)]
        m.d.comb += self.root.eq(root)
        return m

    def _step(self, m: Module, step: int, digits: Value, remainder: Value, root: Value):
        """Bring down two bits of the radicand, decide one bit of the root."""
        widened = Cat(digits, remainder)
        difference = Signal(len(widened) + 1, name=f"difference_{step}")
        m.d.comb += difference.eq(widened - Cat(C(1, 2), root))
        fits = ~difference[-1]
        left_over = Mux(fits, difference, widened)[:len(remainder)]
        return left_over, Cat(fits, root)[:len(root)]


class Reciprocal(wiring.Component):
    """Exponent and mantissa of ``1 / sigma`` as :func:`bivit.compiler.ir.numeric.reciprocal`.

    The bits of sigma come while the square root decides them, highest first, so that the first of
    them that is set needs no search. The results are there ``RECIPROCAL_CYCLES`` cycles after
    `start` and stay until the next one.

    Parameters
    ----------
    width : int
        Bits of sigma.

    Members
    -------
    clear : In(1)
        What follows are bits of the next sigma.
    digits : In(2)
        The next two bits, from the cycle after `clear` on; zeros before the first of them.
    start : In(1)
        The last two bits are in `digits`.
    exponent, mantissa : Out
        Of the sigma before.
    """

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({
            "clear": In(1),
            "digits": In(BITS_PER_CYCLE),
            "start": In(1),
            "exponent": Out(bits_for(width)),
            "mantissa": Out(MANTISSA_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        leading, length = self._normalised(m)
        divisor = Signal(LEADING_BITS)
        # All bits of the dividend 2**32 - 1 are ones: its leading 14 or 15 bits are below any
        # divisor, and each further one gives a bit of the quotient.
        first_remainder = 2 ** (32 - DIVISION_CYCLES * BITS_PER_CYCLE) - 1
        remainder = Signal(LEADING_BITS)
        left = Signal(range(DIVISION_CYCLES + 1))
        next_remainder, next_mantissa = remainder, self.mantissa
        for step in range(BITS_PER_CYCLE):
            widened = Cat(C(1, 1), next_remainder)
            difference = Signal(len(widened) + 1, name=f"difference_{step}")
            m.d.comb += difference.eq(widened - divisor)
            fits = ~difference[-1]
            next_remainder = Mux(fits, difference, widened)[:LEADING_BITS]
            next_mantissa = Cat(fits, next_mantissa)[:MANTISSA_BITS]
        with m.If(self.start):
            m.d.sync += [self.exponent.eq(length), divisor.eq(leading),
                         remainder.eq(first_remainder), self.mantissa.eq(0),
                         left.eq(DIVISION_CYCLES)]
        with m.Elif(left != 0):
            m.d.sync += [remainder.eq(next_remainder), self.mantissa.eq(next_mantissa),
                         left.eq(left - 1)]
        return m

    def _normalised(self, m: Module) -> tuple[Value, Value]:
        """The leading bits of sigma from the first that is set, and how many there are of all,
        with those in `digits`."""
        leading = Signal(LEADING_BITS)
        place = Signal(LEADING_BITS, init=1 << LEADING_BITS - 1)  # of the next bit, one-hot
        length = Signal(len(self.exponent))
        low, high = self.digits
        from_high = Signal()  # the first that is set is no later than the higher of the two
        next_leading, next_place, next_length = map(Signal.like, (leading, place, length))
        m.d.comb += [
            from_high.eq(~place[-1] | high),
            next_leading.eq(leading | Mux(high, place, 0)
                            | Mux(low, Mux(from_high, place >> 1, place), 0)),
            next_place.eq(Mux(from_high, place >> 2, Mux(low, place >> 1, place))),
            next_length.eq(Mux(from_high, length + 2, low)),
        ]
        m.d.sync += [leading.eq(next_leading), place.eq(next_place), length.eq(next_length)]
        with m.If(self.clear):
            m.d.sync += [leading.eq(0), place.eq(place.init), length.eq(0)]
        return next_leading, next_length
