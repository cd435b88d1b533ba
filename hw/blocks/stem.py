"""The stem engine: pixels of the input stream times 8-bit weights, rescaled into SMEM."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import delayed, spread
from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE, PIXELS_PER_BEAT
from bivit.hw.blocks.load import timing as load_timing
from bivit.hw.blocks.memory import Ram
from bivit.hw.blocks.output import BEAT
from bivit.hw.blocks.rescale import RESCALE_LATENCY, Rescale
from bivit.hw.blocks.stem_lane import ODD_BITS, StemLane, lane_latency, sum_bits
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, INSTRUCTION, Opcode
from bivit.hw.memories import BEAT_BITS, CLIPPED_BITS, MEM_LATENCY, SCALE_BITS, memories

__all__ = ["StemUnit", "groups_and_steps", "input_timing", "period", "timing"]

_FIELDS = FORMATS[Opcode.STEM]
_SHORTEST = 4
"""Fewest cycles of a group of channels."""
_WRITE = MEM_LATENCY + RESCALE_LATENCY
"""Cycles from a sum that leaves until it is written."""


def groups_and_steps(arch: Arch, pixels: int, channels: int) -> tuple[int, int]:
    """Groups of channels of a token, and steps of a group: as many STEM words of weights each."""
    return -(-channels // arch.stem_lanes), -(-pixels // arch.stem_simd)


def period(arch: Arch, pixels: int) -> int:
    """Cycles of a group of channels of a token."""
    return max(-(-pixels // arch.stem_simd) + _idle(arch), arch.stem_lanes, _SHORTEST)


def _idle(arch):
    """Cycles behind the steps of a group: a token that is taken beat by beat gives room late."""
    return int(arch.stem_simd == PIXELS_PER_BEAT)


def _sum_latency(arch):
    """Cycles from the address of pixels until they are in the sum."""
    return MEM_LATENCY + lane_latency(arch)


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Cycles from pop to the next possible pop, and from pop to done; input always valid.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        STEM.
    fields : dict
        Fields of the instruction.
    """
    assert opcode is Opcode.STEM
    pixels, channels = fields["pixels"], fields["channels"]
    groups, steps = groups_and_steps(arch, pixels, channels)
    last = channels - (groups - 1) * arch.stem_lanes
    completion = (-(-pixels // PIXELS_PER_BEAT) + (fields["tokens"] * groups - 1)
                  * period(arch, pixels) + steps + last + 1 + _sum_latency(arch) + _WRITE)
    return completion + 1, completion


def input_timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """What `timing` gives, of LOAD or STEM: whichever a target has."""
    return (load_timing if opcode is Opcode.LOAD else timing)(arch, opcode, fields)


class StemUnit(wiring.Component):
    """Runs STEM: one token arrives while another is multiplied and a third one's sums leave.

    After an error nothing more is taken until `clear`.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    instr : instructions with their tag
    clear : back to idle, no error
    done : a pulse for each completed instruction
    busy : an instruction is not completed
    error : 0, ``ENDED_EARLY`` or ``ENDED_LATE``
    s_axis : the input stream
    stem_addr, stem_data, stem_scale_addr, stem_scale_data : read ports, two cycles of latency
    smem_we, smem_write_addr, smem_write_data : write port, `smem_we` a bit mask
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        smem, weights, scales = (sizes[name] for name in ("smem", "stem", "stem_scale"))
        super().__init__({
            "instr": In(stream.Signature(INSTRUCTION)),
            "clear": In(1),
            "done": Out(1),
            "busy": Out(1),
            "error": Out(3),
            "s_axis": In(stream.Signature(BEAT)),
            "stem_addr": Out(weights.address_bits), "stem_data": In(weights.width),
            "stem_scale_addr": Out(scales.address_bits), "stem_scale_data": In(scales.width),
            "smem_we": Out(smem.width),
            "smem_write_addr": Out(smem.address_bits),
            "smem_write_data": Out(smem.width),
        })

    def elaborate(self, platform):
        m = Module()
        fields = Signal(layout_of(Opcode.STEM), reset_less=True)
        active, full = Signal(), Signal(2)
        pop = Signal()
        m.d.comb += [
            self.instr.ready.eq(~active & (self.error == 0)),
            pop.eq(self.instr.valid & self.instr.ready),
            self.busy.eq(active),
        ]
        buffer = self._receive(m, platform, pop, active, fields, full)
        self._leave(m, platform, pop, fields, *self._sums(
            m, platform, *self._issue(m, pop, fields, full, buffer)))
        with m.If(self.done):
            m.d.sync += active.eq(0)
        with m.If(pop):  # the rest of a group's cycles may be left when the last sum is written
            m.d.sync += [fields.eq(data.View(layout_of(Opcode.STEM), self.instr.p.word)),
                         active.eq(1), full.eq(0)]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), full.eq(0), self.error.eq(0)]
        return m

    def _receive(self, m, platform, pop, active, fields, full):
        """Beats into the two halves of a buffer; gives the buffer."""
        half = -(-self.arch.stem_pixels // PIXELS_PER_BEAT)
        beat, into = Signal(range(half)), Signal()
        tokens_left, pixels_left = Signal(_FIELDS["tokens"]), Signal(_FIELDS["pixels"])
        buffer = place(m, platform, "buffer", Ram(
            width=BEAT_BITS, depth=2 << len(beat), granularity=BEAT_BITS))
        taken, token_done, final = Signal(), Signal(), Signal()
        m.d.comb += [
            self.s_axis.ready.eq(active & (tokens_left != 0) & ~full.bit_select(into, 1)
                                 & (self.error == 0)),
            taken.eq(self.s_axis.valid & self.s_axis.ready),
            token_done.eq(pixels_left <= PIXELS_PER_BEAT),
            final.eq(token_done & (tokens_left == 1) & fields.last),
            buffer.we.eq(taken),
            buffer.write_addr.eq(Cat(beat, into)),
            buffer.write_data.eq(self.s_axis.p.data),
        ]
        with m.If(taken):
            m.d.sync += [beat.eq(beat + 1), pixels_left.eq(pixels_left - PIXELS_PER_BEAT)]
            with m.If(token_done):
                m.d.sync += [beat.eq(0), pixels_left.eq(fields.pixels), into.eq(~into),
                             tokens_left.eq(tokens_left - 1),
                             full.bit_select(into, 1).eq(1)]
            with m.If(self.s_axis.p.last & ~final):
                m.d.sync += [self.error.eq(ENDED_EARLY), full.eq(full)]
            with m.Elif(~self.s_axis.p.last & final):
                m.d.sync += [self.error.eq(ENDED_LATE), full.eq(full)]
        with m.If(pop):
            word = data.View(layout_of(Opcode.STEM), self.instr.p.word)
            m.d.sync += [beat.eq(0), into.eq(0), tokens_left.eq(word.tokens),
                         pixels_left.eq(word.pixels)]
        return buffer

    def _issue(self, m, pop, fields, full, buffer):
        """Addresses of pixels and weights, and the pixels.

        Returns
        -------
        tuple of Value
            The pixels of a step, odd numbers, 0 behind the last one; and MEM_LATENCY cycles
            before, whether there are some, and they are the first and the last of a sum.
        """
        arch = self.arch
        simd, beat_bits = arch.stem_simd, len(buffer.write_addr) - 1
        running, half = Signal(), Signal()
        index = Signal(range(period(arch, arch.stem_pixels)))
        end, steps = Signal(_FIELDS["pixels"]), Signal(_FIELDS["pixels"])
        channels_left = Signal(_FIELDS["channels"])
        address = Signal.like(self.stem_addr)
        take, first, last = Signal(), Signal(), Signal()
        group_done, token_done = Signal(), Signal()
        inside = (PIXELS_PER_BEAT // simd).bit_length() - 1  # bits of a step's place in a beat
        m.d.comb += [
            take.eq(running & (index < steps)),
            first.eq(index == 0),
            last.eq(running & (index == steps - 1)),
            group_done.eq(running & (index == end)),
            token_done.eq(group_done & (channels_left <= arch.stem_lanes)),
            buffer.read_addr[0].eq(Cat(index[inside:inside + beat_bits], half)),
            self.stem_addr.eq(address),
        ]
        with m.If(running):
            m.d.sync += [index.eq(index + 1), address.eq(address + take)]
        with m.If(group_done):
            m.d.sync += [index.eq(0), channels_left.eq(channels_left - arch.stem_lanes)]
        with m.If(token_done):
            m.d.sync += [channels_left.eq(fields.channels), address.eq(fields.weight_addr),
                         half.eq(~half),
                         full.bit_select(half, 1).eq(0), running.eq(full.bit_select(~half, 1))]
        with m.Elif(~running & full.bit_select(half, 1)):
            m.d.sync += running.eq(1)
        with m.If(pop):
            word = data.View(layout_of(Opcode.STEM), self.instr.p.word)
            given = (word.pixels + (simd - 1)) >> (simd.bit_length() - 1)
            least = max(arch.stem_lanes, _SHORTEST) - _idle(arch)
            m.d.sync += [
                running.eq(0), half.eq(0), index.eq(0), channels_left.eq(word.channels),
                address.eq(word.weight_addr), steps.eq(given),
                end.eq(Mux(given > least, given, least) - 1 + _idle(arch)),
            ]
        place_in_beat = delayed(m, index[:inside], MEM_LATENCY, name="place_in_beat")
        codes = buffer.read_data[0].word_select(place_in_beat, simd * CODE_BITS)
        whole = ~delayed(m, last, MEM_LATENCY, name="last_of_pixels")
        final = (fields.pixels - 1)[:simd.bit_length() - 1]  # place of the last pixel in its step
        odd = []
        for slot in range(simd):
            code = codes.word_select(slot, CODE_BITS)
            present = whole | (slot <= final) if slot else Const(1)
            odd.append(Cat(Const(1, 1), code[:-1], ~code[-1]) & spread(present, ODD_BITS))
        return Cat(odd), take, first, last

    def _sums(self, m, platform, pixels, take, first, last):
        """All lanes; their sums, and whether these are complete."""
        arch, latency, sums = self.arch, _sum_latency(self.arch), []
        take = delayed(m, take, latency - 1, name="take_after", init=0)
        first = delayed(m, first, latency - 1, name="first_after")
        for index in range(arch.stem_lanes):
            lane = place(m, platform, f"lane_{index}", StemLane(arch))
            m.d.comb += [lane.pixels.eq(pixels), lane.take.eq(take), lane.first.eq(first),
                         lane.weights.eq(self.stem_data.word_select(
                             index, arch.stem_simd * CODE_BITS))]
            sums.append(lane.sum)
        return sums, delayed(m, last, latency, name="last_after", init=0)

    def _leave(self, m, platform, pop, fields, sums, complete):
        """Sums through one rescaling lane, one a cycle, to their places in SMEM."""
        arch, width = self.arch, sum_bits(self.arch)
        rescale = place(m, platform, "rescale", Rescale(width))
        waiting = Signal(width * arch.stem_lanes, reset_less=True)
        count, channels_left = Signal(range(arch.stem_lanes + 1)), Signal(_FIELDS["channels"])
        tokens_left, scale_address = Signal(_FIELDS["tokens"]), Signal.like(self.stem_scale_addr)
        leaves, token_done = Signal(), Signal()
        m.d.comb += [
            leaves.eq(count != 0),
            token_done.eq(leaves & (channels_left == 1)),
            self.stem_scale_addr.eq(scale_address),
            rescale.number.eq(
                delayed(m, waiting[:width], MEM_LATENCY, name="number").as_signed()),
            rescale.scale.eq(self.stem_scale_data[:SCALE_BITS].as_signed()),
            rescale.bias.eq(
                delayed(m, self.stem_scale_data[SCALE_BITS:], 1, name="bias").as_signed()),
            rescale.shift.eq(fields.shift),
        ]
        with m.If(leaves):
            m.d.sync += [waiting.eq(waiting >> width), count.eq(count - 1),
                         channels_left.eq(channels_left - 1),
                         scale_address.eq(scale_address + 1)]
        with m.If(token_done):
            m.d.sync += [channels_left.eq(fields.channels), tokens_left.eq(tokens_left - 1),
                         scale_address.eq(fields.scale_addr)]
        with m.If(complete):
            remaining = Signal.like(channels_left)
            m.d.comb += remaining.eq(Mux(token_done, fields.channels, channels_left - leaves))
            m.d.sync += [waiting.eq(Cat(sums)), count.eq(
                Mux(remaining > arch.stem_lanes, arch.stem_lanes, remaining))]
        with m.If(pop):
            word = data.View(layout_of(Opcode.STEM), self.instr.p.word)
            m.d.sync += [count.eq(0), channels_left.eq(word.channels),
                         tokens_left.eq(word.tokens), scale_address.eq(word.scale_addr)]
        address, part = self._place(m, pop, fields, leaves, token_done)
        late = {"address": address, "part": part, "leaves": leaves,
                "last": token_done & (tokens_left == 1)}
        late = {name: delayed(m, value, _WRITE, name=name, init=0)
                for name, value in late.items()}
        numbers = arch.post_rows * arch.cols
        m.d.comb += [
            self.smem_write_addr.eq(late["address"]),
            self.smem_write_data.eq(rescale.result.as_unsigned().replicate(numbers)),
            self.smem_we.eq(Cat(spread(late["leaves"] & (late["part"] == number), CLIPPED_BITS)
                                for number in range(numbers))),
            self.done.eq(late["last"]),
        ]

    def _place(self, m, pop, fields, leaves, token_done):
        """The word in SMEM of the number that leaves, and its place in the word."""
        arch = self.arch
        row, segment_left = Signal(range(arch.rows)), Signal(_FIELDS["segment"])
        column, tile = Signal(range(max(2, arch.cols))), Signal(_FIELDS["dst_stride"])
        block = Signal(_FIELDS["dst_addr"])
        group = Signal(range(max(2, arch.drain_cycles)))
        first_part = Signal(range(max(2, arch.post_rows * arch.cols)))
        m.d.comb += [
            group.eq(Array([row // arch.post_rows for row in range(arch.rows)])[row]),
            first_part.eq(Array([row % arch.post_rows * arch.cols
                                 for row in range(arch.rows)])[row]),
        ]
        with m.If(leaves):
            m.d.sync += column.eq(column + 1)
            with m.If(column == arch.cols - 1):
                m.d.sync += [column.eq(0), tile.eq(tile + arch.drain_cycles)]
        with m.If(token_done):
            segment_done = segment_left == 1
            block_done = segment_done | (row == arch.rows - 1)
            m.d.sync += [
                column.eq(0), tile.eq(0),
                block.eq(block + Mux(block_done, fields.dst_stride, 0)),
                row.eq(Mux(segment_done, fields.row, Mux(block_done, 0, row + 1))),
                segment_left.eq(Mux(segment_done, fields.segment, segment_left - 1)),
            ]
        with m.If(pop):
            word = data.View(layout_of(Opcode.STEM), self.instr.p.word)
            m.d.sync += [column.eq(0), tile.eq(0), block.eq(word.dst_addr), row.eq(word.row),
                         segment_left.eq(word.segment)]
        return ((block + group + tile)[:len(self.smem_write_addr)],
                (first_part + column)[:len(first_part)])
