"""Score buffer: counts of queries against keys less their bias, and the minimum of each row."""

from amaranth.hdl import Array, C, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.compiler.ir.numeric import MASKING_BIAS, SCORE_BIAS_BITS, SCORE_FRACTION
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import (
    STAGES,
    Mode,
    bias_layout,
    counts_layout,
    delayed,
    pass_layout,
    score_layout,
    spread,
)
from bivit.hw.blocks.memory import Ram
from bivit.hw.emit import place
from bivit.hw.memories import address_bits, masked_score, score_shape

__all__ = ["RowMinimum", "ScoreBuffer", "minima_layout", "minimum_stages",
           "slot_start"]


def minima_layout(arch: Arch) -> data.ArrayLayout:
    """Minimum of each row of each slot: ``[slot][row]``."""
    return data.ArrayLayout(
        data.ArrayLayout(score_shape(arch), arch.rows), arch.score_slots)


def minimum_stages(arch: Arch) -> int:
    """Registers in the tree of a row minimum: one behind each level."""
    return max(1, ceil_log2(arch.cols))


def slot_start(arch: Arch, slot: Value) -> Value:
    """Address of the first tile of a slot, selected: a product would take a multiplier."""
    size = range(arch.score_slots * arch.score_tiles)
    return Array([C(first, size) for first in size[::arch.score_tiles]])[slot]


def _largest(arch):
    """The entry of a masked key, or without biases the greatest there is."""
    shape = score_shape(arch)
    return C(masked_score(arch) if arch.score_biases else (1 << shape.width) - 1, shape)


class RowMinimum(wiring.Component):
    """One row of scores, and its running minimum for each slot of the score buffer.

    Cycles are numbered from the one in which the counts are valid.

    Members
    -------
    counts, bias, use_bias : ``In``, cycle 0
        The row; the bias of its keys, and whether it counts.
    scores : ``Out``, cycle 1
        ``(count << 5) - bias``, or the greatest number where the bias masks the key; just the
        count on targets without biases.
    valid : ``In``, cycle 1
        Which columns count, the first ones; a row without any has the greatest number as its
        minimum.
    update, first : ``In``, cycle 1 + ``minimum_stages``
        The slot (one-hot) that takes the minimum of the row, and whether it starts with it.
    minima : ``Out``
        Of each slot, from the cycle after `update` on.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        scores = data.ArrayLayout(score_shape(arch), arch.cols)
        super().__init__({
            "counts": In(data.ArrayLayout(arch.count_bits, arch.cols)),
            "bias": In(data.ArrayLayout(signed(SCORE_BIAS_BITS), arch.cols)),
            "use_bias": In(1),
            "scores": Out(scores),
            "valid": In(arch.cols),
            "update": In(arch.score_slots),
            "first": In(1),
            "minima": Out(data.ArrayLayout(score_shape(arch), arch.score_slots)),
        })

    def elaborate(self, platform):
        m = Module()
        shape = score_shape(self.arch)
        scores = []
        for column, (count, bias) in enumerate(zip(self.counts, self.bias, strict=True)):
            score = Signal(shape, name=f"score_{column}", reset_less=True)
            m.d.sync += score.eq(self._biased(count, bias) if self.arch.score_biases else count)
            m.d.comb += self.scores[column].eq(score)
            scores.append(score)

        minimum = self._minimum(m, scores)
        for slot in range(self.arch.score_slots):
            running = Signal(shape, name=f"running_{slot}", reset_less=True)
            with m.If(self.update[slot] & (self.first | (minimum < running))):
                m.d.sync += running.eq(minimum)
            m.d.comb += self.minima[slot].eq(running)
        return m

    def _biased(self, count, bias):
        """The score of a count."""
        used = (bias.as_unsigned() & spread(self.use_bias, SCORE_BIAS_BITS)).as_signed()
        return Mux(used == MASKING_BIAS, _largest(self.arch),
                   (count << SCORE_FRACTION + 1) - used)

    def _minimum(self, m, scores):
        """The least valid score, a level of its tree a cycle."""
        terms, valid, stages = scores, self.valid, minimum_stages(self.arch)
        for stage in range(stages):
            # With a column, all those before it are valid.
            terms = [Mux(counts & (right < left), right, left) for left, right, counts in
                     zip(terms[::2], terms[1::2], valid[1::2], strict=False)] + (
                         terms[-1:] if len(terms) % 2 else [])
            if stage == stages - 1:
                terms = [Mux(valid[0], term, _largest(self.arch)) for term in terms]
            terms = [delayed(m, term, 1, name=f"stage_{stage}_{index}")
                     for index, term in enumerate(terms)]
            valid = delayed(m, valid[::2], 1, name=f"valid_{stage}")
        (minimum,) = terms
        return minimum


class ScoreBuffer(wiring.Component):
    """Memory of scores for the attention bits, with the row minima.

    Both are complete in the cycle after that of a write of the other lanes, or earlier.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    counts, bias : ``In``
        Counts and biases of the pass.
    addr, data : ``In``, ``Out``
        Read port: tile ``t`` of a slot is word ``slot * score_tiles + t``; data two cycles later.
    minima : ``Out``
        Minimum over the valid columns.
    """

    def __init__(self, arch: Arch):
        assert 1 + minimum_stages(arch) <= STAGES
        self.arch = arch
        self.depth = arch.score_slots * arch.score_tiles
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "bias": In(bias_layout(arch)),
            "addr": In(address_bits(self.depth)),
            "data": Out(score_layout(arch)),
            "minima": Out(minima_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        active = delayed(m, self.ahead_valid & (self.ahead.mode == Mode.SCORE), 2,
                         name="active", init=0)
        first = delayed(m, self.ahead.first_tile, 2, name="first")
        use_bias = delayed(m, self.ahead.use_bias, 1, name="use_bias")
        address = Signal(address_bits(self.depth))
        m.d.comb += address.eq(slot_start(arch, self.ahead.slot) + self.ahead.tile)
        slot = Signal(arch.score_slots)
        m.d.comb += [bit.eq(self.ahead.slot == index) for index, bit in enumerate(slot)]
        valid = Signal(arch.cols)
        m.d.comb += [bit.eq(column < self.ahead.valid_cols) for column, bit in enumerate(valid)]
        address, slot, valid = (delayed(m, value, 2, name=f"{name}_after") for name, value in (
            ("address", address), ("slot", slot), ("valid", valid)))

        width = score_layout(arch).size
        memory = place(m, platform, "memory", Ram(
            width=width, depth=self.depth, granularity=width))
        m.d.comb += [
            memory.we.eq(active),
            memory.write_addr.eq(address),
            memory.read_addr[0].eq(self.addr),
            self.data.as_value().eq(memory.read_data[0]),
        ]
        entries = data.View(score_layout(arch), memory.write_data)
        update = delayed(m, slot & active.replicate(arch.score_slots), minimum_stages(arch),
                         name="update", init=0)
        restart = delayed(m, first, minimum_stages(arch), name="restart")
        for row in range(arch.rows):
            lane = place(m, platform, f"row_{row}", RowMinimum(arch))
            m.d.comb += [lane.use_bias.eq(use_bias), lane.valid.eq(valid),
                         lane.update.eq(update), lane.first.eq(restart)]
            for column in range(arch.cols):
                index = row * arch.cols + column
                m.d.comb += [lane.counts[column].eq(self.counts[index]),
                             lane.bias[column].eq(self.bias[index]),
                             entries[index].eq(lane.scores[column])]
            m.d.comb += [self.minima[index][row].eq(lane.minima[index])
                         for index in range(arch.score_slots)]
        return m
