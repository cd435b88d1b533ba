"""The ways of the vector unit through rows: nested loops at the source, segments at the target."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.isa import LEVELS

__all__ = ["DestinationWalk", "PLAN", "STEP", "STEP_STAGE", "SourceWalk", "TARGET", "least",
           "split_row", "split_sum"]

LEVEL = data.StructLayout({"count": 12, "blocks": 12, "rows": 6})
PLAN = data.StructLayout({
    "address": 16, "row": 6, "stride": 12,
    "words": 12,  # of a row
    "alone": 1,   # one row at a time
    "levels": data.ArrayLayout(LEVEL, LEVELS),
})
"""What a :class:`SourceWalk` is told."""

STEP = data.StructLayout({
    "valid": 1,
    "address": 16,    # of the block of the row
    "row": 6,
    "first_word": 1,  # of the rows
    "last": 1,        # of all
})
"""One step, in stage `STEP_STAGE`."""

STEP_STAGE = 2
"""Registers between the counters and a step."""

TARGET = data.StructLayout({"address": 16, "row": 8, "stride": 12, "segment": 12,
                            "segment_left": 12, "limit": 8})
"""What a :class:`DestinationWalk` is told; `limit` is the number of rows of a block."""

_POSITION = data.StructLayout({"block": 16, "row": 6})


def split_row(arch: Arch, row: Value) -> tuple[Value, Value]:
    """Row group, and place in it, of a row of a block."""
    table = Array([Cat(C(number // arch.post_rows, 6), C(number % arch.post_rows, 6))
                   for number in range(arch.rows)])
    return table[row][:6], table[row][6:]


def split_sum(arch: Arch, row: Value) -> tuple[Value, Value]:
    """Word, and place in it, of a sum row."""
    rows = arch.post_rows
    if rows & (rows - 1) == 0:
        bits = rows.bit_length() - 1
        return row[bits:], row[:bits]
    word = row * ((1 << 16) // rows + 1) >> 16
    return word[:8], (row - word * rows)[:6]


def least(first: Value, *others: Value) -> Value:
    """The least of some unsigned values."""
    for other in others:
        first = Mux(other < first, other, first)
    return first


class SourceWalk(wiring.Component):
    """Nested loops over rows, and the words of each: one word a cycle.

    If the innermost loop goes through rows behind each other, those of one block go together, as
    many as there is room for. The first word is in stage 0 in the cycle after `start`. Steps of
    rows and the first row must be below the rows of a block.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, plan : begin; the plan is kept
    room : rows that can be taken together, at least 1
    rows : how many rows go together in stage 0
    taken : the same with their last word, else 0
    step : the word in stage `STEP_STAGE`
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        rows = range(arch.post_rows + 1)
        super().__init__({"start": In(1), "plan": In(PLAN), "room": In(rows), "rows": Out(rows),
                          "taken": Out(rows), "step": Out(STEP)})

    def elaborate(self, platform):
        m = Module()
        plan = Signal(PLAN, reset_less=True)
        # Where each loop is, the loops inside it at their step 0; steps to come of each.
        position = [Signal(_POSITION, name=f"position_{level}", reset_less=True)
                    for level in range(LEVELS)]
        left = [Signal(12, name=f"left_{level}", reset_less=True) for level in range(LEVELS)]
        words_left = Signal(12, reset_less=True)
        first_word = Signal(reset_less=True)
        active = Signal()
        together, rows = Signal(reset_less=True), self.rows
        m.d.comb += rows.eq(Mux(together, least(
            self.room, self.arch.rows - position[0].row,
            Mux(left[0] >= self.arch.post_rows, self.arch.post_rows, left[0] + 1)), 1))
        ended = Cat(count == (rows - 1 if level == 0 else 0) for level, count in enumerate(left))
        last_word, last = Signal(), Signal()
        m.d.comb += [last_word.eq(words_left == 0), last.eq(last_word & ended.all()),
                     self.taken.eq(Mux(active & last_word, rows, 0))]

        following = Signal(_POSITION)
        self._next_position(m, plan, position, ended, Mux(together, rows, plan.levels[0].rows),
                            following)
        with m.If(active):
            m.d.sync += [first_word.eq(last_word), words_left.eq(words_left - 1)]
            with m.If(last_word):
                m.d.sync += [words_left.eq(plan.words - 1), active.eq(~last)]
                for level in range(LEVELS):
                    with m.If(Cat(C(1, 1), ended[:level]).all()):
                        m.d.sync += [
                            position[level].eq(following),
                            left[level].eq(Mux(ended[level], plan.levels[level].count - 1,
                                               left[level] - (rows if level == 0 else 1))),
                        ]
        with m.If(self.start):
            inner = self.plan.levels[0]
            m.d.sync += [together.eq((inner.blocks == 0) & (inner.rows == 1) & ~self.plan.alone),
                         plan.eq(self.plan), active.eq(1), first_word.eq(1),
                         words_left.eq(self.plan.words - 1)]
            for level in range(LEVELS):
                m.d.sync += [
                    left[level].eq(self.plan.levels[level].count - 1),
                    position[level].block.eq(0),
                    position[level].row.eq(self.plan.row),
                ]
        product = Signal(16, reset_less=True)
        address = Signal(16, reset_less=True)
        m.d.sync += [product.eq(position[0].block * plan.stride),
                     address.eq(product + plan.address)]
        m.d.comb += [self.step.address.eq(address),
                     self.step.valid.eq(delayed(m, active, STEP_STAGE, name="active", init=0))]
        for name, value in (("row", position[0].row), ("first_word", first_word),
                            ("last", active & last)):
            m.d.comb += self.step[name].eq(delayed(m, value, STEP_STAGE, name=name))
        return m

    def _next_position(self, m, plan, position, ended, inner_rows, following):
        """The position of the next row: the innermost loop that has not ended goes on."""
        present, level = Signal(_POSITION), Signal(LEVEL)
        rows = Signal(6)
        m.d.comb += rows.eq(Mux(ended[0], level.rows, inner_rows))
        m.d.comb += [present.eq(position[-1]), level.eq(plan.levels[-1])]
        for index in reversed(range(LEVELS - 1)):
            with m.If(~ended[index]):
                m.d.comb += [present.eq(position[index]), level.eq(plan.levels[index])]
        row, carry = Signal(7), Signal()
        m.d.comb += [
            row.eq(present.row + rows),
            carry.eq(row >= self.arch.rows),
            following.row.eq(Mux(carry, row - self.arch.rows, row)),
            following.block.eq(present.block + level.blocks + carry),
        ]


