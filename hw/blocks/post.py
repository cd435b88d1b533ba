"""Post-processing of the array's counts: compare lanes, score buffer and arithmetic lanes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.arithmetic import ArithmeticLanes
from bivit.hw.blocks.bit_writer import BitWriter
from bivit.hw.blocks.compare import CompareLanes
from bivit.hw.blocks.drain import Drain
from bivit.hw.blocks.lanes import (
    BIT_STAGES,
    PARAM_LEAD,
    STAGES,
    Mode,
    bend_layout,
    bias_layout,
    counts_layout,
    delayed,
    numbers_layout,
    pass_layout,
    scale_layout,
    score_layout,
    smem_ports,
    threshold_layout,
)
from bivit.hw.blocks.score import ScoreBuffer, minima_layout
from bivit.hw.emit import place
from bivit.hw.isa import TAG_BITS
from bivit.hw.memories import address_bits

__all__ = ["PARAM_LEAD", "Mode", "PostProcessing", "counts_layout", "latency", "pass_layout"]


def latency(arch: Arch) -> int:
    """Cycles from the last drain cycle of an instruction to its ``done`` pulse.

    The drain cycles of a pass start in the cycle of its counts; there are ``arch.drain_cycles`` of
    them in an arithmetic pass, twice as many in a dual one, and one in the others.
    """
    return STAGES


class PostProcessing(wiring.Component):
    """Takes the counts of each pass to the memories that its record says.

    A record comes ``PARAM_LEAD`` cycles before its counts. The counts of the next pass may follow
    after the last drain cycle of the one before.

    Members
    -------
    pass_valid, pass_ : ``In``
        Record of a pass.
    counts : ``In``
        Its counts.
    {thr,scale,bend,bias,pos,resid,vmem,smem}_{addr,data}
        Read ports of memories, with a latency of two cycles; SMEM's with a stem engine.
    hmem_we, hmem_addr, hmem_data, bmem_we, ..., resid_we, resid_write_addr, resid_write_data
        Write ports; the enables have one bit for each bit of a word. In one cycle, only one
        instruction writes.
    score_addr, score_data, minima
        For the attention bits: read port of the score buffer (two cycles), row minima.
    tag : ``Out``
        Program counter of the instruction that writes in this cycle.
    done : ``Out``
        An instruction's last write is at the ports, or in the score buffer.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        width = numbers_layout(arch).size
        super().__init__({
            "pass_valid": In(1),
            "pass_": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "thr_addr": Out(address_bits(arch.thr_depth)),
            "thr_data": In(threshold_layout(arch)),
            "scale_addr": Out(address_bits(arch.scale_depth)),
            "scale_data": In(scale_layout(arch)),
            "bend_addr": Out(address_bits(arch.bend_depth)),
            "bend_data": In(bend_layout(arch)),
            "bias_addr": Out(address_bits(arch.bias_depth)),
            "bias_data": In(bias_layout(arch)),
            "pos_addr": Out(address_bits(arch.pos_depth)),
            "pos_data": In(width),
            "resid_addr": Out(address_bits(arch.resid_depth)),
            "resid_data": In(width),
            "vmem_addr": Out(address_bits(arch.vmem_depth)),
            "vmem_data": In(width),
            **smem_ports(arch),
            "hmem_we": Out(arch.rows * arch.lanes),
            "hmem_addr": Out(address_bits(arch.hmem_depth)),
            "hmem_data": Out(arch.rows * arch.lanes),
            "bmem_we": Out(arch.cols * arch.lanes),
            "bmem_addr": Out(address_bits(arch.bmem_depth)),
            "bmem_data": Out(arch.cols * arch.lanes),
            "resid_we": Out(width),
            "resid_write_addr": Out(address_bits(arch.resid_depth)),
            "resid_write_data": Out(width),
            "score_addr": In(address_bits(arch.score_slots * arch.score_tiles)),
            "score_data": Out(score_layout(arch)),
            "minima": Out(minima_layout(arch)),
            "tag": Out(TAG_BITS),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        drain = place(m, platform, "drain", Drain(arch))
        compare = place(m, platform, "compare", CompareLanes(arch))
        scores = place(m, platform, "scores", ScoreBuffer(arch))
        arithmetic = place(m, platform, "arithmetic", ArithmeticLanes(arch))
        writer = place(m, platform, "writer", BitWriter(arch))

        ahead = Signal(pass_layout(arch), reset_less=True)
        ahead_valid = delayed(m, self.pass_valid, PARAM_LEAD - 1, name="ahead_valid", init=0)
        m.d.sync += ahead.eq(self.pass_)
        for block in (drain, scores, writer):
            m.d.comb += [block.ahead_valid.eq(ahead_valid), block.ahead.eq(ahead)]
        for block in (compare, scores, arithmetic):
            m.d.comb += block.counts.eq(self.counts)
        for block in (compare, arithmetic):
            m.d.comb += [block.thr.eq(self.thr_data), block.ones.eq(writer.ones)]
        m.d.comb += [
            self.thr_addr.eq(self.pass_.thr_addr),
            self.scale_addr.eq(ahead.scale_addr),
            self.bias_addr.eq(self.pass_.bias_addr),
            arithmetic.drain.eq(drain.drain),
            arithmetic.scale.eq(self.scale_data),
            scores.bias.eq(self.bias_data),
            scores.addr.eq(self.score_addr),
            self.score_data.eq(scores.data),
            self.minima.eq(scores.minima),
        ]
        for memory in ("bend", "pos", "resid", "vmem", *(["smem"] if arch.stem_macs else [])):
            m.d.comb += [
                getattr(self, f"{memory}_addr").eq(getattr(arithmetic, f"{memory}_addr")),
                getattr(arithmetic, f"{memory}_data").eq(getattr(self, f"{memory}_data")),
            ]
        m.d.comb += [getattr(self, port).eq(getattr(arithmetic, port)) for port in
                     ("resid_we", "resid_write_addr", "resid_write_data")]
        m.d.comb += [getattr(self, f"{memory}_{port}").eq(getattr(writer, f"{memory}_{port}"))
                     for memory in ("hmem", "bmem") for port in ("we", "addr", "data")]

        record, last = drain.drain.record, drain.drain.last
        compared = delayed(m, compare.bits, BIT_STAGES - 1, name="compared")
        of_numbers = delayed(m, record.mode == Mode.ACC, BIT_STAGES, name="of_numbers")
        m.d.comb += [
            writer.last_drain.eq(last),
            writer.record.eq(record),
            writer.bits.eq(Mux(of_numbers, arithmetic.bits, compared)),
            self.tag.eq(delayed(m, record.tag, STAGES, name="tag")),
            self.done.eq(delayed(m, last & record.last_pass, STAGES, name="done", init=0)),
        ]
        return m
