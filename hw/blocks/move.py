"""Rows of bits from XMEM or HMEM to rows of XMEM or columns of KMEM.

Stages count from the counters of the walk: the address is on the port in stage 3, the word is there
in stage 5, its row is written in stage 6.
"""

import math

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.walk import STEP, STEP_STAGE
from bivit.hw.isa import LEVELS, MoveSource, Opcode, layout_of
from bivit.hw.memories import MEM_LATENCY, memories

__all__ = ["RowMover", "move_timing"]

WRITE_STAGE = STEP_STAGE + 1 + MEM_LATENCY + 1


def move_timing(fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of MOVE."""
    steps = fields["words"] * math.prod(fields[f"count_{level}"] for level in range(LEVELS))
    return steps + WRITE_STAGE, steps + WRITE_STAGE


class RowMover(wiring.Component):
    """Runs MOVE, a word of one row a cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction; the walks start in the same cycle
    last, done : the last write is at its port
    step : of the source
    address : of what is read
    xmem_data, hmem_data : two cycles later
    row_address, row : block and row of the destination
    advance : go on to its next row
    writes_xmem, writes_kmem, write_address, write_row, bits : the write, registered
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "start": In(1),
            "fields": In(layout_of(Opcode.MOVE)),
            "last": Out(1),
            "done": Out(1),
            "step": In(STEP),
            "address": Out(16),
            "xmem_data": In(sizes["xmem"].width),
            "hmem_data": In(sizes["hmem"].width),
            "row_address": In(16),
            "row": In(8),
            "advance": Out(1),
            "writes_xmem": Out(1),
            "writes_kmem": Out(1),
            "write_address": Out(16),
            "write_row": Out(8),
            "bits": Out(arch.lanes),
        })

    def elaborate(self, platform):
        m = Module()
        arch, step = self.arch, self.step
        from_hmem = Signal()
        to_keys = Signal()
        words = Signal(len(self.fields.words))
        with m.If(self.start):
            m.d.sync += [from_hmem.eq(self.fields.src == MoveSource.HMEM),
                         to_keys.eq(self.fields.to_keys), words.eq(self.fields.words)]
        # Stages 2 and 3: which word of the row.
        next_word = Signal(len(words), reset_less=True)
        word = Signal(len(words))
        m.d.comb += word.eq(Mux(step.first_word, 0, next_word))
        m.d.sync += [next_word.eq(word + 1), self.address.eq(step.address + word)]
        # Stage 5: its row, to the present row of the destination.
        later = WRITE_STAGE - 1 - STEP_STAGE
        valid = delayed(m, step.valid, later, name="valid", init=0)
        source_row = delayed(m, step.row, later, name="source_row")
        offset = delayed(m, word, later, name="offset")
        last_word = delayed(m, word == words - 1, later, name="last_word")
        data = Mux(from_hmem, self.hmem_data, self.xmem_data)
        rows = Array([data.word_select(row, arch.lanes) for row in range(arch.rows)])
        m.d.comb += self.advance.eq(valid & last_word)
        m.d.sync += [
            self.bits.eq(rows[source_row]),
            self.write_address.eq(self.row_address + offset),
            self.write_row.eq(self.row),
            self.writes_xmem.eq(valid & ~to_keys),
            self.writes_kmem.eq(valid & to_keys),
            self.done.eq(valid & delayed(m, step.last, later, name="last")),
        ]
        m.d.comb += self.last.eq(self.done)
        return m
