"""Compare lanes: counts against thresholds."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import counts_layout, threshold_layout
from bivit.hw.emit import place
from bivit.hw.memories import threshold_bits

__all__ = ["CompareColumn", "CompareLanes"]


class CompareColumn(wiring.Component):
    """The compare lanes of one column of the array.

    Members
    -------
    counts, thr, flip, ones : ``In``
        Counts of the column, its threshold, and what is added to the threshold.
    bits : ``Out``, in the next cycle
        One bit for each row.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "counts": In(data.ArrayLayout(arch.count_bits, arch.rows)),
            "thr": In(signed(threshold_bits(arch))),
            "flip": In(1),
            "ones": In(arch.count_bits),
            "bits": Out(arch.rows),
        })

    def elaborate(self, platform):
        m = Module()
        limit = Signal(signed(threshold_bits(self.arch) + 1))
        bits = Signal(self.arch.rows, reset_less=True)
        m.d.comb += [limit.eq(self.thr + self.ones), self.bits.eq(bits)]
        m.d.sync += [bit.eq((limit < count) ^ ~self.flip)
                     for bit, count in zip(bits, self.counts, strict=True)]
        return m


class CompareLanes(wiring.Component):
    """All compare lanes.

    Members
    -------
    counts, thr, ones : ``In``
        Counts and thresholds of a pass, and what is added to the thresholds.
    bits : ``Out``, in the next cycle
        Those of each column, one for each row.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "counts": In(counts_layout(arch)),
            "thr": In(threshold_layout(arch)),
            "ones": In(data.ArrayLayout(arch.count_bits, arch.cols)),
            "bits": Out(arch.rows * arch.cols),
        })

    def elaborate(self, platform):
        m = Module()
        columns = []
        for column in range(self.arch.cols):
            lane = place(m, platform, f"column_{column}", CompareColumn(self.arch))
            m.d.comb += [
                lane.thr.eq(self.thr[column].thr),
                lane.flip.eq(self.thr[column].flip),
                lane.ones.eq(self.ones[column]),
            ]
            m.d.comb += [lane.counts[row].eq(self.counts[row * self.arch.cols + column])
                         for row in range(self.arch.rows)]
            columns.append(lane.bits)
        m.d.comb += self.bits.eq(Cat(columns))
        return m
