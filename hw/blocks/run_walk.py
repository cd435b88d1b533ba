"""The way of ROWS_ADD through rows: nested loops, the tiles of their rows, runs of rows.

The innermost loop of rows lies inside the loop over tiles, and as many of its steps as a word of
numbers and a word of sums have in common are one step here (a *chunk*), if it is

- a *slide*, one row and one sum row on each time. Where the rows of a block fill whole words, a
  chunk fills a whole word of sums and comes out of two words behind each other: every step reads
  the next word, and the one before it is kept;
- a *skip*, every other row to sum rows behind each other: of one word of numbers;
- a *broadcast*, one row to sum rows behind each other;
- a *reduction*, rows behind each other to one sum row.

All others have chunks of one row.
"""

import functools

import numpy as np
from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed
from bivit.hw.blocks.walk import STEP_STAGE, least, split_row, split_sum
from bivit.hw.isa import LEVELS

__all__ = ["RUN_PLAN", "RunWalk", "run_step_layout", "run_steps"]

_LEVEL = data.StructLayout({"count": 12, "blocks": 12, "rows": 6, "sums": 8})
RUN_PLAN = data.StructLayout({
    "address": 16, "row": 6, "stride": 12, "sum_row": 8, "tiles": 12,
    "levels": data.ArrayLayout(_LEVEL, LEVELS),
    "alone": 1,     # chunks of one row
    "reduces": 1,   # reductions are allowed
})
"""What a :class:`RunWalk` is told."""


def run_step_layout(arch: Arch) -> data.StructLayout:
    """A step in stage `STEP_STAGE`; `valid` is low for one that only reads a word to keep."""
    return data.StructLayout({
        "valid": 1,
        "address": 16,     # of the block of the row
        "group": 6,        # of the row
        "shift": 6,        # sum row l takes row l + shift of the word; broadcast: row `shift`;
        "skip": 1,         # skip: row 2 l + shift
        "broadcast": 1,
        "previous": 1,     # rows from `shift` on are those of the word before
        "reduce": 1,       # all rows go to one sum row
        "rows": arch.post_rows,   # which are taken: of the sums; reduction: of the numbers
        "lanes": arch.post_rows,  # of the sums, which change
        "sum_group": 8,
        "starts_sum": 1,   # every loop that stays on a sum row is at its step 0
        "first_tile": 1,
        "first_chunk": 1,  # of the tile
        "last": 1,         # of all
    })


def run_steps(arch: Arch, fields: dict[str, int], *, alone: bool, reduces: bool) -> int:
    """Steps of a walk through runs of rows."""
    return fields["n_tiles"] * _row_steps(
        arch, fields["src_row"], fields["sum_row"], alone, reduces,
        tuple((fields[f"count_{level}"], fields[f"blocks_{level}"], fields[f"rows_{level}"],
               fields[f"sums_{level}"]) for level in range(LEVELS)))


@functools.lru_cache(1 << 14)
def _row_steps(arch, row, sum_row, alone, reduces, levels):
    """Steps for one tile of every row."""
    (count, *step), outer = levels[0], levels[1:]
    rows, sums = np.array([row]), np.array([sum_row])
    for times, _, row_step, sum_step in outer:
        steps = np.arange(times)[:, None]
        rows = (rows + steps * row_step).reshape(-1) % arch.rows
        sums = (sums + steps * sum_step).reshape(-1) % arch.post_rows
    starts, times = np.unique(rows * arch.post_rows + sums, return_counts=True)
    kind = None if alone else _KINDS.get(tuple(step))
    if kind == "reduction" and not reduces:
        kind = None
    return sum(repeats * _chunks(arch, kind, count, *divmod(start, arch.post_rows))
               for start, repeats in zip(starts.tolist(), times.tolist(), strict=True))


_KINDS = {(0, 1, 1): "slide", (0, 2, 1): "skip", (0, 0, 1): "broadcast", (0, 1, 0): "reduction"}
"""By the steps of the innermost loop: blocks, rows, sum rows."""


