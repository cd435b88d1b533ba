"""Rows of bits from XMEM or HMEM to rows of XMEM or columns of KMEM.

Stages count from the counters of the walk: the address is on the port in stage 3, the word is there
in stage 5, its row is written in stage 6.
"""

import functools
import itertools
import math

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.walk import STEP, STEP_STAGE
from bivit.hw.encoding import layout_of
from bivit.hw.isa import LEVELS, MoveSource, Opcode
from bivit.hw.memories import MEM_LATENCY, memories

__all__ = ["RowMover", "move_timing"]

WRITE_STAGE = STEP_STAGE + 1 + MEM_LATENCY + 1


def move_timing(arch: Arch, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of MOVE."""
    together = not (fields["to_keys"] or fields["blocks_0"]) and fields["rows_0"] == 1
    steps = fields["words"] * _row_steps(
        arch, together, fields["src_row"], fields["dst_row"], fields["segment"],
        fields["segment_left"], tuple(fields[f"count_{level}"] for level in range(LEVELS)),
        tuple(fields[f"rows_{level}"] for level in range(1, LEVELS)))
    return steps + WRITE_STAGE, steps + WRITE_STAGE


@functools.lru_cache(1 << 12)
def _row_steps(arch, together, first, row, segment, left, counts, rows):
    """Steps for one word of every row: a run of rows ends with a block or a segment."""
    count, *outer = counts
    if not together:
        return count * math.prod(outer)
    steps, room = 0, left if segment else count * math.prod(outer)
    for places in itertools.product(*(range(times) for times in reversed(outer))):
        source = first + sum(place * step for place, step in
                             zip(reversed(places), rows, strict=True))
        todo, source = count, source % arch.rows
        while todo:
            taken = min(todo, room, arch.rows - source, arch.rows - row,
                        arch.post_rows - row % arch.post_rows)
            todo, room, steps = todo - taken, room - taken, steps + 1
            source, row = (source + taken) % arch.rows, (row + taken) % arch.rows if room else 0
            room = room or segment
    return steps


class RowMover(wiring.Component):
    """Runs MOVE, a word of some rows a cycle.

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
    rows : how many rows go together, in stage 0
    row_address, row : block and row of the destination in stage 0
    writes_xmem, writes_kmem, write_address : the write, registered
    write_rows, bits : of XMEM
    write_column : of KMEM, which gets the first row of `bits`
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
            "rows": In(range(arch.post_rows + 1)),
            "row_address": In(16),
            "row": In(8),
            "writes_xmem": Out(1),
            "writes_kmem": Out(1),
            "write_address": Out(16),
            "write_rows": Out(arch.rows),
            "write_column": Out(8),
            "bits": Out(arch.rows * arch.lanes),
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
        # Stage 5: its rows, to the present ones of the destination.
        later = WRITE_STAGE - 1 - STEP_STAGE
        valid = delayed(m, step.valid, later, name="valid", init=0)
        source_row = delayed(m, step.row, later, name="source_row")
        offset = delayed(m, word, later, name="offset")
        count, address, row = (delayed(m, value, WRITE_STAGE - 1, name=name) for name, value in (
            ("rows", self.rows), ("row_address", self.row_address), ("row", self.row)))
        data = Mux(from_hmem, self.hmem_data, self.xmem_data)
        shift = Signal(6)  # row l of the destination takes row l + shift
        with m.If(to_keys):
            m.d.comb += shift.eq(source_row)
        with m.Else():
            m.d.comb += shift.eq(Mux(source_row < row, source_row + arch.rows, source_row) - row)
        words_of_rows = [data.word_select(index, arch.lanes) for index in range(arch.rows)]
        m.d.sync += [
            self.bits.eq(Cat(_turned(m, words_of_rows, shift))),
            self.write_address.eq(address + offset),
            self.write_rows.eq(Cat((row <= index) & (index < row + count)
                                   for index in range(arch.rows))),
            self.write_column.eq(row),
            self.writes_xmem.eq(valid & ~to_keys),
            self.writes_kmem.eq(valid & to_keys),
            self.done.eq(valid & delayed(m, step.last, later, name="last")),
        ]
        m.d.comb += self.last.eq(self.done)
        return m


def _turned(m, words, amount):
    """`words`, place l taking that of ``l + amount``, around the end: a level for each bit."""
    for bit in range(ceil_log2(len(words))):
        turned = [Signal(len(word), name=f"turned_{1 << bit}_{index}")
                  for index, word in enumerate(words)]
        m.d.comb += [new.eq(Mux(amount[bit], words[(index + (1 << bit)) % len(words)], word))
                     for index, (new, word) in enumerate(zip(turned, words, strict=True))]
        words = turned
    return words
