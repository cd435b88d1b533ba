"""The sums of rows: a memory whose words are read, changed and written in two cycles."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.memories import SUM_BITS, memories

__all__ = ["RowSums", "update_layout", "words_layout"]


def words_layout(arch: Arch) -> data.ArrayLayout:
    """A word of sums; sum (g, c) has index ``g * cols + c``."""
    return data.ArrayLayout(signed(SUM_BITS), arch.post_rows * arch.cols)


def update_layout(arch: Arch) -> data.StructLayout:
    """What becomes of the word that was addressed in the cycle before."""
    return data.StructLayout({
        "rows": arch.post_rows,  # which of its rows change
        "start": 1,    # nothing was summed before
        "maximum": 1,  # keep the greater, do not add
        "terms": words_layout(arch),
    })


class RowSums(wiring.Component):
    """``sums_depth`` words of sums. A change may follow in every cycle, also of the same word.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    address : of a word
    update : a cycle later, its change
    words : a cycle after its address, the word before that change
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "address": In(memories(arch)["sums"].address_bits),
            "update": In(update_layout(arch)),
            "words": Out(words_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        size, update = memories(self.arch)["sums"], self.update
        m.submodules.memory = memory = Memory(shape=unsigned(size.width), depth=size.depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        present = Signal(size.address_bits)   # address of the cycle before
        written = Signal(words_layout(self.arch), reset_less=True)  # by the change before this one
        repeated = Signal()                   # which was one of the same word
        changed = Signal(words_layout(self.arch))
        m.d.comb += [
            read.addr.eq(self.address), write.addr.eq(present), write.data.eq(changed),
            write.en.eq(update.rows.any()), self.words.eq(Mux(repeated, written, read.data)),
        ]
        m.d.sync += [present.eq(self.address), written.eq(changed),
                     repeated.eq(update.rows.any() & (present == self.address))]
        for index, (old, new, term) in enumerate(
                zip(self.words, changed, update.terms, strict=True)):
            keep = ~update.rows[index // self.arch.cols] | (
                ~update.start & update.maximum & (old >= term))
            m.d.comb += new.eq(Mux(keep, old, Mux(update.start | update.maximum, 0, old) + term))
        return m