class DestinationWalk(wiring.Component):
    """Rows behind each other, in segments.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, target : begin
    advance : go on by so many rows, at most `room`
    address : first word of the present block
    row : the present row in it
    room : rows from there on in the same row group, block and segment
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        rows = range(arch.post_rows + 1)
        super().__init__({"start": In(1), "target": In(TARGET), "advance": In(rows),
                          "address": Out(16), "row": Out(8), "room": Out(rows)})

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        target = Signal(TARGET, reset_less=True)
        in_block = Signal(8)
        _, lane = split_row(arch, target.row)
        m.d.comb += [
            in_block.eq(target.limit - target.row),
            self.room.eq(least(arch.post_rows - lane, in_block,
                               Mux(target.segment == 0, arch.post_rows, target.segment_left))),
        ]
        segment_ends = (target.segment != 0) & (target.segment_left == self.advance)
        with m.If(self.advance != 0):
            m.d.sync += [target.row.eq(target.row + self.advance),
                         target.segment_left.eq(target.segment_left - self.advance)]
            with m.If(segment_ends | (in_block == self.advance)):
                m.d.sync += [target.row.eq(0), target.address.eq(target.address + target.stride)]
            with m.If(segment_ends):
                m.d.sync += target.segment_left.eq(target.segment)
        with m.If(self.start):
            m.d.sync += target.eq(self.target)
        m.d.comb += [self.address.eq(target.address), self.row.eq(target.row)]
        return m
