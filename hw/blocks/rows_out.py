"""Sums of rows, biased, shifted and saturated, to rows of VMEM or XMEM.

Stages: the NORM word is addressed in stage 0 and the sum in stage 1, both are there in stage 2; sum
and bias (3), rounding (4), the limits (5), the write (6). A word of codes takes 8 cycles.
"""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import BIAS_FRACTION, CODE_BITS, RESCALE_SHIFTS
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed, piece
from bivit.hw.blocks.norm import PARAMETER, result_shape
from bivit.hw.blocks.rounding import LIMIT, clip, limits
from bivit.hw.blocks.sums import words_layout
from bivit.hw.blocks.walk import split_row
from bivit.hw.emit import place
from bivit.hw.isa import Opcode, RowKind, layout_of
from bivit.hw.memories import BIAS_BITS, SUM_BITS, memories

__all__ = ["RowWriter", "rows_out_timing"]

RESULT_STAGE = 5
WRITE_STAGE = 6


def rows_out_timing(*, kind: int, count: int, sum_tiles: int) -> tuple[int, int]:
    """Occupancy and completion of ROWS_OUT."""
    writes = count * sum_tiles * (CODE_BITS if kind == RowKind.CODES.value else 1)
    return writes + 1 + WRITE_STAGE, writes + 1 + WRITE_STAGE


class RowColumn(wiring.Component):
    """One column: from a sum and its parameter in stage 2 to the result in stage 5.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    total, parameter : stage 2
    shift, bits, low, high : of the instruction
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
            "low": In(LIMIT),
            "high": In(LIMIT),
            "load": In(1),
            "result": Out(result_shape(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        largest = RESCALE_SHIFTS[-1]
        addend = Signal(signed(BIAS_BITS + largest - BIAS_FRACTION + 1))
        exact = Signal(signed(max(len(addend), SUM_BITS) + 1), reset_less=True)
        half = Signal(range((1 << (largest - 1)) + 1))
        rounded = Signal(signed(len(exact) + 1 - RESCALE_SHIFTS[0]), reset_less=True)
        shifted = Signal.like(rounded)
        with m.Switch(self.shift):
            for index, shift in enumerate(RESCALE_SHIFTS):
                with m.Case(index):
                    m.d.comb += [
                        addend.eq(self.parameter.bias << (shift - BIAS_FRACTION)),
                        half.eq(1 << (shift - 1)),
                        shifted.eq((exact + half) >> shift),
                    ]
        flip = delayed(m, self.parameter.scale[0], 1, name="flip")
        bit = Signal(reset_less=True)
        m.d.sync += [
            exact.eq(self.total + addend),
            rounded.eq(shifted),
            bit.eq(~exact[-1] ^ flip),
        ]
        with m.If(self.load):
            m.d.sync += self.result.eq(Mux(self.bits, bit, clip(m, rounded, self.low, self.high)))
        with m.Else():
            m.d.sync += self.result.eq(self.result >> 1)
        return m


class RowWriter(wiring.Component):
    """Runs ROWS_OUT, a write a cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction; the destination walk starts in the same cycle
    last, done : the last write is at its port
    norm_addr, norm_data, sums_addr, sums_data : read ports
    row_address, row : block and row of the destination
    advance : go on to its next row
    write_address : of the write
    writes_xmem, write_row, mask, bits : write of a row of XMEM
    lanes, numbers : write of the chosen rows of a word of VMEM
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
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
            "advance": Out(1),
            "write_address": Out(16),
            "writes_xmem": Out(1),
            "write_row": Out(8),
            "mask": Out(arch.lanes),
            "bits": Out(arch.lanes),
            "lanes": Out(arch.post_rows),
            "numbers": Out(arch.cols * arch.resid_bits),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        fields = Signal(layout_of(Opcode.ROWS_OUT), reset_less=True)
        is_codes = Signal()
        low, high = Signal(LIMIT, reset_less=True), Signal(LIMIT, reset_less=True)
        sum_address = Signal(len(self.sums_addr), reset_less=True)
        tiles_left = Signal(8, reset_less=True)
        rows_left = Signal(8, reset_less=True)
        plane = Signal(range(CODE_BITS))
        starting = Signal()
        active = Signal()
        m.d.sync += starting.eq(self.start)
        with m.If(self.start):
            least, greatest = limits(self.fields.kind == RowKind.CODES, self.fields.sat)
            m.d.sync += [fields.eq(self.fields), low.eq(least), high.eq(greatest),
                         is_codes.eq(self.fields.kind == RowKind.CODES),
                         self.norm_addr.eq(self.fields.param_addr),
                         tiles_left.eq(self.fields.sum_tiles - 1),
                         rows_left.eq(self.fields.count - 1)]
        with m.If(starting):
            m.d.sync += [active.eq(1), sum_address.eq(fields.sum_row * fields.sum_tiles)]
        # Stage 0.
        last_plane = ~is_codes | (plane == CODE_BITS - 1)
        last_tile = tiles_left == 0
        last = last_plane & last_tile & (rows_left == 0)
        with m.If(active):
            m.d.sync += plane.eq(Mux(last_plane, 0, plane + 1))
            with m.If(last_plane):
                m.d.sync += [sum_address.eq(sum_address + 1),
                             tiles_left.eq(Mux(last_tile, fields.sum_tiles, tiles_left) - 1),
                             self.norm_addr.eq(Mux(last_tile, fields.param_addr,
                                                   self.norm_addr + 1)),
                             rows_left.eq(rows_left - last_tile), active.eq(~last)]
        m.d.comb += self.sums_addr.eq(delayed(m, sum_address, 1, name="sum_address"))

        # Stages 2 to 5.
        load = delayed(m, active & (plane == 0), RESULT_STAGE - 1, name="load", init=0)
        results = []
        for index, parameter in enumerate(data.View(data.ArrayLayout(PARAMETER, arch.cols),
                                                    self.norm_data)):
            column = place(m, platform, f"column_{index}", RowColumn(arch))
            m.d.comb += [
                column.total.eq(self.sums_data[index]), column.parameter.eq(parameter),
                column.shift.eq(fields.shift), column.bits.eq(fields.kind == RowKind.BITS),
                column.low.eq(low), column.high.eq(high), column.load.eq(load),
            ]
            results.append(column.result)
        writing = delayed(m, active, RESULT_STAGE, name="active", init=0)
        ends_tile = delayed(m, last_plane, RESULT_STAGE, name="last_plane")
        ends_row = delayed(m, last_plane & last_tile, RESULT_STAGE, name="ends_row")
        m.d.sync += self.done.eq(writing & delayed(m, last, RESULT_STAGE, name="last"))
        m.d.comb += [self.last.eq(self.done), self.advance.eq(writing & ends_row)]
        self._write(m, fields, results, writing, ends_tile, ends_row)
        return m

    def _write(self, m, fields, results, writing, ends_tile, ends_row):
        """Where the results of stage 5 go; everything is registered."""
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
        group, lane = split_row(arch, self.row)
        bits, mask = piece(Cat(result[0] for result in results),
                           Cat(slot == index for index in range(arch.chunks_per_word)),
                           slot == 0, width=arch.lanes)
        m.d.sync += [
            self.writes_xmem.eq(writing & ~to_vmem),
            self.lanes.eq(Mux(writing & to_vmem, C(1) << lane, 0)),
            self.write_address.eq(self.row_address + word + Mux(to_vmem, group, plane)),
            self.write_row.eq(self.row),
            self.mask.eq(mask), self.bits.eq(bits),
            self.numbers.eq(Cat(result[:arch.resid_bits] for result in results)),
        ]
