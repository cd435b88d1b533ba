"""LayerNorm results into the chunks of XMEM."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.norm import CODE_BITS
from bivit.hw.isa import Opcode, layout_of
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
    fields, codes, group, last_group, instr_tag : of the second pass that begins
    write : a tile is in `bits`, for codes also in the 7 cycles that follow
    bits : of each lane
    done : the last write of the last row group is at the port
    tag : program counter of the instruction that writes
    xmem_we, xmem_addr, xmem_data : write port
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        xmem = memories(arch)["xmem"]
        super().__init__({
            "begin": In(1),
            "fields": In(layout_of(Opcode.NORM_CODES)),
            "codes": In(1),
            "group": In(6),
            "last_group": In(1),
            "instr_tag": In(16),
            "write": In(1),
            "bits": In(arch.cols).array(arch.post_rows),
            "done": Out(1),
            "tag": Out(16),
            "xmem_we": Out(xmem.width),
            "xmem_addr": Out(xmem.address_bits),
            "xmem_data": Out(xmem.width),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        codes = Signal()
        last_group = Signal()
        group = Signal(6)
        k_words = Signal(len(self.fields.k_words))
        tiles_left = Signal(len(self.fields.n_tiles))
        plane = Signal(range(CODE_BITS))
        slot = Signal(range(max(2, arch.chunks_per_word)))
        word_addr = Signal(len(self.xmem_addr))  # of plane 0
        writing = Signal()
        tile_done = Signal()
        m.d.comb += [writing.eq(self.write | (plane != 0)),
                     tile_done.eq(~codes | (plane == CODE_BITS - 1))]
        m.d.comb += self.done.eq(writing & tile_done & (tiles_left == 0) & last_group)
        with m.If(writing):
            with m.If(~tile_done):
                m.d.sync += [plane.eq(plane + 1), self.xmem_addr.eq(self.xmem_addr + k_words)]
            with m.Else():
                word_done = Signal()
                next_word = Signal(len(word_addr))
                m.d.comb += [word_done.eq(slot == arch.chunks_per_word - 1),
                             next_word.eq(word_addr + word_done)]
                m.d.sync += [
                    plane.eq(0),
                    slot.eq(Mux(word_done, 0, slot + 1)),
                    word_addr.eq(next_word),
                    self.xmem_addr.eq(next_word),
                    tiles_left.eq(tiles_left - 1),
                ]
        with m.If(self.begin):
            m.d.sync += [
                codes.eq(self.codes), last_group.eq(self.last_group), group.eq(self.group),
                self.tag.eq(self.instr_tag), k_words.eq(self.fields.k_words),
                tiles_left.eq(self.fields.n_tiles - 1), slot.eq(0), plane.eq(0),
                word_addr.eq(self.fields.dst_addr), self.xmem_addr.eq(self.fields.dst_addr),
            ]
        self._write_word(m, writing, group, slot)
        return m

    def _write_word(self, m, writing, group, slot):
        """Chunk `slot` of the rows of `group`; chunk 0 clears the rest of the word."""
        arch = self.arch
        unused = arch.lanes - arch.chunks_per_word * arch.cols
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
            words += [Mux(bit, self.bits[row % arch.post_rows], 0) for bit in chunks]
            words.append(C(0, unused))
        m.d.comb += [self.xmem_we.eq(Cat(masks)), self.xmem_data.eq(Cat(words))]
