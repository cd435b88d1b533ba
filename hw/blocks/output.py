"""Numbers of one row of RESID to the output stream."""

from amaranth.hdl import Array, C, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, Opcode
from bivit.hw.memories import BEAT_BITS, MEM_LATENCY, memories

__all__ = ["BEAT", "DONE_DELAY", "OutputStreamer", "output_timing"]

BEAT = data.StructLayout({"data": BEAT_BITS, "last": 1})
"""Payload of either stream of the machine."""
DONE_DELAY = 2
"""Cycles from the last beat to `done`: it may not overtake the instruction before it."""

_FIELDS = FORMATS[Opcode.OUTPUT]
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
    start, src_addr, row, count : take an instruction, only when not `busy`
    busy : from the cycle after `start` to the last beat
    done : a pulse when everything is handed over
    resid_addr, resid_data : read port of RESID
    m_axis : the output stream
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        resid = memories(arch)["resid"]
        super().__init__({
            "start": In(1),
            "src_addr": In(_FIELDS["src_addr"]),
            "row": In(_FIELDS["row"]),
            "count": In(_FIELDS["count"]),
            "busy": Out(1),
            "done": Out(1),
            "resid_addr": Out(resid.address_bits),
            "resid_data": In(resid.width),
            "m_axis": Out(stream.Signature(BEAT)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, width = self.arch, self.arch.resid_bits
        lane = Signal(range(max(2, arch.post_rows)))
        left = Signal(_FIELDS["count"])            # numbers not yet handed over
        in_tile = Signal(range(arch.cols + 1))     # of them in `numbers`
        numbers = Signal(arch.cols * width)        # the present one lowest
        age = Signal(range(MEM_LATENCY + 1))       # cycles since the address came
        finished = Signal(DONE_DELAY)
        lanes = [self.resid_data.word_select(index, arch.cols * width)
                 for index in range(arch.post_rows)]
        transfer = self.m_axis.valid & self.m_axis.ready
        last = left == 1
        m.d.comb += [
            self.busy.eq(left != 0),
            self.m_axis.valid.eq(in_tile != 0),
            self.m_axis.p.data.eq(numbers[:width].as_signed()),
            self.m_axis.p.last.eq(last),
            self.done.eq(finished[-1]),
        ]
        m.d.sync += finished.eq((finished << 1) | (transfer & last))
        with m.If(age != MEM_LATENCY):
            m.d.sync += age.eq(age + 1)
        with m.If(transfer):
            m.d.sync += [numbers.eq(numbers >> width), in_tile.eq(in_tile - 1), left.eq(left - 1)]
        empty = (in_tile == 0) | ((in_tile == 1) & transfer)
        more = Mux(transfer, ~last, left != 0)
        with m.If(empty & more & (age == MEM_LATENCY)):
            m.d.sync += [
                numbers.eq(Array(lanes)[lane] if arch.post_rows > 1 else lanes[0]),
                in_tile.eq(arch.cols),
                self.resid_addr.eq(self.resid_addr + arch.drain_cycles),
                age.eq(0),
            ]
        with m.If(transfer & last):
            m.d.sync += in_tile.eq(0)
        with m.If(self.start):
            group = Array([C(row // arch.post_rows, 6) for row in range(arch.rows)])
            place_in_group = Array([C(row % arch.post_rows, 6) for row in range(arch.rows)])
            m.d.sync += [
                self.resid_addr.eq(self.src_addr + group[self.row]),
                lane.eq(place_in_group[self.row]),
                left.eq(self.count),
                age.eq(0),
            ]
        return m
