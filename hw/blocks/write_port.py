"""The AXI4 write master: bursts of whole beats, several unanswered, in order."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import spread
from bivit.hw.blocks.read_port import ADDRESS_BITS, INCREMENTING, PAGE_BITS, burst_layout

__all__ = ["WritePort", "axi_write_signature"]


def axi_write_signature(arch: Arch) -> wiring.Signature:
    """The write channels of AXI4 with one ID, seen from the master."""
    return wiring.Signature({
        "awaddr": Out(ADDRESS_BITS), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2),
        "awvalid": Out(1), "awready": In(1),
        "wdata": Out(arch.port_bits), "wstrb": Out(arch.port_bits // 8), "wlast": Out(1),
        "wvalid": Out(1), "wready": In(1),
        "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    })


class WritePort(wiring.Component):
    """Begins bursts and hands beats on.

    A burst that begins in cycle c shows its address, and takes its first beat, from c + 1 on; the
    next can begin when the memory took the address and the port all beats, while fewer than
    ``port_reads`` wait for their answer. A beat taken in cycle c is shown from c + 1 on.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    clear : ``In(1)``
        Drop all that is in flight: bursts are ended with beats that write nothing, and their
        answers taken, before a new one begins.
    base : ``In(32)``
        Byte address of the image, of which the lowest 12 bits do not count.
    burst : ``In(stream.Signature(burst_layout(arch)))``
        Bursts that cross no multiple of ``port_burst`` beats.
    beat : ``In(stream.Signature(port_bits))``
    answered, wrong : ``Out``
        A burst is written, or the memory reports an error.
    alive : ``Out(1)``
        The memory takes an address or a beat, or answers.
    m_axi : ``Out(axi_write_signature(arch))``
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "clear": In(1),
            "base": In(ADDRESS_BITS),
            "burst": In(stream.Signature(burst_layout(arch))),
            "beat": In(stream.Signature(arch.port_bits)),
            "answered": Out(1), "wrong": Out(1),
            "alive": Out(1),
            "m_axi": Out(axi_write_signature(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, axi = self.arch, self.m_axi
        beat_bytes = ceil_log2(arch.port_bits // 8)
        unanswered, dropping = Signal(range(arch.port_reads + 1)), Signal()
        left = Signal(range(arch.port_burst + 1))  # beats of the burst that the port has not taken
        begin, push, answer, rest = Signal(), Signal(), Signal(), Signal.like(unanswered)
        offset = Cat(Const(0, beat_bytes), self.burst.p.first)
        page = Cat(Const(0, PAGE_BITS), self.base[PAGE_BITS:])
        room = ~axi.wvalid | axi.wready
        m.d.comb += [
            self.burst.ready.eq(~axi.awvalid & (left == 0) & (unanswered != arch.port_reads)
                                & ~dropping & ~self.clear),
            begin.eq(self.burst.valid & self.burst.ready),
            self.beat.ready.eq((left != 0) & room & ~dropping & ~self.clear),
            push.eq((self.beat.valid & self.beat.ready) | ((left != 0) & room & dropping)),
            axi.bready.eq(unanswered != 0),
            answer.eq(axi.bvalid & axi.bready),
            rest.eq(unanswered + begin - answer),
            self.answered.eq(answer & ~dropping), self.wrong.eq(axi.bresp[1]),
            axi.awsize.eq(beat_bytes), axi.awburst.eq(INCREMENTING),
            self.alive.eq((axi.awvalid & axi.awready) | (axi.wvalid & axi.wready) | answer),
        ]
        m.d.sync += [unanswered.eq(rest), dropping.eq((self.clear | dropping) & (rest != 0))]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(push):
            m.d.sync += [axi.wvalid.eq(1), axi.wdata.eq(self.beat.payload), axi.wlast.eq(left == 1),
                         axi.wstrb.eq(spread(~dropping, arch.port_bits // 8)), left.eq(left - 1)]
        with m.If(begin):
            m.d.sync += [axi.awvalid.eq(1), axi.awaddr.eq(page + offset),
                         axi.awlen.eq(self.burst.p.beats - 1), left.eq(self.burst.p.beats)]
        return m
