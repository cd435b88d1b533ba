"""Packets of the input stream into the memories that are loaded at start."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE
from bivit.hw.blocks.output import BEAT
from bivit.hw.blocks.registers import LOAD_BEATS_BITS
from bivit.hw.memories import BEAT_BITS, beats_per_word, constant_order, loaded_memories

__all__ = ["ConstantLoader"]


class ConstantLoader(wiring.Component):
    """Assembles beats to words, lowest beat first, and writes them from word 0 on.

    A packet has as many beats as was said before, and tlast on the last one; else it is an error,
    after which nothing is taken until `clear`. The beats of a word that is not complete, words
    past the end of the memory and packets to memories that are not loaded are dropped.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    select_valid, select_index, select_beats : send the next packet, of so many beats, to this
        memory of ``constant_order``; not taken while `busy`
    clear : back to idle, no error
    error : 0, ``ENDED_EARLY`` or ``ENDED_LATE``
    busy : from the cycle after `select_valid` until the packet is in the memory
    s_axis : the input stream
    <name>_we, <name>_addr, <name>_data : write port of each memory that is loaded; `we` is a
        bit mask
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        ports = {}
        for name, size in loaded_memories(arch).items():
            ports |= {f"{name}_we": Out(size.width), f"{name}_addr": Out(size.address_bits),
                      f"{name}_data": Out(size.width)}
        super().__init__({
            "select_valid": In(1),
            "select_index": In(range(len(constant_order))),
            "select_beats": In(LOAD_BEATS_BITS),
            "clear": In(1),
            "error": Out(3),
            "busy": Out(1),
            "s_axis": In(stream.Signature(BEAT)),
            **ports,
        })

    def elaborate(self, platform):
        m = Module()
        sizes = loaded_memories(self.arch)
        most_beats = max(beats_per_word(size.width) for size in sizes.values())
        deepest = max(size.depth for size in sizes.values())
        index = Signal.like(self.select_index)
        active = Signal()
        write = Signal()
        beats = [Signal(BEAT_BITS, name=f"beat_{position}") for position in range(most_beats)]
        position = Signal(range(most_beats + 1))
        last_position = Signal(range(most_beats + 1))
        address = Signal(range(deepest + 1))
        write_address = Signal(range(deepest + 1))
        left = Signal.like(self.select_beats)
        word = Cat(beats)

        m.d.comb += [self.s_axis.ready.eq(active), self.busy.eq(active | write)]
        m.d.sync += write.eq(0)
        with m.Switch(index):
            for name, size in sizes.items():
                with m.Case(constant_order.index(name)):
                    m.d.comb += last_position.eq(beats_per_word(size.width) - 1)
        with m.If(self.s_axis.valid & self.s_axis.ready):
            for number, beat in enumerate(beats):
                with m.If(position == number):
                    m.d.sync += beat.eq(self.s_axis.p.data)
            m.d.sync += position.eq(position + 1)
            with m.If(position == last_position):
                m.d.sync += [position.eq(0), write.eq(1), write_address.eq(address)]
                with m.If(address != deepest):
                    m.d.sync += address.eq(address + 1)
            m.d.sync += left.eq(left - 1)
            with m.If(self.s_axis.p.last | (left == 1)):
                m.d.sync += active.eq(0)
            with m.If(self.s_axis.p.last & (left != 1)):
                m.d.sync += self.error.eq(ENDED_EARLY)
            with m.Elif(~self.s_axis.p.last & (left == 1)):
                m.d.sync += self.error.eq(ENDED_LATE)
        with m.If(self.select_valid & ~self.busy & (self.error == 0)):
            m.d.sync += [index.eq(self.select_index), left.eq(self.select_beats), active.eq(1),
                         position.eq(0), address.eq(0)]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), write.eq(0), self.error.eq(0)]

        for name, size in sizes.items():
            inside = Signal(name=f"write_{name}")
            m.d.comb += [
                inside.eq(write & (index == constant_order.index(name))
                          & (write_address < size.depth)),
                getattr(self, f"{name}_we").eq(inside.replicate(size.width)),
                getattr(self, f"{name}_addr").eq(write_address),
                getattr(self, f"{name}_data").eq(word),
            ]
        return m
