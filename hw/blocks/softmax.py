"""Attention bits: scores of a slot against their row minimum, a constant, or a share of a sum."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.exponential import (
    SHARE_STAGES,
    THRESHOLD_BITS,
    AttentionRow,
    sum_stages,
)
from bivit.hw.blocks.lanes import delayed, piece, score_layout, spread
from bivit.hw.blocks.score import minima_layout, slot_start
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, INSTRUCTION, TAG_BITS, Opcode, SoftmaxMode
from bivit.hw.memories import MEM_LATENCY, address_bits, score_shape, score_shift

__all__ = ["SoftmaxThreshold", "timing"]

NEAR_STAGE = 1 + MEM_LATENCY
"""Cycles from a step of the walk, whose address of scores comes a cycle later, to the write of
their bits: RELATIVE and LIMIT."""
FAR_STAGE = NEAR_STAGE + SHARE_STAGES
"""The same for ABSOLUTE."""
TAIL = FAR_STAGE - NEAR_STAGE
"""Cycles without a read after ABSOLUTE, for the order of writes."""


def _pause(arch):
    """Cycles between the two passes of ABSOLUTE.

    The last exponentials of the first pass reach the sums ``FAR_STAGE + sum_stages + 1`` cycles
    after their step, the product takes ``THRESHOLD_BITS``, and the second pass needs it
    ``FAR_STAGE`` cycles after its first step.
    """
    return sum_stages(arch) + THRESHOLD_BITS


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of a SOFTMAX instruction; its first step is that of the pop."""
    if fields["mode"] != SoftmaxMode.ABSOLUTE.value:
        return fields["n_tiles"], fields["n_tiles"] - 1 + NEAR_STAGE
    reads = 2 * fields["n_tiles"] * arch.drain_cycles + _pause(arch)
    return reads + TAIL, reads - 1 + FAR_STAGE


