"""LayerNorm results into the chunks of XMEM or the words of VMEM."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import spread
from bivit.hw.blocks.norm import result_shape
from bivit.hw.encoding import layout_of
from bivit.hw.isa import TAG_BITS, Opcode
from bivit.hw.memories import memories

__all__ = ["LEAD", "NormWriter"]

LEAD = 2
"""Cycles by which the writer knows of results before they are there: all but the words of a write
comes from registers."""


class NormWriter(wiring.Component):
    """Address, mask and word of each write of a second pass.

    Nothing of a pass is to be written any more when the next one begins.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    begin : take the instruction and the row group that follow
    fields, group, last_group, instr_tag : of the second pass that begins
    write : ``LEAD`` cycles later a tile is in `results`, for codes also in the 7 that follow
    results : of each lane
    writing : a write is at a port
    done : the last write of the last row group is
    tag : program counter of the instruction that writes
    address : of the write
    xmem_we, xmem_data, vmem_we, vmem_write_data : write ports
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "begin": In(1),
            "fields": In(layout_of(Opcode.NORM_CODES)),
            "group": In(6),
            "last_group": In(1),
            "instr_tag": In(TAG_BITS),
            "write": In(1),
            "results": In(data.ArrayLayout(result_shape(arch), arch.cols)).array(arch.post_rows),
            "writing": Out(1),
            "done": Out(1),
            "tag": Out(TAG_BITS),
            "address": Out(16),
            "xmem_we": Out(sizes["xmem"].width),
            "xmem_data": Out(sizes["xmem"].width),
            "vmem_we": Out(sizes["vmem"].width),
            "vmem_write_data": Out(sizes["vmem"].width),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        codes = Signal()
        numbers = Signal()
        last_group = Signal()
        group = Signal(6)
        k_words = Signal(len(self.fields.k_words))
        tiles_left = Signal(len(self.fields.n_tiles))
        last_tile = Signal()  # nothing in tiles_left
        plane = Signal(range(CODE_BITS))
        slot = Signal(range(max(2, arch.chunks_per_word)))
        address = Signal(len(self.address))
        word_addr = Signal(len(self.address))  # of plane 0
        active = Signal()                      # the cycle before a write
        tile_done = Signal()                   # would be its last one of a tile
        m.d.sync += [
            active.eq(self.write | (active & ~tile_done)),
            tile_done.eq(~codes | (plane == CODE_BITS - 2)),
            self.writing.eq(active), self.address.eq(address),
            self.done.eq(active & tile_done & last_tile & last_group),
        ]
        with m.If(active):
            with m.If(~tile_done):
                m.d.sync += [plane.eq(plane + 1), address.eq(address + k_words)]
            with m.Else():
                word_done = Signal()
                next_word = Signal(len(word_addr))
                m.d.comb += [
                    word_done.eq(slot == arch.chunks_per_word - 1),
                    next_word.eq(word_addr + Mux(numbers, arch.drain_cycles, word_done)),
                ]
                m.d.sync += [
                    plane.eq(0),
                    slot.eq(Mux(word_done, 0, slot + 1)),
                    word_addr.eq(next_word),
                    address.eq(next_word),
                    tiles_left.eq(tiles_left - 1), last_tile.eq(tiles_left == 1),
                ]
        with m.If(self.begin):
            is_numbers = self.fields.opcode == Opcode.NORM_NUMBERS
            first = Signal(len(word_addr))
            m.d.comb += first.eq(self.fields.dst_addr + Mux(is_numbers, self.group, 0))
            m.d.sync += [
                codes.eq(self.fields.opcode == Opcode.NORM_CODES), numbers.eq(is_numbers),
                last_group.eq(self.last_group), group.eq(self.group),
                self.tag.eq(self.instr_tag), k_words.eq(self.fields.k_words),
                tiles_left.eq(self.fields.n_tiles - 1), last_tile.eq(self.fields.n_tiles == 1),
                slot.eq(0), plane.eq(0), word_addr.eq(first), address.eq(first),
            ]
        self._write_chunk(m, active & ~numbers, group, slot)
        self._write_numbers(m, active & numbers, group)
        return m

    def _write_numbers(self, m, writing, group):
        """The rows of `group` that there are."""
        arch = self.arch
        row_bits = arch.cols * arch.resid_bits
        for lane in range(arch.post_rows):
            mask = Signal(name=f"mask_of_lane_{lane}")
            m.d.sync += mask.eq(writing & (group * arch.post_rows + lane < arch.rows))
            m.d.comb += [
                self.vmem_we.word_select(lane, row_bits).eq(mask.replicate(row_bits)),
                self.vmem_write_data.word_select(lane, row_bits).eq(
                    Cat(number[:arch.resid_bits] for number in self.results[lane])),
            ]

    def _write_chunk(self, m, writing, group, slot):
        """Chunk `slot` of the rows of `group`; chunk 0 clears the rest of the word."""
        arch = self.arch
        unused = arch.lanes - arch.chunks_per_word * arch.cols
        bits = [Cat(result[0] for result in lane) for lane in self.results]
        masks, words = [], []
        present = Signal(arch.chunks_per_word)
        chunks = Signal.like(present, reset_less=True)  # the present one, with the word
        m.d.comb += present.eq(1 << slot)
        m.d.sync += chunks.eq(present)
        for row in range(arch.rows):
            row_mask = Signal(arch.chunks_per_word, name=f"mask_{row}")
            m.d.sync += row_mask.eq(Mux(writing & (group == row // arch.post_rows),
                                        present | spread(slot == 0, len(present)), 0))
            masks += [bit.replicate(arch.cols) for bit in row_mask]
            masks.append(row_mask[0].replicate(unused))
            words += [Mux(bit, bits[row % arch.post_rows], 0) for bit in chunks]
            words.append(C(0, unused))
        m.d.comb += [self.xmem_we.eq(Cat(masks)), self.xmem_data.eq(Cat(words))]
