"""LayerNorm of one row: sums, variance and square root, then a comparison, a code or a number.

Stages count from the cycle that puts an address on the RESID port (stage 0); the numbers are there
in stage 2. Each product takes registered factors. The first pass: squares (3), sums of four of them
(4), of all (5; those of the numbers in 3 and 4), the partial products of ``N sum(x^2)`` (6; those
of ``sum(x)^2`` in 5, what they are more than ``eps`` in 6), square root (7 on). The second pass:
``N x`` (3), ``d = N x - sum`` (4), for bits ``sigma k`` beside it (4 and 5) and the comparison
(6); for codes and numbers ``d mantissa`` (5 and 6), ``n``, shifted (7) and rounded (8), ``n
scale`` (9 and 10), plus the bias (11) and the result (12).
"""

import dataclasses
import functools
import operator

from amaranth.hdl import C, Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from bivit.compiler.ir.numeric import (
    BIAS_FRACTION,
    CODE_BITS,
    NORM_FRACTION,
    THRESHOLD_FRACTION,
)
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.root import MANTISSA_BITS, RECIPROCAL_CYCLES, Reciprocal, SquareRoot
from bivit.hw.blocks.root import root_cycles as iterations_of_root
from bivit.hw.blocks.rounding import (
    FACTOR_BITS,
    PRODUCT_CYCLES,
    aligned,
    clip,
    limits_layout,
    product,
    tree,
)
from bivit.hw.emit import place
from bivit.hw.isa import FORMATS, Opcode
from bivit.hw.memories import BIAS_BITS, SCALE_BITS

__all__ = ["BITS_STAGE", "NORMALISED_STAGE", "NUMBER_STAGE", "NormColumn", "NormLane",
           "NormWidths", "PARAMETER", "ROOT_STAGE", "control_layout", "number_products",
           "result_shape", "row_products"]

PARAMETER = data.StructLayout({"scale": signed(SCALE_BITS), "bias": signed(BIAS_BITS)})
"""One column of a NORM word."""

ROOT_STAGE = 7
"""The stage of the first pass in which the square root starts."""
BITS_STAGE = 4 + PRODUCT_CYCLES
"""The stage of the second pass in which a bit is taken."""
NORMALISED_STAGE = 5 + PRODUCT_CYCLES + 1
"""The stage in which a normalised number is rounded."""
NUMBER_STAGE = NORMALISED_STAGE + 1 + PRODUCT_CYCLES + 1
"""The stage in which a code or a number is taken."""

_FIELDS = FORMATS[Opcode.NORM_CODES]
_NORMALISED_BITS = 16
_SHIFT = 16 - NORM_FRACTION - 1
"""Places by which a product with the mantissa is shifted besides the exponent, but for one."""
_LOW_BITS = FACTOR_BITS - 1  # of the pieces of an unsigned factor
FINE = 8
"""Shifts by less are made behind those by multiples of it."""


