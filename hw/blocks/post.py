"""Post-processing of the array's counts: compare lanes, score buffer and arithmetic lanes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.arithmetic import ArithmeticLanes
from bivit.hw.blocks.compare import CompareLanes
from bivit.hw.blocks.lanes import (
    PARAM_LEAD,
    STAGES,
    Mode,
    counts_layout,
    delayed,
    pass_layout,
    scale_layout,
    threshold_layout,
)
from bivit.hw.blocks.score import ScoreBuffer, minima_layout
from bivit.hw.emit import place

__all__ = ["PARAM_LEAD", "Mode", "PostProcessing", "counts_layout", "latency", "pass_layout"]


def latency(arch: Arch) -> int:
    """Cycles from the last drain cycle of an instruction to its ``done`` pulse.

    The drain cycles of a pass start in the cycle of its counts; there are ``arch.drain_cycles`` of
    them in an arithmetic pass and one in the others.
    """
    return STAGES


class PostProcessing(wiring.Component):
    """Takes the counts of each pass to the memories that its record says.

    A record comes ``PARAM_LEAD`` cycles before its counts. The counts of the next pass may follow
    in the next cycle, after an arithmetic pass ``arch.drain_cycles`` cycles later.

    Members
    -------
    pass_valid, pass_ : ``In``
        Record of a pass.
    counts : ``In``
        Its counts.
    thr_addr, thr_data, scale_addr, scale_data, pos_addr, pos_data, resid_addr, resid_data
        Read ports of memories, with a latency of two cycles.
    hmem_we, hmem_addr, hmem_data, bmem_we, ..., resid_we, resid_write_addr, resid_write_data
        Write ports; the enables have one bit for each bit of a word. In one cycle, only one
        instruction writes.
    score_addr, score_data, minima
        For the softmax threshold: read port of the score buffer (two cycles), row minima.
    tag : ``Out``
        Program counter of the instruction that writes in this cycle.
    done : ``Out``
        An instruction's last write is at the ports, or in the score buffer.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        resid_width = arch.post_rows * arch.cols * arch.resid_bits
        super().__init__({
            "pass_valid": In(1),
            "pass_": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "thr_addr": Out(range(arch.thr_depth)),
            "thr_data": In(threshold_layout(arch)),
            "scale_addr": Out(range(arch.scale_depth)),
            "scale_data": In(scale_layout(arch)),
            "pos_addr": Out(range(arch.pos_depth)),
            "pos_data": In(resid_width),
            "resid_addr": Out(range(arch.resid_depth)),
            "resid_data": In(resid_width),
            "hmem_we": Out(arch.rows * arch.lanes),
            "hmem_addr": Out(range(arch.hmem_depth)),
            "hmem_data": Out(arch.rows * arch.lanes),
            "bmem_we": Out(arch.cols * arch.lanes),
            "bmem_addr": Out(range(arch.bmem_depth)),
            "bmem_data": Out(arch.cols * arch.lanes),
            "resid_we": Out(resid_width),
            "resid_write_addr": Out(range(arch.resid_depth)),
            "resid_write_data": Out(resid_width),
            "score_addr": In(range(arch.score_slots * arch.score_tiles)),
            "score_data": Out(counts_layout(arch)),
            "minima": Out(minima_layout(arch)),
            "tag": Out(16),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        compare = place(m, platform, "compare", CompareLanes(arch))
        scores = place(m, platform, "scores", ScoreBuffer(arch))
        arithmetic = place(m, platform, "arithmetic", ArithmeticLanes(arch))

        ahead = Signal(pass_layout(arch), reset_less=True)
        ahead_valid = delayed(m, self.pass_valid, PARAM_LEAD - 1, name="ahead_valid", init=0)
        m.d.sync += ahead.eq(self.pass_)
        for block in (compare, scores, arithmetic):
            m.d.comb += [
                block.ahead_valid.eq(ahead_valid),
                block.ahead.eq(ahead),
                block.counts.eq(self.counts),
            ]
        m.d.comb += [
            self.thr_addr.eq(self.pass_.param_addr),
            self.scale_addr.eq(self.pass_.param_addr),
            compare.thr.eq(self.thr_data),
            arithmetic.scale.eq(self.scale_data),
            scores.addr.eq(self.score_addr),
            self.score_data.eq(scores.data),
            self.minima.eq(scores.minima),
            self.pos_addr.eq(arithmetic.pos_addr),
            arithmetic.pos_data.eq(self.pos_data),
            self.resid_addr.eq(arithmetic.resid_addr),
            arithmetic.resid_data.eq(self.resid_data),
            self.resid_we.eq(arithmetic.resid_we),
            self.resid_write_addr.eq(arithmetic.resid_write_addr),
            self.resid_write_data.eq(arithmetic.resid_write_data),
        ]
        m.d.comb += [getattr(self, f"{memory}_{port}").eq(getattr(compare, f"{memory}_{port}"))
                     for memory in ("hmem", "bmem") for port in ("we", "addr", "data")]

        # The instruction of the present drain cycle.
        tag, last = Signal(16, reset_less=True), Signal(reset_less=True)
        single = Signal()
        with m.If(ahead_valid):
            m.d.sync += [tag.eq(ahead.tag), last.eq(ahead.last_pass)]
        m.d.sync += single.eq(ahead_valid & (ahead.mode != Mode.ACC))
        drained = last & (single | arithmetic.last_drain)
        m.d.comb += [
            self.tag.eq(delayed(m, tag, STAGES, name="tag")),
            self.done.eq(delayed(m, drained, STAGES, name="done", init=0)),
        ]
        return m
