"""LayerNorm results into the chunks of XMEM or the words of VMEM."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.norm import result_shape
from bivit.hw.encoding import layout_of
from bivit.hw.isa import TAG_BITS, Opcode
from bivit.hw.memories import memories

__all__ = ["NormWriter"]


class NormWriter(wiring.Component):
    """Address, mask and word of each write of a second pass.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    begin : take the instruction and the row group that follow
    fields, group, last_group, instr_tag : of the second pass that begins
    write : a tile is in `results`, for codes also in the 7 cycles that follow
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
        plane = Signal(range(CODE_BITS))
        slot = Signal(range(max(2, arch.chunks_per_word)))
        word_addr = Signal(len(self.address))  # of plane 0
        tile_done = Signal()
        m.d.comb += [self.writing.eq(self.write | (plane != 0)),
                     tile_done.eq(~codes | (plane == CODE_BITS - 1))]
        m.d.comb += self.done.eq(self.writing & tile_done & (tiles_left == 0) & last_group)
        with m.If(self.writing):
            with m.If(~tile_done):
                m.d.sync += [plane.eq(plane + 1), self.address.eq(self.address + k_words)]
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
                    self.address.eq(next_word),
                    tiles_left.eq(tiles_left - 1),
                ]
        with m.If(self.begin):
            is_numbers = self.fields.opcode == Opcode.NORM_NUMBERS
            first = Signal(len(word_addr))
            m.d.comb += first.eq(self.fields.dst_addr + Mux(is_numbers, self.group, 0))
            m.d.sync += [
                codes.eq(self.fields.opcode == Opcode.NORM_CODES), numbers.eq(is_numbers),
                last_group.eq(self.last_group), group.eq(self.group),
                self.tag.eq(self.instr_tag), k_words.eq(self.fields.k_words),
                tiles_left.eq(self.fields.n_tiles - 1), slot.eq(0), plane.eq(0),
                word_addr.eq(first), self.address.eq(first),
            ]
        self._write_chunk(m, self.writing & ~numbers, group, slot)
        self._write_numbers(m, self.writing & numbers, group)
        return m

    def _write_numbers(self, m, writing, group):
        """The rows of `group` that there are."""
        arch = self.arch
        row_bits = arch.cols * arch.resid_bits
        for lane in range(arch.post_rows):
            inside = group * arch.post_rows + lane < arch.rows
            m.d.comb += [
                self.vmem_we.word_select(lane, row_bits).eq((writing & inside).replicate(row_bits)),
                self.vmem_write_data.word_select(lane, row_bits).eq(
                    Cat(number[:arch.resid_bits] for number in self.results[lane])),
            ]

    def _write_chunk(self, m, writing, group, slot):
        """Chunk `slot` of the rows of `group`; chunk 0 clears the rest of the word."""
        arch = self.arch
        unused = arch.lanes - arch.chunks_per_word * arch.cols
        bits = [Cat(result[0] for result in lane) for lane in self.results]
        masks, words = [], []
        chunks = Signal(arch.chunks_per_word)   # the present one
        cleared = Signal(arch.chunks_per_word)  # and those that its write clears
        m.d.comb += [chunks.eq(1 << slot), cleared.eq(Mux(slot == 0, ~0, chunks))]
        for row in range(arch.rows):
            row_mask = Signal(arch.chunks_per_word, name=f"mask_{row}")
            with m.If(writing & (group == row // arch.post_rows)):
                m.d.comb += row_mask.eq(cleared)
            masks += [bit.replicate(arch.cols) for bit in row_mask]
            masks.append((row_mask[0] & chunks[0]).replicate(unused))
            words += [Mux(bit, bits[row % arch.post_rows], 0) for bit in chunks]
            words.append(C(0, unused))
        m.d.comb += [self.xmem_we.eq(Cat(masks)), self.xmem_data.eq(Cat(words))]
