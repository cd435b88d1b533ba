"""Score buffer: counts of queries against keys, and the minimum of each row."""

from amaranth.hdl import C, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import STAGES, Mode, counts_layout, delayed, pass_layout
from bivit.hw.blocks.memory import Ram
from bivit.hw.emit import place
from bivit.hw.memories import score_bits

__all__ = ["RowMinimum", "ScoreBuffer", "minima_layout", "minimum_stages"]


def minima_layout(arch: Arch) -> data.ArrayLayout:
    """Minimum of each row of each slot: ``[slot][row]``."""
    return data.ArrayLayout(
        data.ArrayLayout(signed(score_bits(arch)), arch.rows), arch.score_slots)


def minimum_stages(arch: Arch) -> int:
    """Registers in the tree of a row minimum: two levels of it lie between registers."""
    return max(1, -(-ceil_log2(arch.cols) // 2))


class RowMinimum(wiring.Component):
    """Running minimum of one row for each slot of the score buffer.

    Members
    -------
    counts, valid : ``In``
        The row, and which columns count; a row without any gives the largest number.
    update, first : ``In``
        ``minimum_stages`` cycles later: the slot (one-hot) that takes the minimum of the row, and
        whether it starts with it.
    minima : ``Out``
        Of each slot, from the cycle after `update` on.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "counts": In(data.ArrayLayout(arch.count_bits, arch.cols)),
            "valid": In(arch.cols),
            "update": In(arch.score_slots),
            "first": In(1),
            "minima": Out(data.ArrayLayout(arch.count_bits, arch.score_slots)),
        })

    def elaborate(self, platform):
        m = Module()
        width = self.arch.count_bits
        largest = C((1 << width) - 1, width)
        terms = [Mux(valid, count, largest)
                 for valid, count in zip(self.valid, self.counts, strict=True)]
        for stage in range(minimum_stages(self.arch)):
            terms = _halved(m, _halved(m, terms, f"stage_{stage}_pair"), f"stage_{stage}_four")
            registers = [Signal(width, name=f"stage_{stage}_{index}", reset_less=True)
                         for index in range(len(terms))]
            m.d.sync += [register.eq(term)
                         for register, term in zip(registers, terms, strict=True)]
            terms = registers
        (minimum,) = terms
        for slot in range(self.arch.score_slots):
            running = Signal(width, name=f"running_{slot}", reset_less=True)
            with m.If(self.update[slot] & (self.first | (minimum < running))):
                m.d.sync += running.eq(minimum)
            m.d.comb += self.minima[slot].eq(running)
        return m


class ScoreBuffer(wiring.Component):
    """Memory of counts for the softmax threshold, with the row minima.

    Both are complete in the cycle after that of a write of the other lanes.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    counts : ``In``
        Counts of the pass.
    addr, data : ``In``, ``Out``
        Read port: tile ``t`` of a slot is word ``slot * score_tiles + t``; data two cycles later.
    minima : ``Out``
        Minimum over the valid columns.
    """

    def __init__(self, arch: Arch):
        if minimum_stages(arch) > STAGES:
            raise ValueError(f"the minimum of {arch.cols} columns takes more than {STAGES} stages")
        self.arch = arch
        self.depth = arch.score_slots * arch.score_tiles
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "addr": In(range(self.depth)),
            "data": Out(counts_layout(arch)),
            "minima": Out(minima_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        active, first = Signal(), Signal(reset_less=True)
        slot = Signal(arch.score_slots, reset_less=True)
        valid = Signal(arch.cols, reset_less=True)
        address = Signal(range(self.depth), reset_less=True)
        m.d.sync += [
            active.eq(self.ahead_valid & (self.ahead.mode == Mode.SCORE)),
            first.eq(self.ahead.first_tile),
            address.eq(self.ahead.slot * arch.score_tiles + self.ahead.tile),
        ]
        m.d.sync += [bit.eq(self.ahead.slot == index) for index, bit in enumerate(slot)]
        m.d.sync += [bit.eq(column < self.ahead.valid_cols) for column, bit in enumerate(valid)]

        width = arch.rows * arch.cols * arch.count_bits
        memory = place(m, platform, "memory", Ram(width=width, depth=self.depth))
        m.d.comb += [
            memory.we.eq(active.replicate(width)),
            memory.write_addr.eq(address),
            memory.write_data.eq(self.counts.as_value()),
            memory.read_addr[0].eq(self.addr),
            self.data.as_value().eq(memory.read_data[0]),
        ]
        update = delayed(m, slot & active.replicate(arch.score_slots), minimum_stages(arch),
                         name="update", init=0)
        restart = delayed(m, first, minimum_stages(arch), name="restart")
        for row in range(arch.rows):
            lane = place(m, platform, f"row_{row}", RowMinimum(arch))
            m.d.comb += [lane.valid.eq(valid), lane.update.eq(update), lane.first.eq(restart)]
            m.d.comb += [lane.counts[column].eq(self.counts[row * arch.cols + column])
                         for column in range(arch.cols)]
            m.d.comb += [self.minima[index][row].eq(lane.minima[index])
                         for index in range(arch.score_slots)]
        return m


def _halved(m, terms, name):
    """Minima of neighbours, one level of a tree."""
    halves = []
    for index, (left, right) in enumerate(zip(terms[::2], terms[1::2], strict=False)):
        smaller = Signal.like(left, name=f"{name}_{index}")
        m.d.comb += smaller.eq(Mux(left < right, left, right))
        halves.append(smaller)
    return halves + (terms[-1:] if len(terms) % 2 else [])
