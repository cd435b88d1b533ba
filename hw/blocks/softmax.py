"""Softmax threshold: scores of a slot against their row minimum, one tile a cycle."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import counts_layout, delayed, piece, spread
from bivit.hw.blocks.score import minima_layout
from bivit.hw.isa import INSTR_BITS, Opcode, layout_of

__all__ = ["SoftmaxThreshold", "timing"]


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of a SOFTMAX instruction: one tile a cycle from the pop on."""
    return fields["n_tiles"], fields["n_tiles"] + 1


class SoftmaxThreshold(wiring.Component):
    """``bit = count <= minimum + delta`` of valid keys, zero of the others, into PMEM.

    The first tile is read in the cycle of the pop, so instructions follow each other without a
    bubble; see :func:`timing`.

    Members
    -------
    instr : ``In(stream.Signature(...))``
        Instructions, with their program counter as `tag`.
    score_addr, score_data, minima
        Read port of the score buffer (two cycles), row minima.
    pmem_we, pmem_addr, pmem_data : ``Out``
        Write port.
    tag : ``Out``
        Program counter of the instruction that writes in this cycle.
    busy : ``Out``
        An instruction was popped and is not done.
    done : ``Out``
        An instruction's last write is at the port.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        width = arch.rows * arch.lanes
        super().__init__({
            "instr": In(stream.Signature(data.StructLayout({"word": INSTR_BITS, "tag": 16}))),
            "score_addr": Out(range(arch.score_slots * arch.score_tiles)),
            "score_data": In(counts_layout(arch)),
            "minima": In(minima_layout(arch)),
            "pmem_we": Out(width),
            "pmem_addr": Out(range(arch.pmem_depth)),
            "pmem_data": Out(width),
            "tag": Out(16),
            "busy": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        fields = data.View(layout_of(Opcode.SOFTMAX), self.instr.payload.word)

        # `tile` is the one whose scores are read now, `rest` what is left after it.
        state = data.StructLayout({
            "address": 16,      # score buffer
            "left": 12,         # tiles after this one
            "keys": 16,         # valid keys in this tile and after it
            "position": range(arch.key_groups_per_word),
            "dst_addr": 16,
            "slot": 2,
            "delta": 12,
            "tag": 16,
        })
        rest, tile = Signal(state, reset_less=True), Signal(state)
        running, issue = Signal(), Signal()
        m.d.comb += [
            self.instr.ready.eq(~running),
            issue.eq(running | self.instr.valid),
        ]
        with m.If(running):
            m.d.comb += tile.eq(rest)
        with m.Else():
            m.d.comb += [
                tile.address.eq(fields.slot * arch.score_tiles),
                tile.left.eq(fields.n_tiles - 1),
                tile.keys.eq(fields.keys),
                tile.position.eq(0),
                tile.dst_addr.eq(fields.dst_addr),
                tile.slot.eq(fields.slot),
                tile.delta.eq(fields.delta),
                tile.tag.eq(self.instr.payload.tag),
            ]
        full = arch.keys_per_group
        word_ends = tile.position == arch.key_groups_per_word - 1
        m.d.sync += [
            running.eq(issue & (tile.left != 0)),
            rest.eq(tile),
            rest.address.eq(tile.address + 1),
            rest.left.eq(tile.left - 1),
            rest.keys.eq(Mux(tile.keys > full, tile.keys - full, 0)),
            rest.position.eq(Mux(word_ends, 0, tile.position + 1)),
            rest.dst_addr.eq(tile.dst_addr + word_ends),
        ]
        m.d.comb += self.score_addr.eq(tile.address)

        self._write(m, delayed(m, tile, 1, name="tile"), delayed(m, issue, 2, name="write", init=0))
        m.d.comb += [
            self.tag.eq(delayed(m, tile.tag, 2, name="tag")),
            self.done.eq(delayed(m, issue & (tile.left == 0), 2, name="done", init=0)),
        ]
        reading = delayed(m, issue, 1, name="reading", init=0)
        m.d.sync += self.busy.eq(issue | reading)
        return m

    def _write(self, m, tile, write):
        """Compare and write; `tile` is the one whose scores come in the next cycle."""
        arch = self.arch
        width = max(arch.count_bits, len(tile.delta)) + 1
        limits = [Signal(width, name=f"limit_{row}", reset_less=True) for row in range(arch.rows)]
        for row, limit in enumerate(limits):
            minimum = Array(slot[row] for slot in self.minima)[tile.slot]
            m.d.sync += limit.eq(minimum + tile.delta)
        valid = Signal(arch.keys_per_group, reset_less=True)
        place = Signal(arch.key_groups_per_word, reset_less=True)
        clear = Signal(reset_less=True)
        m.d.sync += [bit.eq(column < tile.keys) for column, bit in enumerate(valid)]
        m.d.sync += [bit.eq(index == tile.position) for index, bit in enumerate(place)]
        m.d.sync += [clear.eq(tile.position == 0), self.pmem_addr.eq(tile.dst_addr)]

        bits, enables = [], []
        for row, limit in enumerate(limits):
            counts = list(self.score_data)[row * arch.cols:][:arch.keys_per_group]
            near = Cat(count <= limit for count in counts) & valid
            word, enable = piece(near, place, clear, width=arch.lanes)
            bits.append(word)
            enables.append(enable & spread(write, arch.lanes))
        m.d.comb += [self.pmem_data.eq(Cat(bits)), self.pmem_we.eq(Cat(enables))]