class SoftmaxThreshold(wiring.Component):
    """Attention bits of valid keys that are not masked, zero of the others, into PMEM.

    RELATIVE and LIMIT take a score tile a cycle: ``score <= minimum + delta`` and
    ``score <= delta``. ABSOLUTE takes a row group of a tile a cycle, and goes through the tiles
    twice, for the sum of the exponentials and for the bits.

    The first step is in the cycle of the pop, so instructions follow each other without a
    bubble, but for the `TAIL` of ABSOLUTE; see :func:`timing`.

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
            "instr": In(stream.Signature(INSTRUCTION)),
            "score_addr": Out(address_bits(arch.score_slots * arch.score_tiles)),
            "score_data": In(score_layout(arch)),
            "minima": In(minima_layout(arch)),
            "pmem_we": Out(width),
            "pmem_addr": Out(address_bits(arch.pmem_depth)),
            "pmem_data": Out(width),
            "tag": Out(TAG_BITS),
            "busy": Out(1),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        now, held, read, issue, second, ends = self._walk(m)

        absolute = self._is_absolute(now)
        base = [Signal(score_shape(arch), name=f"base_{row}", reset_less=True)
                for row in range(arch.rows)]
        for row, number in enumerate(base):
            minimum = Array(slot[row] for slot in self.minima)[held.slot]
            m.d.sync += number.eq(Mux(held.mode == SoftmaxMode.LIMIT, 0, minimum))
        m.d.sync += self.score_addr.eq(read.address)
        next_read = delayed(m, read, NEAR_STAGE - 1, name="read")
        valid = Signal(arch.keys_per_group, reset_less=True)
        m.d.sync += [bit.eq(column < next_read.keys) for column, bit in enumerate(valid)]
        scores = [list(self.score_data)[row * arch.cols:][:arch.keys_per_group]
                  for row in range(arch.rows)]

        near_bits = self._near(m, scores, valid, base, held)
        far_bits = self._far(m, platform, scores, valid, base, held, next_read.group,
                             first_pass=issue & absolute & ~second, second_pass=issue & second,
                             restart=read.first, summed=ends & absolute & ~second
                             ) if arch.exponentials else [0] * arch.post_rows

        # What is written now, and where.
        target = data.StructLayout({"dst_addr": 16, "position": read.position.shape(),
                                    "group": read.group.shape(), "tag": TAG_BITS, "last": 1})
        reading, chosen = Signal(target), Signal(target)
        m.d.comb += [getattr(reading, name).eq(getattr(read, name))
                     for name in ("dst_addr", "position", "group")]
        m.d.comb += [reading.tag.eq(now.tag), reading.last.eq(ends)]
        near = delayed(m, reading, NEAR_STAGE, name="near")
        far = delayed(m, near, TAIL, name="far")
        near_write = delayed(m, issue & ~absolute, NEAR_STAGE, name="near_write", init=0)
        far_write = delayed(m, issue & second, FAR_STAGE, name="far_write", init=0)
        m.d.comb += chosen.eq(Mux(far_write, far, near))
        places = Cat(chosen.position == index for index in range(arch.key_groups_per_word))
        words, enables = [], []
        for row in range(arch.rows):
            group, lane = divmod(row, arch.post_rows)
            word, enable = piece(Mux(far_write, far_bits[lane], near_bits[row]), places,
                                 chosen.position == 0, width=arch.lanes)
            write = near_write | (far_write & (chosen.group == group))
            words.append(word)
            enables.append(enable & spread(write, arch.lanes))
        m.d.comb += [
            self.pmem_data.eq(Cat(words)), self.pmem_we.eq(Cat(enables)),
            self.pmem_addr.eq(chosen.dst_addr),
            self.tag.eq(chosen.tag),
            self.done.eq((near_write | far_write) & chosen.last),
        ]
        in_flight = Signal(2)
        m.d.sync += in_flight.eq(in_flight + (self.instr.valid & self.instr.ready) - self.done)
        m.d.comb += self.busy.eq(in_flight != 0)
        return m

    def _is_absolute(self, instruction):
        """Whether an instruction takes the way of ABSOLUTE."""
        return instruction.mode == SoftmaxMode.ABSOLUTE if self.arch.exponentials else C(0, 1)

    def _walk(self, m):
        """The passes over a slot: which scores are read now, for what.

        Returns the instruction, the one of the cycle before, the place of the read, whether there
        is one, whether it belongs to the second pass, and whether the pass ends with it.
        """
        arch = self.arch
        instruction = data.StructLayout(FORMATS[Opcode.SOFTMAX] | {"tag": TAG_BITS})
        now, held = Signal(instruction), Signal(instruction, reset_less=True)
        place_layout = data.StructLayout({
            "address": 16,      # score buffer
            "left": 12,         # tiles from this one on
            "last": 1,          # tile of the pass
            "first": 1,         # tile of the pass
            "keys": 16,         # valid keys in this tile and after it
            "position": range(arch.key_groups_per_word),
            "dst_addr": 16,
            "group": range(arch.drain_cycles),
        })
        start, read = Signal(place_layout), Signal(place_layout)
        after = Signal(place_layout, reset_less=True)
        running, second, issue, ends = Signal(), Signal(), Signal(), Signal()
        pause = Signal(range(max(_pause(arch), TAIL) + 1))
        pausing = Signal()
        taken = self.instr.valid & self.instr.ready
        word = data.View(layout_of(Opcode.SOFTMAX), self.instr.payload.word)
        fields = Cat(Value.cast(word[name]) for name in FORMATS[Opcode.SOFTMAX])
        m.d.comb += [
            self.instr.ready.eq(~running & ~pausing),
            issue.eq(running | taken),
            # What heads the queue is looked at whether it may start or not, which is known late.
            now.eq(Mux(self.instr.ready, Cat(fields, self.instr.payload.tag), held)),
            start.address.eq(slot_start(arch, now.slot)),
            start.left.eq(now.n_tiles), start.last.eq(now.n_tiles == 1),
            start.first.eq(1),
            start.keys.eq(now.keys),
            start.dst_addr.eq(now.dst_addr),
            read.eq(Mux(self.instr.ready, start, after)),
            # Without the choice of the instruction before it.
            read.last.eq(Mux(self.instr.ready, word.n_tiles == 1, after.last)),
        ]
        absolute = self._is_absolute(now)
        full, last_group = arch.keys_per_group, arch.drain_cycles - 1
        tile_ends = ~absolute | (read.group == last_group)
        word_ends = read.position == arch.key_groups_per_word - 1
        m.d.comb += ends.eq(issue & tile_ends & read.last)
        m.d.sync += [held.eq(now), after.eq(read), running.eq(issue & ~ends)]
        with m.If(tile_ends):
            m.d.sync += [
                after.address.eq(read.address + 1),
                after.left.eq(read.left - 1), after.last.eq(read.left == 2),
                after.first.eq(0),
                after.keys.eq(Mux(read.keys > full, read.keys - full, 0)),
                after.position.eq(Mux(word_ends, 0, read.position + 1)),
                after.dst_addr.eq(read.dst_addr + word_ends),
                after.group.eq(0),
            ]
        with m.Else():
            m.d.sync += after.group.eq(read.group + 1)
        if arch.exponentials:
            with m.If(ends & absolute):
                m.d.sync += [after.eq(start), second.eq(~second), pausing.eq(1),
                             pause.eq(Mux(second, TAIL, _pause(arch)))]
            with m.Elif(pausing):
                m.d.sync += [pause.eq(pause - 1), pausing.eq(pause != 1),
                             running.eq(second & (pause == 1)), after.eq(after)]
        return now, held, read, issue, second, ends

    def _near(self, m, scores, valid, base, held):
        """Bits of RELATIVE and LIMIT, `NEAR_STAGE` cycles after the step."""
        biases, shape = self.arch.score_biases, score_shape(self.arch)
        bits = shape.width + (not shape.signed)
        least, greatest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1 - biases  # masked: one more
        negative = held.delta[-1] & (held.mode == SoftmaxMode.LIMIT)
        delta = (delayed(m, Cat(held.delta, negative), 1, name="delta").as_signed()
                 >> score_shift(self.arch))
        found = []
        for row, number in enumerate(base):
            limit = Signal(signed(bits), name=f"limit_{row}", reset_less=True)
            total = Signal(signed(max(bits, len(held.delta) + 1) + 1), name=f"total_{row}")
            m.d.comb += total.eq(number + delta)
            m.d.sync += limit.eq(Mux(total > greatest, greatest,
                                     Mux(total < least, least, total)))
            found.append(Cat(~(limit < score) for score in scores[row]) & valid)
        return found

    def _far(self, m, platform, scores, valid, base, held, group, *, first_pass, second_pass,
             restart, summed):
        """Bits of ABSOLUTE, `FAR_STAGE` cycles after the step; the row group takes its turn."""
        arch = self.arch
        reach = FAR_STAGE + sum_stages(arch)
        add = delayed(m, first_pass, reach, name="add", init=0)
        restart = delayed(m, restart, reach, name="restart")
        compare = delayed(m, second_pass, FAR_STAGE, name="compare", init=0)
        begin = delayed(m, summed, reach, name="begin", init=0)
        flip = delayed(m, held.flip, NEAR_STAGE - 1, name="flip")  # the next one may be there
        digits = Signal(THRESHOLD_BITS, reset_less=True)
        left = Signal(range(THRESHOLD_BITS + 1))
        with m.If(begin):
            m.d.sync += [left.eq(THRESHOLD_BITS), digits.eq(held.threshold)]
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), digits.eq(digits >> 1)]
        scores_group = delayed(m, group, 1, name="scores_group")

        found = []
        for index in range(arch.post_rows):
            lane = place(m, platform, f"row_{index}", AttentionRow(arch))
            rows = [min(row, arch.rows - 1)
                    for row in range(index, arch.drain_cycles * arch.post_rows, arch.post_rows)]
            minimum = Signal(score_shape(arch), name=f"minimum_{index}", reset_less=True)
            m.d.sync += minimum.eq(Array(base[row] for row in rows)[group])
            m.d.comb += [
                *(lane.scores[column].eq(Array(scores[row][column] for row in rows)[scores_group])
                  for column in range(arch.keys_per_group)),
                lane.minimum.eq(minimum), lane.valid.eq(valid),
                lane.multiplier.eq(held.multiplier),
                lane.add.eq(add), lane.restart.eq(restart),
                lane.multiply.eq(left != 0), lane.first.eq(left == THRESHOLD_BITS),
                lane.last.eq(left == 1), lane.digit.eq(digits[0]),
                lane.compare.eq(compare), lane.flip.eq(flip),
            ]
            found.append(lane.bits)
        return found
