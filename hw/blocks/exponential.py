"""Exponentials of scores, their sum in a row, and the bits that are a large enough share of it."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from bivit.compiler.ir.numeric import (
    ATTENTION_FRACTION,
    EXPONENTIAL_SHIFT,
    EXPONENTIALS,
    MASKING_BIAS,
    SCORE_FRACTION,
)
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.emit import place
from bivit.hw.isa import FORMATS, Opcode
from bivit.hw.memories import masked_score, score_shape, score_shift

__all__ = ["AttentionRow", "EXPONENTIAL_BITS", "EXPONENTIAL_STAGES", "Exponential", "SHARE_STAGES",
           "THRESHOLD_BITS", "distance_bits", "sum_bits", "sum_stages"]

EXPONENTIAL_STAGES = 3
"""Cycles from a distance to its exponential."""
SHARE_STAGES = 1 + EXPONENTIAL_STAGES
"""Cycles from scores to the bits that they give."""
EXPONENTIAL_BITS = bits_for(EXPONENTIALS[0])
MULTIPLIER_BITS = FORMATS[Opcode.SOFTMAX]["multiplier"]
THRESHOLD_BITS = FORMATS[Opcode.SOFTMAX]["threshold"]

_FRACTION_BITS = ceil_log2(len(EXPONENTIALS))


def distance_bits(arch: Arch) -> int:
    """Bits of the distance of two scores of a row that are not masked."""
    largest_count = (1 << arch.count_bits) - 1
    return bits_for((largest_count << (SCORE_FRACTION + 1)) + 2 * (-MASKING_BIAS - 1))


def sum_bits(arch: Arch) -> int:
    """Bits of the sum of a row of the largest slot."""
    return bits_for(EXPONENTIALS[0] * arch.score_tiles * arch.keys_per_group)


def sum_stages(arch: Arch) -> int:
    """Registers in the adder tree of a score tile's row: two levels of it lie between registers."""
    return max(1, -(-ceil_log2(arch.keys_per_group) // 2))


class Exponential(wiring.Component):
    """``exponential`` of ``compiler/ir/numeric.py``, one a cycle.

    Members
    -------
    distance, multiplier : ``In``
    live : ``In(1)``
        The key takes part; else the result is zero.
    result : ``Out``
        ``EXPONENTIAL_STAGES`` cycles later.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "distance": In(distance_bits(arch)),
            "multiplier": In(MULTIPLIER_BITS),
            "live": In(1),
            "result": Out(EXPONENTIAL_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        product = Signal(len(self.distance) + len(self.multiplier), reset_less=True)
        mantissa, places = Signal(EXPONENTIAL_BITS, reset_less=True), Signal(4, reset_less=True)
        some = Signal(reset_less=True)
        halvings = product[EXPONENTIAL_SHIFT + _FRACTION_BITS:]
        table = Array(C(number, EXPONENTIAL_BITS) for number in EXPONENTIALS)
        m.d.sync += [
            product.eq(self.distance * self.multiplier),
            mantissa.eq(table[product[EXPONENTIAL_SHIFT:][:_FRACTION_BITS]]),
            places.eq(halvings),
            some.eq(delayed(m, self.live, 1, name="live") & ~halvings[len(places):].any()),
            self.result.eq(Mux(some, mantissa >> places, 0)),
        ]
        return m


class AttentionRow(wiring.Component):
    """One row of every row group: sums of exponentials, limits from them, bits.

    Row groups take turns in both passes, so sums and limits move on by one place in every cycle
    that uses them. The limit of a row is ``threshold * sum / 2**20``, rounded up, which its
    exponentials must reach. Cycles are numbered from the one in which the scores are valid.

    Members
    -------
    scores, minimum, valid : ``In``, cycle 0
        A row of a score tile, and which of its columns are keys.
    multiplier : ``In``, cycle 1
    add, restart : ``In``, cycle ``SHARE_STAGES + sum_stages``
        Add the row to its sum, or start the sum with it.
    multiply, first, last, digit : ``In``
        One step of ``threshold * sum`` in all row groups, with the next bit of the threshold,
        lowest first.
    compare, flip : ``In``, cycle ``SHARE_STAGES``
        The row is compared, and the next limit follows.
    bits : ``Out``, cycle ``SHARE_STAGES``
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        score = score_shape(arch)
        super().__init__({
            "scores": In(data.ArrayLayout(score, arch.keys_per_group)),
            "minimum": In(score),
            "valid": In(arch.keys_per_group),
            "multiplier": In(MULTIPLIER_BITS),
            "add": In(1), "restart": In(1),
            "multiply": In(1), "first": In(1), "last": In(1), "digit": In(1),
            "compare": In(1), "flip": In(1),
            "bits": Out(arch.keys_per_group),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        masked = masked_score(arch)
        live = Signal(arch.keys_per_group, reset_less=True)
        exponentials = []
        for column, score in enumerate(self.scores):
            lane = place(m, platform, f"exponential_{column}", Exponential(arch))
            distance = Signal.like(lane.distance, name=f"distance_{column}", reset_less=True)
            m.d.sync += [
                live[column].eq(self.valid[column] & (score != masked)),
                distance.eq((score - self.minimum) << score_shift(arch)),
            ]
            m.d.comb += [lane.distance.eq(distance), lane.multiplier.eq(self.multiplier),
                         lane.live.eq(live[column])]
            exponentials.append(lane.result)

        sums = [Signal(sum_bits(arch), name=f"sum_{group}", reset_less=True)
                for group in range(arch.drain_cycles)]
        tile_sum = self._sum(m, exponentials)
        with m.If(self.add):
            m.d.sync += _turn(sums, tile_sum + Mux(self.restart, 0, sums[0]))
        limits = [self._limit(m, total, group) for group, total in enumerate(sums)]
        with m.If(self.compare):
            m.d.sync += _turn(limits, limits[0])
        kept = delayed(m, live, EXPONENTIAL_STAGES, name="live")
        reached = Cat(value >= limits[0][:EXPONENTIAL_BITS] for value in exponentials)
        m.d.comb += self.bits.eq((reached ^ self.flip.replicate(len(reached))) & kept)
        return m

    def _sum(self, m, terms):
        """Sum of the columns after ``sum_stages`` cycles."""
        for stage in range(sum_stages(self.arch)):
            terms = _pairs(_pairs(terms))
            registers = [Signal(len(term), name=f"stage_{stage}_{index}", reset_less=True)
                         for index, term in enumerate(terms)]
            m.d.sync += [register.eq(term)
                         for register, term in zip(registers, terms, strict=True)]
            terms = registers
        (total,) = terms
        return total

    def _limit(self, m, total, group):
        """``threshold * total`` bit by bit; what is shifted out rounds up in the last step."""
        limit = Signal.like(total, name=f"limit_{group}", reset_less=True)
        rest = Signal(name=f"rest_{group}", reset_less=True)
        added, rounded = (Signal(len(total) + 2, name=f"{name}_{group}")
                          for name in ("added", "rounded"))
        m.d.comb += [
            added.eq(Mux(self.first, 0, limit) + Mux(self.digit, total, 0)),
            rounded.eq(added + rest),
        ]
        out_of_reach = (1 << EXPONENTIAL_BITS) - 1
        with m.If(self.multiply):
            with m.If(self.last):
                m.d.sync += limit.eq(Mux(rounded > out_of_reach, out_of_reach, rounded))
            with m.Else():
                m.d.sync += [limit.eq(added >> 1),
                             rest.eq(added[0] | (rest & ~self.first))]
        return limit


assert THRESHOLD_BITS == ATTENTION_FRACTION + 1, "the last bit of a threshold is that of one"


def _turn(places, value):
    """Move all on by one place, `value` into the last."""
    return [place_.eq(next_) for place_, next_ in zip(places, [*places[1:], value], strict=True)]


def _pairs(terms):
    """Sums of neighbours, one level of a tree."""
    sums = [left + right for left, right in zip(terms[::2], terms[1::2], strict=False)]
    return sums + (terms[-1:] if len(terms) % 2 else [])
