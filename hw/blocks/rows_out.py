"""Sums of rows, biased, shifted and saturated, to rows of VMEM or XMEM.

Stages: the NORM word is addressed in stage 0 and the sum in stage 1, both are there in stage 2; sum
and bias (3), rounding (4), the limits (5), the write (6). A word of codes takes 8 cycles.
"""

import functools

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import BIAS_FRACTION, CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed, piece
from bivit.hw.blocks.norm import PARAMETER, result_shape
from bivit.hw.blocks.rounding import aligned, clip, limits, limits_layout
from bivit.hw.blocks.sums import words_layout
from bivit.hw.blocks.walk import least, split_row, split_sum
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import Opcode, RowKind
from bivit.hw.memories import SUM_BITS, memories

__all__ = ["RowWriter", "rows_out_timing"]

RESULT_STAGE = 5
WRITE_STAGE = 6


def rows_out_timing(arch: Arch, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of ROWS_OUT."""
    chunks = _chunks(arch, fields["count"], fields["sum_row"] % arch.post_rows, fields["dst_row"],
                     fields["segment"], fields["segment_left"])
    planes = CODE_BITS if fields["kind"] == RowKind.CODES.value else 1
    cycles = chunks * fields["sum_tiles"] * planes + 1 + WRITE_STAGE
    return cycles, cycles


@functools.lru_cache(1 << 12)
def _chunks(arch, count, place, row, segment, left):
    """Parts of `count` rows that lie in one word of sums, one row group, block and segment."""
    rows, chunks = arch.post_rows, 0
    left = left if segment else count
    while count > 0:
        taken = min(count, left, rows - place, rows - row % rows, arch.rows - row)
        count, left, place = count - taken, left - taken, (place + taken) % rows
        row = (row + taken) % arch.rows if left else 0
        left, chunks = left or segment, chunks + 1
    return chunks


class RowColumn(wiring.Component):
    """One column: from a sum and its parameter in stage 2 to the result in stage 5.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    total, parameter : stage 2
    shift, bits, limits : of the instruction
    load : stage 4, take the result; a result that stays is shifted right by one
    result : stage 5, a bit, a number, or a code
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "total": In(signed(SUM_BITS)),
            "parameter": In(PARAMETER),
            "shift": In(2),
            "bits": In(1),
            "limits": In(limits_layout(result_shape(arch))),
            "load": In(1),
            "result": Out(result_shape(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        total = aligned(self.total, self.shift) + self.parameter.bias
        exact = Signal(signed(len(total)), reset_less=True)
        rounded = Signal(signed(len(exact) + 1 - BIAS_FRACTION), reset_less=True)
        flip = delayed(m, self.parameter.scale[0], 1, name="flip")
        bit = Signal(reset_less=True)
        m.d.sync += [
            exact.eq(total),
            rounded.eq((exact + C(1 << (BIAS_FRACTION - 1))) >> BIAS_FRACTION),
            bit.eq(~exact[-1] ^ flip),
        ]
        with m.If(self.load):
            m.d.sync += self.result.eq(Mux(self.bits, bit, clip(rounded, self.limits)))
        with m.Else():
            m.d.sync += self.result.eq(self.result >> 1)
        return m


class RowWriter(wiring.Component):
    """Runs ROWS_OUT: rows of one word of sums and one row group of the destination at once.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction; the destination walk starts in the same cycle
    last, done : the last write is at its port
    norm_addr, norm_data, sums_addr, sums_data : read ports
    row_address, row, room : block and row of the destination, and rows that there is room for
    advance : go on by so many rows
    write_address : of the write
    writes_xmem, write_rows, mask, bits : write of rows of XMEM; `bits` of each row of a row group
    lanes, numbers : write of the chosen rows of a word of VMEM
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        rows = range(arch.post_rows + 1)
        super().__init__({
            "start": In(1),
            "fields": In(layout_of(Opcode.ROWS_OUT)),
            "last": Out(1),
            "done": Out(1),
            "norm_addr": Out(16),
            "norm_data": In(sizes["norm"].width),
            "sums_addr": Out(sizes["sums"].address_bits),
            "sums_data": In(words_layout(arch)),
            "row_address": In(16),
            "row": In(8),
            "room": In(rows),
            "advance": Out(rows),
            "write_address": Out(16),
            "writes_xmem": Out(1),
            "write_rows": Out(arch.rows),
            "mask": Out(arch.lanes),
            "bits": Out(data.ArrayLayout(arch.lanes, arch.post_rows)),
            "lanes": Out(arch.post_rows),
            "numbers": Out(sizes["vmem"].width),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        fields = Signal(layout_of(Opcode.ROWS_OUT), reset_less=True)
        is_codes = Signal()
        bounds = Signal(limits_layout(result_shape(arch)), reset_less=True)
        group, place_in_word = Signal(8, reset_less=True), Signal(6, reset_less=True)
        first_sum = Signal(len(self.sums_addr), reset_less=True)  # of the word of the present rows
        sum_address = Signal.like(first_sum)
        tiles_left, rows_left = Signal(8, reset_less=True), Signal(8, reset_less=True)
        plane = Signal(range(CODE_BITS))
        starting, active = Signal(), Signal()
        m.d.sync += starting.eq(self.start)
        with m.If(self.start):
            word, first = split_sum(arch, self.fields.sum_row)
            m.d.sync += [fields.eq(self.fields),
                         bounds.eq(limits(bounds.shape(), self.fields.kind == RowKind.CODES,
                                          self.fields.sat)),
                         is_codes.eq(self.fields.kind == RowKind.CODES),
                         self.norm_addr.eq(self.fields.param_addr),
                         group.eq(word), place_in_word.eq(first),
                         tiles_left.eq(self.fields.sum_tiles - 1),
                         rows_left.eq(self.fields.count)]
        with m.If(starting):
            address = (group * fields.sum_tiles)[:len(first_sum)]
            m.d.sync += [active.eq(1), first_sum.eq(address), sum_address.eq(address)]
        # Stage 0.
        taken = Signal(range(arch.post_rows + 1))
        m.d.comb += taken.eq(least(Mux(rows_left > arch.post_rows, arch.post_rows, rows_left),
                                   self.room, arch.post_rows - place_in_word))
        last_plane = ~is_codes | (plane == CODE_BITS - 1)
        last_tile = tiles_left == 0
        last = last_plane & last_tile & (rows_left == taken)
        word_ends = place_in_word + taken == arch.post_rows
        next_sum = Signal.like(first_sum)
        m.d.comb += next_sum.eq(first_sum + Mux(word_ends, fields.sum_tiles, 0))
        with m.If(active):
            m.d.sync += plane.eq(Mux(last_plane, 0, plane + 1))
            with m.If(last_plane):
                m.d.sync += [sum_address.eq(sum_address + 1), tiles_left.eq(tiles_left - 1),
                             self.norm_addr.eq(self.norm_addr + 1), active.eq(~last)]
                with m.If(last_tile):
                    m.d.comb += self.advance.eq(taken)
                    m.d.sync += [first_sum.eq(next_sum), sum_address.eq(next_sum),
                                 tiles_left.eq(fields.sum_tiles - 1),
                                 self.norm_addr.eq(fields.param_addr),
                                 rows_left.eq(rows_left - taken),
                                 place_in_word.eq(Mux(word_ends, 0, place_in_word + taken))]
        m.d.comb += self.sums_addr.eq(delayed(m, sum_address, 1, name="sum_address"))

        # Stages 2 to 5.
        load = delayed(m, active & (plane == 0), RESULT_STAGE - 1, name="load", init=0)
        parameters = data.View(data.ArrayLayout(PARAMETER, arch.cols), self.norm_data)
        results = []
        for index in range(arch.post_rows * arch.cols):
            column = place(m, platform, f"column_{index}", RowColumn(arch))
            m.d.comb += [
                column.total.eq(self.sums_data[index]),
                column.parameter.eq(parameters[index % arch.cols]),
                column.shift.eq(fields.shift), column.bits.eq(fields.kind == RowKind.BITS),
                column.limits.eq(bounds), column.load.eq(load),
            ]
            results.append(column.result)
        writing = delayed(m, active, RESULT_STAGE, name="active", init=0)
        ends_tile = delayed(m, last_plane, RESULT_STAGE, name="last_plane")
        ends_row = delayed(m, last_plane & last_tile, RESULT_STAGE, name="ends_row")
        m.d.sync += self.done.eq(writing & delayed(m, last, RESULT_STAGE, name="last"))
        m.d.comb += self.last.eq(self.done)
        address, row, sum_place, count = (
            delayed(m, value, RESULT_STAGE, name=name) for name, value in (
                ("row_address", self.row_address), ("row", self.row), ("place", place_in_word),
                ("taken", taken)))
        slot = self._address(m, fields, writing, ends_tile, ends_row, address, row)
        self._write(m, fields, results, writing, slot, row, sum_place, count)
        return m

    def _address(self, m, fields, writing, ends_tile, ends_row, address, row):
        """Address of the write of stage 5, and which chunk of a word it is."""
        arch = self.arch
        to_vmem = fields.kind == RowKind.NUMBERS
        slot = Signal(range(max(2, arch.chunks_per_word)))
        word = Signal(16)    # from the first one of the row
        plane = Signal(16)   # words from plane 0
        word_done = slot == arch.chunks_per_word - 1
        with m.If(writing):
            m.d.sync += plane.eq(plane + fields.k_words)
            with m.If(ends_tile):
                m.d.sync += [plane.eq(0), slot.eq(Mux(word_done, 0, slot + 1)),
                             word.eq(word + Mux(to_vmem, arch.drain_cycles, word_done))]
            with m.If(ends_row):
                m.d.sync += [slot.eq(0), word.eq(0)]
        group, _ = split_row(arch, row)
        m.d.sync += self.write_address.eq(address + word + Mux(to_vmem, group, plane))
        return slot

    def _write(self, m, fields, results, writing, slot, row, place, count):
        """The results of stage 5 to their rows of the destination; everything is registered."""
        arch = self.arch
        rows = arch.post_rows
        to_vmem = fields.kind == RowKind.NUMBERS
        _, lane = split_row(arch, row)
        shift = Signal(6)  # destination row l takes sum row l + shift
        m.d.comb += shift.eq(Mux(place < lane, place + rows, place) - lane)
        own = [Cat(results[index * arch.cols:(index + 1) * arch.cols]) for index in range(rows)]
        width = len(results[0])
        for index in range(rows):
            turned = Array(own[(index + amount) % rows] for amount in range(rows))[shift]
            columns = [turned.word_select(column, width) for column in range(arch.cols)]
            bits, mask = piece(Cat(column[0] for column in columns),
                               Cat(slot == number for number in range(arch.chunks_per_word)),
                               slot == 0, width=arch.lanes)
            numbers = self.numbers.word_select(index, arch.cols * arch.resid_bits)
            m.d.sync += [
                self.bits[index].eq(bits), self.mask.eq(mask),
                self.lanes[index].eq(writing & to_vmem & (lane <= index)
                                     & (index < lane + count)),
                numbers.eq(Cat(column[:arch.resid_bits] for column in columns)),
            ]
        m.d.sync += [
            self.writes_xmem.eq(writing & ~to_vmem),
            self.write_rows.eq(Cat((row <= index) & (index < row + count)
                                   for index in range(arch.rows))),
        ]
