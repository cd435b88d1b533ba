"""The load unit: pixels of the input stream into bit planes of IMEM."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.output import BEAT
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, INSTRUCTION, Opcode
from bivit.hw.memories import BEAT_BITS, memories

__all__ = ["ENDED_EARLY", "ENDED_LATE", "LoadUnit", "timing"]

PIXELS_PER_BEAT = BEAT_BITS // CODE_BITS
ENDED_EARLY = 5
"""Error code: tlast before the final beat."""
ENDED_LATE = 6
"""Error code: no tlast on the final beat."""

_FIELDS = FORMATS[Opcode.LOAD]
_ACCEPT_PLANE = 5
"""Plane of the last word from which on a next instruction cannot catch up with the writes."""


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Cycles from pop to the next possible pop, and from pop to done; input always valid.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        LOAD.
    fields : dict
        Fields of the instruction.
    """
    assert opcode is Opcode.LOAD
    whole, rest = divmod(fields["pixels"], arch.lanes)
    beats = [arch.lanes // PIXELS_PER_BEAT] * whole
    if rest:
        beats.append(-(-rest // PIXELS_PER_BEAT))
    # A word is moved on when it is complete and the planes of the one before are written.
    gaps = sum(max(count, CODE_BITS) for count in beats) * fields["tokens"]
    last_word = 1 + beats[0] + gaps - max(beats[0], CODE_BITS)
    return last_word + 1 + _ACCEPT_PLANE, last_word + CODE_BITS


class LoadUnit(wiring.Component):
    """Runs LOAD: gathers one word of pixels of a row while the planes of another are written.

    Planes have ``ceil(pixels / lanes)`` words, bits past the last pixel are zero.
    After an error nothing moves until `clear`.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    instr : instructions with their program counter
    clear : back to idle, no error
    done : a pulse for each completed instruction
    busy : an instruction is not completed
    error : 0, ``ENDED_EARLY`` or ``ENDED_LATE``
    s_axis : the input stream
    imem_we, imem_addr, imem_data : write port, `imem_we` a bit mask
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        imem = memories(arch)["imem"]
        super().__init__({
            "instr": In(stream.Signature(INSTRUCTION)),
            "clear": In(1),
            "done": Out(1),
            "busy": Out(1),
            "error": Out(3),
            "s_axis": In(stream.Signature(BEAT)),
            "imem_we": Out(imem.width),
            "imem_addr": Out(imem.address_bits),
            "imem_data": Out(imem.width),
        })

    def elaborate(self, platform):
        m = Module()
        lanes = self.arch.lanes
        word = data.View(layout_of(Opcode.LOAD), self.instr.p.word)
        fields = Signal(layout_of(Opcode.LOAD))
        # Gathering: `gathered` is CODE_BITS planes of `lanes` bits.
        active = Signal()
        wants = Signal()  # beats: there are tokens left, and no error
        full = Signal()
        final = Signal()
        gathered = Signal(CODE_BITS * lanes)
        beat_in_word = Signal(range(max(2, lanes // PIXELS_PER_BEAT)))
        pixels_left = Signal(_FIELDS["pixels"])
        tokens_left = Signal(_FIELDS["tokens"])
        row = Signal(_FIELDS["row"])
        full_row = Signal(_FIELDS["row"])
        word_in_row = Signal(_FIELDS["k_words"])
        full_word = Signal(_FIELDS["k_words"])
        # Writing: the present plane lowest.
        writing = Signal()
        writing_final = Signal()
        plane = Signal(range(CODE_BITS))
        free = Signal(init=1)  # in the next cycle
        planes = Signal(CODE_BITS * lanes)
        write_row = Signal(_FIELDS["row"])
        stride = Signal(_FIELDS["k_words"])
        # Whether an instruction may be taken, known a cycle before.
        ready = Signal(init=1)
        move, space = Signal(), Signal()
        row_written = Signal(self.arch.rows)

        m.d.comb += [
            move.eq(full & free),
            space.eq(~full | free),
            row_written.eq(Cat(writing & (write_row == row) for row in range(self.arch.rows))),
            self.done.eq(writing & writing_final & free),
            self.busy.eq(active | writing),
            self.instr.ready.eq(ready),
            self.s_axis.ready.eq(wants & space),
            self.imem_data.eq(planes[:lanes].replicate(self.arch.rows)),
            self.imem_we.eq(Cat(bit.replicate(lanes) for bit in row_written)),
        ]
        with m.If(writing):
            m.d.sync += [planes.eq(planes >> lanes), plane.eq(plane + 1),
                         free.eq(free | (plane == CODE_BITS - 2)), writing.eq(~free),
                         self.imem_addr.eq(self.imem_addr + stride)]
        with m.If(move):
            m.d.sync += [
                full.eq(0), writing.eq(1), writing_final.eq(final), plane.eq(0), free.eq(0),
                planes.eq(gathered), write_row.eq(full_row), stride.eq(fields.k_words),
                self.imem_addr.eq(fields.dst_addr + full_word),
            ]
            with m.If(final):
                m.d.sync += active.eq(0)
        # The place of the next beat holds anything, and with it those behind the first one.
        with m.If(space):
            m.d.sync += gathered.eq(self._insert(m, gathered, beat_in_word, pixels_left))
        with m.If(self.s_axis.valid & self.s_axis.ready):
            row_done = pixels_left <= PIXELS_PER_BEAT
            word_done = row_done | (beat_in_word == lanes // PIXELS_PER_BEAT - 1)
            instruction_done = row_done & (tokens_left == 1)
            m.d.sync += [
                full.eq(word_done), final.eq(instruction_done), wants.eq(~instruction_done),
                full_row.eq(row), full_word.eq(word_in_row),
                beat_in_word.eq(Mux(word_done, 0, beat_in_word + 1)),
                word_in_row.eq(Mux(row_done, 0, Mux(word_done, word_in_row + 1, word_in_row))),
                pixels_left.eq(Mux(row_done, fields.pixels, pixels_left - PIXELS_PER_BEAT)),
            ]
            with m.If(row_done):
                m.d.sync += [row.eq(row + 1), tokens_left.eq(tokens_left - 1)]
            with m.If(self.s_axis.p.last & ~(instruction_done & fields.last)):
                m.d.sync += [self.error.eq(ENDED_EARLY), full.eq(0), wants.eq(0)]
            with m.Elif(~self.s_axis.p.last & instruction_done & fields.last):
                m.d.sync += [self.error.eq(ENDED_LATE), full.eq(0), wants.eq(0)]
        # No instruction is taken after an error: the last word of the present one is never moved.
        m.d.sync += ready.eq(Mux(ready, ~self.instr.valid, ~active & (plane == _ACCEPT_PLANE - 1)))
        with m.If(ready):  # whether it may start or not, which is known late
            m.d.sync += [
                fields.eq(word), active.eq(self.instr.valid), wants.eq(self.instr.valid),
                row.eq(word.row),
                tokens_left.eq(word.tokens), pixels_left.eq(word.pixels),
                word_in_row.eq(0), beat_in_word.eq(0),
            ]
        with m.If(self.clear):
            m.d.sync += [ready.eq(1), active.eq(0), wants.eq(0), full.eq(0), writing.eq(0),
                         free.eq(1), self.error.eq(0)]
        return m

    def _insert(self, m, gathered, beat_in_word, pixels_left):
        """The planes with the present beat; the first beat of a word clears the others."""
        lanes, bits = self.arch.lanes, []
        beats = Signal(lanes // PIXELS_PER_BEAT)
        pixels = Signal(data.ArrayLayout(CODE_BITS, PIXELS_PER_BEAT))
        m.d.comb += beats.eq(1 << beat_in_word)
        for index in range(PIXELS_PER_BEAT):
            with m.If(pixels_left > index):
                m.d.comb += pixels[index].eq(self.s_axis.p.data.word_select(index, CODE_BITS))
        for plane in range(CODE_BITS):
            group = Cat(pixel[plane] for pixel in pixels)
            for beat in range(lanes // PIXELS_PER_BEAT):
                old = gathered[plane * lanes + beat * PIXELS_PER_BEAT:][:PIXELS_PER_BEAT]
                kept = old if beat == 0 else Mux(beats[0], 0, old)
                bits.append(Mux(beats[beat], group, kept))
        return Cat(bits)