@dataclasses.dataclass(frozen=True)
class NormWidths:
    """Widths that follow from the architecture.

    Parameters
    ----------
    arch : Arch
    """

    arch: Arch

    @property
    def max_channels(self) -> int:
        """The longest row that the instruction can name and that RESID or VMEM can hold."""
        depth = max(self.arch.resid_depth, self.arch.vmem_depth)
        tiles = max(1, depth // self.arch.drain_cycles)
        return min(2 ** _FIELDS["channels"] - 1, tiles * self.arch.cols)

    @property
    def channels(self) -> int:
        """Bits of the number of channels."""
        return bits_for(self.max_channels)

    @property
    def total(self) -> int:
        """Bits of the signed sum of a row."""
        return self.arch.resid_bits + self.channels

    @property
    def squares(self) -> int:
        """Bits of the sum of squares."""
        return 2 * self.arch.resid_bits - 2 + self.channels

    @property
    def radicand(self) -> int:
        """Bits of ``N sum(x^2) - sum(x)^2 + eps``."""
        largest = self.max_channels << (self.arch.resid_bits - 1)
        return (largest * largest + 2 ** _FIELDS["eps"] - 1).bit_length()

    @property
    def sigma(self) -> int:
        """Bits of the square root."""
        return -(-self.radicand // 2)

    @property
    def centred(self) -> int:
        """Bits of the signed ``d = N x - sum(x)``."""
        return self.total + 1

    @property
    def numerator(self) -> int:
        """Bits of the first signed factor of the second multiplier: d, sigma or n."""
        return max(self.centred, self.sigma + 1, _NORMALISED_BITS)

    @property
    def root_cycles(self) -> int:
        """Iterations of the square root."""
        return iterations_of_root(self.radicand)

    @property
    def wait_for_bits(self) -> int:
        """Cycles between the last read of the first pass and the first of the second."""
        return self.root_cycles + ROOT_STAGE - 3

    @property
    def wait_for_codes(self) -> int:
        """The same for codes and numbers, which take the reciprocal, one stage later, too."""
        return self.wait_for_bits + RECIPROCAL_CYCLES - 1


def result_shape(arch: Arch) -> Shape:
    """Shape of a result of any kind."""
    return signed(max(arch.resid_bits, CODE_BITS + 1))


def control_layout(arch: Arch) -> data.StructLayout:
    """What every lane and column is told in a cycle."""
    channels = NormWidths(arch).channels
    return data.StructLayout({
        "centre": 1,       # stage 2: multiply by N instead of by itself
        "accumulate": 2,   # stages 4 and 5 of the first pass: numbers, squares
        "restart": 2,      # a stage before that, of its first word
        "finish": 1,       # `ROOT_STAGE` of its last word
        # Of the next cycle:
        "take": 1,         # the second pass: take the parameters, in stage 2 for bits
        "second": 1,       # `NORMALISED_STAGE`: the normalised number, and the scale, are next
        "load": 1,         # `NUMBER_STAGE` of the second pass: take the code or number
        "channels": channels,          # of the first pass
        "eps": _FIELDS["eps"],
        "norm_channels": channels,     # of the second pass
        "normalise": 1,                # the second pass makes codes or numbers, not bits
        "shift": _FIELDS["shift"],
        "limits": limits_layout(result_shape(arch)),  # of the codes or numbers
    })


def shift_layout(arch: Arch) -> data.StructLayout:
    """The shift by the exponent of a row: by multiples of ``FINE`` and by what is left, one-hot;
    which bits of a product are the sign of a number that is in range, whatever the shift."""
    bits = NormWidths(arch).numerator + MANTISSA_BITS + 1
    return data.StructLayout({
        "coarse": NormWidths(arch).sigma // FINE + 1, "fine": FINE,
        "beyond": bits - 1 - (_SHIFT + _NORMALISED_BITS)})


def _pieces(width: int) -> list[int]:
    """Bits of the factors of one multiplier each that an unsigned number is cut into."""
    return [min(_LOW_BITS, width - first) for first in range(0, width, _LOW_BITS)]


def row_products(arch: Arch) -> tuple[tuple[int, int, bool], ...]:
    """Bits of the operands of the products of :class:`NormLane`, and whether they are signed."""
    widths = NormWidths(arch)
    low = min(_LOW_BITS, widths.total - 1)
    high = widths.total - low
    return (*((bits, widths.channels, False) for bits in _pieces(widths.squares)),
            (low, low, False), (low + 1, high, True), (high, high, True))


def number_products(arch: Arch) -> tuple[tuple[int, int, bool], ...]:
    """The same of :class:`NormColumn`."""
    widths = NormWidths(arch)
    left, right = widths.numerator, MANTISSA_BITS + 1
    seconds = [(left, right, True)] if left <= FACTOR_BITS else [
        (FACTOR_BITS, right, True), (left - _LOW_BITS, right, True)]
    return ((arch.resid_bits, max(arch.resid_bits, widths.channels + 1), True), *seconds)


class NormColumn(wiring.Component):
    """Two multipliers for one number of one row.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    control : what happens in this cycle
    number, valid, parameter : stage 2; an invalid number counts as zero and gives zero bits
    total, sigma, mantissa, shift : of the row
    summand, square : stages 3 and 4 of the first pass
    result : a bit (the cycle after `BITS_STAGE`), a number, or a code that is shifted right in
        every cycle after the first
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        widths = NormWidths(arch)
        super().__init__({
            "control": In(control_layout(arch)),
            "number": In(signed(arch.resid_bits)),
            "valid": In(1),
            "parameter": In(PARAMETER),
            "total": In(signed(widths.total)),
            "sigma": In(widths.sigma),
            "mantissa": In(MANTISSA_BITS),
            "shift": In(shift_layout(arch)),
            "summand": Out(signed(arch.resid_bits)),
            "square": Out(2 * arch.resid_bits - 1),
            "result": Out(result_shape(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, control = self.arch, self.control
        # Registers of the column: what they say goes far.
        take, second_factors, load, normalise = (
            delayed(m, control[name], 1, name=f"own_{name}")
            for name in ("take", "second", "load", "normalise"))
        # Stage 3: x * x or x * N.
        number_bits, factor_bits, _ = number_products(arch)[0]
        masked = Signal(signed(number_bits), reset_less=True)
        factor = Signal(signed(factor_bits), reset_less=True)
        multiple = Signal(signed(number_bits + factor_bits), reset_less=True)
        m.d.sync += [
            masked.eq(Mux(self.valid, self.number, 0)),
            factor.eq(Mux(control.centre, control.norm_channels, self.number)),
            multiple.eq(masked * factor),
        ]
        m.d.comb += [self.summand.eq(masked), self.square.eq(multiple)]
        scale, bias = self._parameters(m, take)
        # The second multiplier: sigma * k, or d * mantissa (stage 5) and then n * scale.
        left = Signal(signed(NormWidths(arch).numerator), reset_less=True)
        right = Signal(signed(MANTISSA_BITS + 1), reset_less=True)
        second = product(m, left, right, name="second_product")
        centred = Signal(signed(NormWidths(arch).centred))
        m.d.comb += centred.eq(multiple - self.total)
        normalised = self._normalise(m, second)
        m.d.sync += [
            left.eq(Mux(second_factors, normalised,
                        Mux(normalise, centred, self.sigma).as_signed())),
            right.eq(Mux(normalise & ~second_factors, self.mantissa, scale)),
        ]
        # Results.
        # Kind 0: at least, kind 1: at most, which is not greater than; 2 and 3: always 0 and 1.
        kind = delayed(m, Cat(bias[:2], ~bias[0]), BITS_STAGE - 3, name="kind")
        scaled = delayed(m, centred, BITS_STAGE - 4, name="centred") << THRESHOLD_FRACTION
        reached = Cat(kind[2], scaled).as_signed() >= Cat(1, second).as_signed()
        bit = delayed(m, Mux(kind[1], kind[0], reached ^ kind[0]), 1, name="bit")
        number = Signal.like(self.result, reset_less=True)
        m.d.sync += number.eq(Mux(load, self._rescale(m, second, bias), number >> 1))
        # Only the lowest bit counts of what is a bit.
        m.d.comb += self.result.eq(
            Cat(Mux(normalise, number[0], bit), number[1:]).as_signed())
        return m

    def _parameters(self, m: Module, take: Value) -> tuple[Value, Value]:
        """Scale, and bias with a half."""
        scale = Signal(signed(SCALE_BITS), reset_less=True)
        bias = Signal(signed(BIAS_BITS + 1), reset_less=True)
        half = C(1 << (BIAS_FRACTION - 1))
        with m.If(take):
            with m.If(self.valid):
                m.d.sync += [scale.eq(self.parameter.scale), bias.eq(self.parameter.bias + half)]
            with m.Else():  # always 0: kind 2; and as the bias of a code 2 / 256, rounded to 0
                m.d.sync += [scale.eq(0), bias.eq(C(2) + half)]
        return scale, bias

    def _normalise(self, m: Module, number: Value) -> Value:
        """``saturate(round_shift(number, 6 + exponent), 16)``, a cycle later."""
        # Shift by all but one place, then add the half and shift by the last one. Whether a number
        # of one bit more is left is seen before the shift.
        width = _NORMALISED_BITS + 1
        shift = delayed(m, self.shift, 1, name="own_shift")
        beyond = ((number[_SHIFT + width - 1:-1] ^ number[-1].replicate(len(shift.beyond)))
                  & shift.beyond).any()
        coarse = _chosen(number[_SHIFT:].as_signed(), shift.coarse, FINE, width + FINE - 1)
        shifted = delayed(m, _chosen(coarse, shift.fine, 1, width), 1, name="shifted")
        outside = delayed(m, beyond, 1, name="outside")
        sign = delayed(m, number[-1], 1, name="sign")
        rounded = Signal(_NORMALISED_BITS)
        m.d.comb += rounded.eq(shifted[1:] + shifted[0])  # may wrap from the greatest number on
        above = rounded[-1] & ~sign
        return Mux(outside, Cat((~sign).replicate(_NORMALISED_BITS - 1), sign), Cat(
            rounded[:-1] | above.replicate(_NORMALISED_BITS - 1), rounded[-1] & sign)).as_signed()

    def _rescale(self, m: Module, scaled: Value, bias: Value) -> Value:
        """``rescale(n, scale, bias, shift)`` of ``scaled = n * scale``, within its limits, a cycle
        later."""
        shift, bounds = (Signal.like(self.control[name], name=f"own_{name}")
                         for name in ("shift", "limits"))  # of the column: they go far
        m.d.sync += [shift.eq(self.control.shift), bounds.eq(self.control.limits)]
        total = aligned(scaled[:_NORMALISED_BITS + SCALE_BITS].as_signed(), shift) + bias
        return clip(delayed(m, total[BIAS_FRACTION:], 1, name="rescaled").as_signed(), bounds)


def _chosen(number: Value, chosen: Value, step: int, width: int) -> Value:
    """`number` shifted right by `step` times the place that is `chosen`, one-hot: `width` bits."""
    terms = []
    number = Cat(number, number[-1].replicate(max(0, width - len(number)))).as_signed()
    for index, bit in enumerate(chosen):
        terms.append((number >> index * step)[:width] & bit.replicate(width))
    return functools.reduce(operator.or_, terms).as_signed()


class NormLane(wiring.Component):
    """LayerNorm of one row, `cols` numbers a cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    control : what happens in this cycle
    numbers, valid, parameters : stage 2
    results : of a column tile, see :class:`NormColumn`
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "control": In(control_layout(arch)),
            "numbers": In(data.ArrayLayout(signed(arch.resid_bits), arch.cols)),
            "valid": In(arch.cols),
            "parameters": In(data.ArrayLayout(PARAMETER, arch.cols)),
            "results": Out(data.ArrayLayout(result_shape(arch), arch.cols)),
        })

    def elaborate(self, platform):
        m = Module()
        widths, control = NormWidths(self.arch), self.control
        columns = [place(m, platform, f"column_{index}", NormColumn(self.arch))
                   for index in range(self.arch.cols)]
        root = place(m, platform, "square_root", SquareRoot(width=widths.radicand))
        reciprocal = place(m, platform, "reciprocal", Reciprocal(width=widths.sigma))
        # The sums of the first pass; that of the numbers stays until the second pass has used it.
        total = Signal(signed(widths.total), reset_less=True)
        squares = Signal(unsigned(widths.squares), reset_less=True)
        for index, (register, terms) in enumerate((
                (total, [column.summand for column in columns]),
                (squares, [column.square for column in columns]))):
            fours = [delayed(m, tree(terms[first:first + 4]), 1, name=f"four_{index}_{first}")
                     for first in range(0, len(terms), 4)]
            with m.If(control.restart[index]):
                m.d.sync += register.eq(0)
            with m.Elif(control.accumulate[index]):
                m.d.sync += register.eq(register + tree(fours))
        rest = delayed(m, (self._square(m, total) - control.eps)[:widths.radicand], 1, name="rest")
        m.d.comb += [root.start.eq(control.finish),
                     root.radicand.eq(self._multiple(m, squares) - rest)]
        root_ready = Signal(widths.root_cycles)
        m.d.sync += [root_ready.eq(Cat(root.start, root_ready)),
                     reciprocal.start.eq(root_ready[-1])]
        m.d.comb += [reciprocal.clear.eq(root.start), reciprocal.digits.eq(root.root)]
        shift = Signal(shift_layout(self.arch))  # from the cycle after the exponent on
        m.d.sync += [
            shift.coarse.eq(1 << reciprocal.exponent // FINE),
            shift.fine.eq(1 << reciprocal.exponent % FINE),
            *(bit.eq(reciprocal.exponent <= index) for index, bit in enumerate(shift.beyond)),
        ]
        for index, column in enumerate(columns):
            m.d.comb += [
                column.control.eq(control),
                column.number.eq(self.numbers[index]),
                column.valid.eq(self.valid[index]),
                column.parameter.eq(self.parameters[index]),
                column.total.eq(total),
                column.sigma.eq(root.root),
                column.mantissa.eq(reciprocal.mantissa),
                column.shift.eq(shift),
                self.results[index].eq(column.result),
            ]
        return m

    def _multiple(self, m: Module, squares: Value) -> Value:
        """``N`` times the sum of squares, a cycle later: of pieces, every other side by side."""
        pieces, place = [], 0
        for index, bits in enumerate(_pieces(len(squares))):
            pieces.append(delayed(m, squares[place:place + bits] * self.control.channels, 1,
                                  name=f"piece_{index}"))
            place += bits
        width = 2 * _LOW_BITS
        even, odd = (Cat(Cat(piece, C(0, width))[:width] for piece in pieces[first::2])
                     for first in (0, 1))
        return even + (odd << _LOW_BITS)

    def _square(self, m: Module, total: Value) -> Value:
        """The square of the sum, a cycle later."""
        low_bits = min(_LOW_BITS, len(total) - 1)
        low, high = total[:low_bits], total[low_bits:].as_signed()
        squares = Cat(*(delayed(m, (part * part)[:2 * low_bits], 1, name=f"square_{index}")
                        for index, part in enumerate((low, high))), C(0, 1))
        both = delayed(m, Cat(low, C(0, 1)).as_signed() * high, 1, name="both")
        return squares.as_signed() + (both << low_bits + 1)
