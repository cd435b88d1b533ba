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
        # Each step brings down two bits of the radicand, for one bit of the root.
        next_remainder, digits = _two_steps(
            m, Cat(pending[-2:], remainder), pending[-4:-2], len(remainder),
            *(Cat(C(1, 2), *last, root) for last in ((), (C(0, 1),), (C(1, 1),))))
        with m.If(self.start):
            m.d.sync += [pending.eq(self.radicand), remainder.eq(0), root.eq(0), left.eq(cycles)]
        with m.Elif(left != 0):
            m.d.sync += [pending.eq(pending << 2 * BITS_PER_CYCLE), remainder.eq(next_remainder),
                         root.eq(Cat(digits, root)), left.eq(left - 1)]
        m.d.comb += self.root.eq(root)
        return m


def _two_steps(m: Module, number: Value, brought: Value, width: int, trial: Value,
               trial_without: Value, trial_with: Value) -> tuple[Value, Value]:
    """Two steps of a serial division, the second one for both outcomes of the first.

    Parameters
    ----------
    m : Module
    number : Value
        What the first step takes `trial` from, if it fits.
    brought : Value
        Digits brought down behind what is left.
    width : int
        Bits of a remainder.
    trial, trial_without, trial_with : Value
        Of the first step; of the second if that of the first did not fit, and if it did.

    Returns
    -------
    tuple of Value
        The remainder of `width` bits, and whether the second and the first trial fitted.
    """
    first = Signal(len(number) + 1)
    m.d.comb += first.eq(number - trial)
    left, fits = [], []
    for before, subtrahend, name in (
            (number, trial_without, "without"), (first, trial_with, "with")):
        widened = Cat(brought, before[:width])
        difference = Signal(len(widened) + 1, name=f"second_{name}")
        m.d.comb += difference.eq(widened - subtrahend)
        left.append(Mux(difference[-1], widened, difference)[:width])
        fits.append(~difference[-1])
    return Mux(first[-1], *left), Cat(Mux(first[-1], *fits), ~first[-1])


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
        next_remainder, digits = _two_steps(m, Cat(C(1, 1), remainder), C(1, 1), LEADING_BITS,
                                            divisor, divisor, divisor)
        with m.If(self.start):
            m.d.sync += [self.exponent.eq(length), divisor.eq(leading),
                         remainder.eq(first_remainder), self.mantissa.eq(0),
                         left.eq(DIVISION_CYCLES)]
        with m.Elif(left != 0):
            m.d.sync += [remainder.eq(next_remainder), self.mantissa.eq(Cat(digits, self.mantissa)),
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
