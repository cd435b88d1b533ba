"""Which row group of which pass the post-processing takes in a cycle."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import Mode, pass_layout

__all__ = ["Drain", "drain_layout"]


def drain_layout(arch: Arch) -> data.StructLayout:
    """A drain cycle."""
    return data.StructLayout({
        "record": pass_layout(arch),
        "first": 1,   # of a pass: the cycle of its counts
        "last": 1,    # of a pass
        "active": 1,  # of an arithmetic pass
        "group": range(max(2, arch.drain_cycles)),  # its row group
        "step": 1,    # the second cycle of a row group
    })


class Drain(wiring.Component):
    """Counts the drain cycles of each pass.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    drain : ``Out``
        The present drain cycle; the record stays until the next pass.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "drain": Out(drain_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        record = Signal(pass_layout(self.arch), reset_less=True)
        group = Signal.like(self.drain.group, reset_less=True)
        step = Signal(reset_less=True)
        first, active, last = Signal(), Signal(), Signal()
        end = group == self.arch.drain_cycles - 1
        m.d.sync += first.eq(self.ahead_valid)
        with m.If(self.ahead_valid):
            m.d.sync += [record.eq(self.ahead), active.eq(self.ahead.mode == Mode.ACC),
                         group.eq(0), step.eq(0)]
        with m.Elif(step != record.dual):
            m.d.sync += step.eq(1)
        with m.Else():
            m.d.sync += [group.eq(group + 1), step.eq(0)]
            with m.If(end):
                m.d.sync += active.eq(0)
        m.d.comb += [
            last.eq((first & ~active) | (active & end & (step == record.dual))),
            self.drain.record.eq(record),
            self.drain.first.eq(first),
            self.drain.last.eq(last),
            self.drain.active.eq(active),
            self.drain.group.eq(group),
            self.drain.step.eq(step),
        ]
        return m
