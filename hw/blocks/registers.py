"""The registers of the machine behind AXI4-Lite."""

import functools
import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.isa import Unit
from bivit.hw.memories import constant_order

__all__ = ["ADDRESS_BITS", "ADDRESSES", "ID", "LOAD_BEATS_BITS", "LOAD_INDEX_BITS", "Registers",
           "VERSION", "axi_lite_signature"]

ID = 0x62697674
"""The letters "bivt"."""
VERSION = 1
ADDRESS_BITS = 8
LOAD_INDEX_BITS = 4
"""Bits of the number of a memory in LOAD_SELECT; the beats of its packet are above them."""
LOAD_BEATS_BITS = 32 - LOAD_INDEX_BITS

ADDRESSES = {name: 4 * index for index, name in enumerate(
    ("ID", "VERSION", "CTRL", "STATUS", "ERROR", "CYCLES", "LOAD_SELECT", "MEMORY_BASE"))}
"""Byte addresses; counters of the units follow from 0x20, see ``docs/architecture.md``."""
ADDRESSES["FRAMES"] = 0x80
ADDRESSES |= {f"{unit.name}_{counter}": 0x20 + 12 * unit + 4 * index for unit in Unit
              for index, counter in enumerate(("RUN", "STALL", "IDLE"))}


def axi_lite_signature() -> wiring.Signature:
    """AXI4-Lite with 32 bits of data, seen from the master."""
    return wiring.Signature({
        "awaddr": Out(ADDRESS_BITS), "awvalid": Out(1), "awready": In(1),
        "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
        "bresp": In(2), "bvalid": In(1), "bready": Out(1),
        "araddr": Out(ADDRESS_BITS), "arvalid": Out(1), "arready": In(1),
        "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
    })


class Registers(wiring.Component):
    """AXI4-Lite slave. All answers are OKAY: unknown addresses read 0 and ignore writes.

    A write takes effect whatever its byte strobes, as long as one is set.

    Members
    -------
    s_axil : ``In(axi_lite_signature())``
    start, reset : ``Out(1)``
        Pulses from CTRL.
    frames : ``Out(16)``
        How many frames a start runs; 1 at first.
    load, load_select, load_beats : ``Out``
        Pulse, number and beats from LOAD_SELECT; a number that names no memory gives no pulse.
    memory_base : ``Out(32)``
        What was written to MEMORY_BASE.
    load_busy, busy, finished, error_code, error_tag, cycles, run, stall, idle : ``In``
        What the registers show.
    """

    def __init__(self):
        counter = In(32).array(len(Unit))
        super().__init__({
            "s_axil": In(axi_lite_signature()),
            "start": Out(1), "reset": Out(1), "frames": Out(16, init=1),
            "load": Out(1), "load_select": Out(range(len(constant_order))),
            "load_beats": Out(LOAD_BEATS_BITS), "load_busy": In(1), "memory_base": Out(32),
            "busy": In(1), "finished": In(1), "error_code": In(ErrorCode), "error_tag": In(16),
            "cycles": In(32), "run": counter, "stall": counter, "idle": counter,
        })

    def elaborate(self, platform):
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m):
        axi, write = self.s_axil, Signal()
        m.d.comb += [
            write.eq(axi.awvalid & axi.wvalid & (~axi.bvalid | axi.bready)),
            axi.awready.eq(write), axi.wready.eq(write),
        ]
        with m.If(axi.bready | ~axi.bvalid):
            m.d.sync += axi.bvalid.eq(write)
        m.d.sync += [self.start.eq(0), self.reset.eq(0), self.load.eq(0)]
        with m.If(write & axi.wstrb.any()):
            with m.If(self._selects(axi.awaddr, "CTRL")):
                m.d.sync += [self.start.eq(axi.wdata == 1), self.reset.eq(axi.wdata == 2)]
            with m.Elif(self._selects(axi.awaddr, "LOAD_SELECT")):
                number = axi.wdata[:LOAD_INDEX_BITS]
                m.d.sync += [self.load.eq(number < len(constant_order)),
                             self.load_select.eq(number),
                             self.load_beats.eq(axi.wdata[LOAD_INDEX_BITS:])]
            with m.Elif(self._selects(axi.awaddr, "FRAMES")):
                m.d.sync += self.frames.eq(axi.wdata)
            with m.Elif(self._selects(axi.awaddr, "MEMORY_BASE")):
                m.d.sync += self.memory_base.eq(axi.wdata)

    def _read(self, m):
        axi = self.s_axil
        zeros = Const(0, 31 - len(self.load_select))
        values = {
            "ID": Const(ID, 32), "VERSION": Const(VERSION, 32),
            "STATUS": Cat(self.busy, self.finished, self.error_code != ErrorCode.NONE),
            "ERROR": Cat(self.error_code, Const(0, 8), self.error_tag),
            "CYCLES": self.cycles, "FRAMES": self.frames,
            "LOAD_SELECT": Cat(self.load_select, zeros, self.load_busy),
            "MEMORY_BASE": self.memory_base,
        }
        for unit in Unit:
            values |= {f"{unit.name}_RUN": self.run[unit], f"{unit.name}_STALL": self.stall[unit],
                       f"{unit.name}_IDLE": self.idle[unit]}
        # Which register is asked for, then its value.
        asked, chosen, free = Signal(), Signal(len(values)), Signal()
        m.d.comb += [free.eq(axi.rready | ~axi.rvalid), axi.arready.eq(~asked | free)]
        with m.If(axi.arready):
            m.d.sync += [asked.eq(axi.arvalid),
                         chosen.eq(Cat(self._selects(axi.araddr, name) for name in values))]
        with m.If(free):
            m.d.sync += [axi.rvalid.eq(asked), axi.rdata.eq(functools.reduce(operator.or_, (
                Mux(bit, value, 0) for bit, value in zip(chosen, values.values(), strict=True))))]

    def _selects(self, address, name):
        return address[2:] == ADDRESSES[name] >> 2
