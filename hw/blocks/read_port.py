"""The AXI4 read master: bursts of whole beats, several in flight, in order."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch

__all__ = ["ADDRESS_BITS", "BEAT_ADDRESS_BITS", "BURST_PAGE", "INCREMENTING", "PAGE_BITS",
           "ReadPort", "axi_read_signature", "burst_layout"]

ADDRESS_BITS = 32
"""Bits of a byte address in external memory."""
BEAT_ADDRESS_BITS = 24
"""Bits of a beat's number in the image."""
BURST_PAGE = 4096
"""Bytes: no burst crosses a multiple of it, and the image begins at one."""
PAGE_BITS = ceil_log2(BURST_PAGE)
INCREMENTING = 1
"""What AXI4 calls a burst of rising addresses."""


def axi_read_signature(arch: Arch) -> wiring.Signature:
    """The read channels of AXI4 with one ID, seen from the master."""
    return wiring.Signature({
        "araddr": Out(ADDRESS_BITS), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
        "arvalid": Out(1), "arready": In(1),
        "rdata": In(arch.port_bits), "rresp": In(2), "rlast": In(1),
        "rvalid": In(1), "rready": Out(1),
    })


def burst_layout(arch: Arch) -> data.StructLayout:
    """A burst: number of its first beat in the image, and its beats."""
    return data.StructLayout({"first": BEAT_ADDRESS_BITS, "beats": range(arch.port_burst + 1)})


class ReadPort(wiring.Component):
    """Asks for bursts and hands their beats on.

    A burst asked for in cycle c shows its address from c + 1 on; the next can be asked for in the
    cycle after the memory took it, while fewer than ``port_reads`` are in flight.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    clear : ``In(1)``
        Drop all that is in flight: its beats are still taken, and nothing new is asked for before.
    base : ``In(32)``
        Byte address of the image, of which the lowest 12 bits do not count.
    burst : ``In(stream.Signature(burst_layout(arch)))``
        Bursts that cross no multiple of ``port_burst`` beats.
    beat_valid, beat_data, beat_error : ``Out``
        A beat, which must be taken, and whether the memory reports an error with it or ends its
        burst too early or too late.
    alive : ``Out(1)``
        The memory takes an address or gives a beat, dropped ones included.
    m_axi : ``Out(axi_read_signature(arch))``
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "clear": In(1),
            "base": In(ADDRESS_BITS),
            "burst": In(stream.Signature(burst_layout(arch))),
            "beat_valid": Out(1), "beat_data": Out(arch.port_bits), "beat_error": Out(1),
            "alive": Out(1),
            "m_axi": Out(axi_read_signature(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        axi, reads = self.m_axi, self.arch.port_reads
        beat_bytes = ceil_log2(self.arch.port_bits // 8)
        in_flight, dropping = Signal(range(reads + 1)), Signal()
        ask, end, left = Signal(), Signal(), Signal(range(reads + 2))
        # What the bursts in flight want, the next to be given first: RLAST is in step with it.
        wanted = Array(Signal(range(self.arch.port_burst), name=f"wanted_{number}")
                       for number in range(reads))
        newest, oldest = Signal(range(reads)), Signal(range(reads))
        given = Signal(range(self.arch.port_burst))
        offset = Cat(Const(0, beat_bytes), self.burst.p.first)
        page = Cat(Const(0, PAGE_BITS), self.base[PAGE_BITS:])
        m.d.comb += [
            self.burst.ready.eq(~axi.arvalid & (in_flight != reads) & ~dropping & ~self.clear),
            ask.eq(self.burst.valid & self.burst.ready),
            end.eq(axi.rvalid & axi.rready & axi.rlast),
            left.eq(in_flight + ask - end),
            axi.rready.eq(in_flight != 0),
            axi.arsize.eq(beat_bytes), axi.arburst.eq(INCREMENTING),
            self.beat_valid.eq(axi.rvalid & axi.rready & ~dropping),
            self.beat_data.eq(axi.rdata),
            self.beat_error.eq(axi.rresp[1] | (axi.rlast != (given == wanted[oldest]))),
            self.alive.eq((axi.arvalid & axi.arready) | (axi.rvalid & axi.rready)),
        ]
        m.d.sync += [in_flight.eq(left), dropping.eq((self.clear | dropping) & (left != 0))]
        with m.If(axi.rvalid & axi.rready):
            m.d.sync += given.eq(given + 1)
        with m.If(end):
            m.d.sync += [given.eq(0), oldest.eq(_after(oldest, reads))]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(ask):
            m.d.sync += [axi.arvalid.eq(1), axi.araddr.eq(page + offset),
                         axi.arlen.eq(self.burst.p.beats - 1),
                         wanted[newest].eq(self.burst.p.beats - 1),
                         newest.eq(_after(newest, reads))]
        return m


def _after(number, count):
    """The next one of a ring."""
    return Mux(number == count - 1, 0, number + 1)
