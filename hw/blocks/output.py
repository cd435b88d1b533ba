"""Numbers of one row of RESID or VMEM to the output stream."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.walk import split_row
from bivit.hw.encoding import layout_of
from bivit.hw.isa import NumberSource, Opcode
from bivit.hw.memories import BEAT_BITS, MEM_LATENCY, memories

__all__ = ["BEAT", "DONE_DELAY", "OutputStreamer", "output_timing"]

BEAT = data.StructLayout({"data": BEAT_BITS, "last": 1})
"""Payload of either stream of the machine."""
DONE_DELAY = 2
"""Cycles from the last beat to `done`: it may not overtake the instruction before it."""

_LOAD_CYCLES = MEM_LATENCY + 1


def output_timing(arch: Arch, *, count: int) -> tuple[int, int]:
    """Occupancy and completion of OUTPUT (see ``docs/architecture.md``, section 1)."""
    tiles, rest = divmod(count - 1, arch.cols)
    last_beat = 1 + _LOAD_CYCLES + tiles * max(arch.cols, _LOAD_CYCLES) + rest
    return last_beat + 1, last_beat + DONE_DELAY


class OutputStreamer(wiring.Component):
    """Runs OUTPUT: one number a beat, sign-extended, the address of the next word ahead.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction
    last : nothing is left to hand over
    done : a pulse when everything is handed over
    address : of the word that is read
    resid_data, vmem_data : two cycles later
    m_axis : the output stream
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "start": In(1),
            "fields": In(layout_of(Opcode.OUTPUT)),
            "last": Out(1),
            "done": Out(1),
            "address": Out(16),
            "resid_data": In(sizes["resid"].width),
            "vmem_data": In(sizes["vmem"].width),
            "m_axis": Out(stream.Signature(BEAT)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, width = self.arch, self.arch.resid_bits
        lane = Signal(6)
        from_vmem = Signal()
        left = Signal(len(self.fields.count))      # numbers not yet handed over
        none, last = Signal(init=1), Signal()      # there are none, there is one
        in_tile = Signal(range(arch.cols + 1))     # of them in `numbers`
        valid, alone = Signal(), Signal()          # there are some, there is one
        numbers = Signal(arch.cols * width)        # the present one lowest
        ages = Signal(MEM_LATENCY)                 # the last one: the word of the address is there
        finished = Signal(DONE_DELAY)
        word = Mux(from_vmem, self.vmem_data, self.resid_data)
        lanes = [word.word_select(index, arch.cols * width)
                 for index in range(arch.post_rows)]
        transfer = self.m_axis.valid & self.m_axis.ready
        m.d.comb += [
            self.last.eq(none),
            self.m_axis.valid.eq(valid),
            self.m_axis.p.data.eq(numbers[:width].as_signed()),
            self.m_axis.p.last.eq(last),
            self.done.eq(finished[-1]),
        ]
        m.d.sync += finished.eq((finished << 1) | (transfer & last))
        m.d.sync += ages.eq(Cat(C(1, 1), ages))
        with m.If(transfer):
            m.d.sync += [numbers.eq(numbers >> width), in_tile.eq(in_tile - 1), left.eq(left - 1),
                         none.eq(last), last.eq(left == 2),
                         valid.eq(~alone & ~last), alone.eq(in_tile == 2)]
        # Nothing is in `numbers`, or the last of them but not of all is handed over.
        with m.If(ages[-1] & Mux(valid, transfer & alone & ~last, ~none)):
            m.d.sync += [
                numbers.eq(Array(lanes)[lane] if arch.post_rows > 1 else lanes[0]),
                in_tile.eq(arch.cols), valid.eq(1), alone.eq(arch.cols == 1),
                self.address.eq(self.address + arch.drain_cycles),
                ages.eq(0),
            ]
        with m.If(none):  # whether it starts here or not, which is known late
            group, place_in_group = split_row(arch, self.fields.row)
            m.d.sync += [
                self.address.eq(self.fields.src_addr + group),
                lane.eq(place_in_group),
                from_vmem.eq(self.fields.src == NumberSource.VMEM),
                left.eq(self.fields.count), none.eq(~self.start), last.eq(self.fields.count == 1),
                ages.eq(0),
            ]
        return m