@functools.cache
def _chunks(arch, kind, count, row, place):
    """Steps of a run of `count` rows from a row of a block on, to a place in a word of sums."""
    rows = arch.post_rows
    if kind is None:
        return count
    if kind == "broadcast":
        return -(-(place + count) // rows)
    if kind == "slide" and arch.rows % rows == 0:
        lane = row % rows
        return -(-(place + count) // rows) + (place < lane and lane + count > rows)
    steps = 0
    while count > 0:
        taken = min(rows - row % rows, arch.rows - row)
        if kind == "slide":
            taken = min(taken, rows - place, count)
            place = (place + taken) % rows
        elif kind == "skip":
            taken = min(-(-taken // 2), rows - place, count)
            place = (place + taken) % rows
        row += 2 * taken if kind == "skip" else taken
        row, count, steps = row % arch.rows, count - taken, steps + 1
    return steps


class RunWalk(wiring.Component):
    """Nested loops over rows, their tiles, and runs of rows: a chunk of a run a cycle.

    The first step is in stage 0 in the cycle after `start`, which may come in the cycle of `last`.
    Steps of rows and the first row must be below the rows of a block.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, plan : begin; the plan is kept
    last_chunk, last_tile, last : the step in stage 0 ends its tile, is of the last tile of its
        rows, is the last one
    active : there is a step in stage 0
    step : the step in stage `STEP_STAGE`
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({"start": In(1), "plan": In(RUN_PLAN), "last_chunk": Out(1),
                          "last_tile": Out(1), "last": Out(1), "active": Out(1),
                          "step": Out(run_step_layout(arch))})

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        position_layout = data.StructLayout({"block": 16, "row": 6, "sum_group": 8, "lane": 6})
        plan = Signal(RUN_PLAN, reset_less=True)
        with m.If(self.start):
            m.d.sync += plan.eq(self.plan)
        # Steps of the sums, in words and places; which kind the innermost loop is of.
        sums = [Signal(data.StructLayout({"group": 8, "lane": 6}), name=f"sums_{level}",
                       reset_less=True) for level in range(LEVELS)]
        slide, skip, broadcast, reduce = Signal(), Signal(), Signal(), Signal()
        inner = self.plan.levels[0]
        together = (inner.blocks == 0) & ~self.plan.alone if arch.post_rows > 1 else C(0)
        with m.If(self.start):
            m.d.sync += [
                slide.eq(together & (inner.rows == 1) & (inner.sums == 1)),
                skip.eq(together & (inner.rows == 2) & (inner.sums == 1)),
                broadcast.eq(together & (inner.rows == 0) & (inner.sums == 1)),
                reduce.eq(together & (inner.rows == 1) & (inner.sums == 0) & self.plan.reduces),
            ]
            for level, step in enumerate(sums):
                group, lane = split_sum(arch, self.plan.levels[level].sums)
                m.d.sync += [step.group.eq(group), step.lane.eq(lane)]
        windowed = slide if arch.rows % arch.post_rows == 0 else C(0)

        # Where the rows of a tile begin, and where the run is.
        outer = [Signal(position_layout, name=f"position_{level}", reset_less=True)
                 for level in range(1, LEVELS)]
        left = [Signal(12, name=f"left_{level}", reset_less=True) for level in range(1, LEVELS)]
        at_start = Signal(LEVELS - 1, reset_less=True)
        here = Signal(position_layout, reset_less=True)
        rows_left, tiles_left = Signal(12, reset_less=True), Signal(12, reset_less=True)
        first_chunk, first_tile = Signal(reset_less=True), Signal(reset_less=True)
        ended = Cat(count == 0 for count in left)
        group, lane = split_row(arch, here.row)
        shift, kept_shift = Signal(6), Signal(6, reset_less=True)
        taken, prefetch = Signal(range(arch.post_rows + 1)), Signal()
        self._chunk(m, here, lane, rows_left, slide, skip, broadcast, reduce, windowed,
                    first_chunk, taken, prefetch)
        with m.If(windowed & ~first_chunk):
            m.d.comb += shift.eq(kept_shift)
        with m.Elif(broadcast | plan.alone):
            m.d.comb += shift.eq(lane)
        with m.Elif(skip):
            ahead = lane + 2 * (arch.post_rows - here.lane)
            m.d.comb += shift.eq(ahead - Mux(ahead >= 2 * arch.post_rows, 2 * arch.post_rows,
                                             Mux(ahead >= arch.post_rows, arch.post_rows, 0)))
        with m.Elif(~reduce):
            m.d.comb += shift.eq(Mux(lane < here.lane, lane + arch.post_rows, lane) - here.lane)
        m.d.sync += kept_shift.eq(shift)
        m.d.comb += [
            self.last_chunk.eq(taken == rows_left),
            self.last_tile.eq(tiles_left == 0),
            self.last.eq(self.active & self.last_chunk & self.last_tile & ended.all()),
        ]

        further, following = Signal(position_layout), Signal(position_layout)
        in_run = slide | skip | broadcast
        _go_on(m, arch, "run", further, here,
               rows=Mux(windowed, arch.post_rows - lane,
                        Mux(slide | reduce, taken,
                            Mux(skip, 2 * taken, plan.levels[0].rows))),
               blocks=plan.levels[0].blocks,
               group=Mux(in_run, 0, sums[0].group), lane=Mux(in_run, taken, sums[0].lane))
        present, level, level_sums = (Signal.like(outer[0]), Signal.like(plan.levels[0]),
                                      Signal.like(sums[0]))
        m.d.comb += [present.eq(outer[-1]), level.eq(plan.levels[-1]), level_sums.eq(sums[-1])]
        for index in reversed(range(LEVELS - 2)):
            with m.If(~ended[index]):
                m.d.comb += [present.eq(outer[index]), level.eq(plan.levels[index + 1]),
                             level_sums.eq(sums[index + 1])]
        _go_on(m, arch, "outer", following, present, rows=level.rows, blocks=level.blocks,
               group=level_sums.group, lane=level_sums.lane)
        with m.If(self.active):
            m.d.sync += [rows_left.eq(rows_left - taken), first_chunk.eq(0), here.eq(further)]
            with m.If(self.last_chunk):
                m.d.sync += [rows_left.eq(plan.levels[0].count), first_chunk.eq(1),
                             first_tile.eq(self.last_tile), tiles_left.eq(tiles_left - 1),
                             here.eq(outer[0]), self.active.eq(~self.last)]
                with m.If(self.last_tile):
                    m.d.sync += [tiles_left.eq(plan.tiles - 1), here.eq(following)]
                    for index in range(LEVELS - 1):
                        with m.If(Cat(C(1, 1), ended[:index]).all()):
                            m.d.sync += [
                                outer[index].eq(following), at_start[index].eq(ended[index]),
                                left[index].eq(Mux(ended[index], plan.levels[index + 1].count,
                                                   left[index]) - 1),
                            ]
        with m.If(self.start):
            group_0, lane_0 = split_sum(arch, self.plan.sum_row)
            m.d.sync += [self.active.eq(1), first_chunk.eq(1), first_tile.eq(1), at_start.eq(~0),
                         rows_left.eq(inner.count), tiles_left.eq(self.plan.tiles - 1)]
            for position in (here, *outer):
                m.d.sync += [position.block.eq(0), position.row.eq(self.plan.row),
                             position.sum_group.eq(group_0), position.lane.eq(lane_0)]
            for index, count in enumerate(left):
                m.d.sync += count.eq(self.plan.levels[index + 1].count - 1)

        # Stages 1 and 2.
        product, address = Signal(16, reset_less=True), Signal(16, reset_less=True)
        base = delayed(m, plan.address, 1, name="base")
        m.d.sync += [product.eq(here.block * plan.stride), address.eq(product + base)]
        starts = Cat(at_start[index] | (plan.levels[index + 1].sums != 0)
                     for index in range(LEVELS - 1)).all()
        chosen = Signal(arch.post_rows)
        first_row = Mux(reduce, lane, here.lane)
        m.d.comb += chosen.eq(Cat((first_row <= index) & (index < first_row + taken)
                                  for index in range(arch.post_rows)))
        sum_lane = Cat(here.lane == index for index in range(arch.post_rows))
        m.d.comb += self.step.address.eq(address)
        values = {
            "valid": self.active & ~prefetch, "group": group, "shift": shift, "skip": skip,
            "broadcast": broadcast | plan.alone,
            "previous": windowed & ~first_chunk & (shift != 0), "reduce": reduce, "rows": chosen,
            "lanes": Mux(reduce, sum_lane, chosen), "sum_group": here.sum_group,
            "first_tile": first_tile, "first_chunk": first_chunk,
            "starts_sum": starts & (first_chunk | (plan.levels[0].sums != 0)), "last": self.last,
        }
        for name, value in values.items():
            m.d.comb += self.step[name].eq(delayed(m, value, STEP_STAGE, name=name,
                                                   init=0 if name == "valid" else None))
        return m

    def _chunk(self, m, here, lane, rows_left, slide, skip, broadcast, reduce, windowed,
               first_chunk, taken, prefetch):
        """How many rows the step in stage 0 takes; none if it only reads the first word."""
        arch = self.arch
        rows = arch.post_rows
        most = Mux(rows_left > rows, rows, rows_left)
        to_sums, to_end = rows - here.lane, least(rows - lane, arch.rows - here.row)
        m.d.comb += prefetch.eq(windowed & first_chunk & (lane > here.lane)
                                & (rows_left + lane > rows))
        with m.If(prefetch):
            m.d.comb += taken.eq(0)
        with m.Elif(windowed | broadcast):
            m.d.comb += taken.eq(least(most, to_sums))
        with m.Elif(slide):
            m.d.comb += taken.eq(least(most, to_sums, to_end))
        with m.Elif(skip):
            m.d.comb += taken.eq(least(most, to_sums, (to_end + 1) >> 1))
        with m.Elif(reduce):
            m.d.comb += taken.eq(least(most, to_end))
        with m.Else():
            m.d.comb += taken.eq(1)


def _go_on(m, arch, name, following, present, *, rows, blocks, group, lane):
    """The position after steps of rows, blocks, words of sums and places in them."""
    row, place = Signal(7, name=f"{name}_row"), Signal(7, name=f"{name}_place")
    row_carry, sum_carry = Signal(name=f"{name}_row_carry"), Signal(name=f"{name}_sum_carry")
    m.d.comb += [
        row.eq(present.row + rows), row_carry.eq(row >= arch.rows),
        place.eq(present.lane + lane), sum_carry.eq(place >= arch.post_rows),
        following.row.eq(Mux(row_carry, row - arch.rows, row)),
        following.block.eq(present.block + blocks + row_carry),
        following.lane.eq(Mux(sum_carry, place - arch.post_rows, place)),
        following.sum_group.eq(present.sum_group + group + sum_carry),
    ]
