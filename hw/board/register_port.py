"""One register access at a time: the master of the machine's AXI4-Lite port."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.blocks.registers import ADDRESS_BITS, axi_lite_signature

__all__ = ["RegisterPort"]


class RegisterPort(wiring.Component):
    """Reads or writes a register.

    Members
    -------
    start : begin an access; taken while none is under way
    write, address, value : what to do; held until `done`
    done : a pulse at the end of an access
    result : what was read, from `done` on
    axil : ``Out(axi_lite_signature())``
    """

    def __init__(self):
        super().__init__({
            "start": In(1), "write": In(1), "address": In(ADDRESS_BITS), "value": In(32),
            "done": Out(1), "result": Out(32), "axil": Out(axi_lite_signature()),
        })

    def elaborate(self, platform):
        m = Module()
        axi, busy = self.axil, Signal()
        m.d.comb += [
            axi.awaddr.eq(self.address), axi.araddr.eq(self.address), axi.wdata.eq(self.value),
            axi.wstrb.eq(0b1111), axi.bready.eq(busy), axi.rready.eq(busy),
        ]
        for valid, ready in ((axi.awvalid, axi.awready), (axi.wvalid, axi.wready),
                             (axi.arvalid, axi.arready)):
            with m.If(valid & ready):
                m.d.sync += valid.eq(0)
        m.d.sync += self.done.eq(busy & (axi.bvalid | axi.rvalid))
        with m.If(busy & (axi.bvalid | axi.rvalid)):
            m.d.sync += [busy.eq(0), self.result.eq(axi.rdata)]
        with m.Elif(self.start & ~busy & ~self.done):
            m.d.sync += [busy.eq(1), axi.awvalid.eq(self.write), axi.wvalid.eq(self.write),
                         axi.arvalid.eq(~self.write)]
        return m
