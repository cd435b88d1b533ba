"""Issue of matrix products: loops, addresses, the drain rule, and the record of each pass."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import latency as array_latency
from bivit.hw.blocks.lanes import PARAM_LEAD, delayed, pass_layout
from bivit.hw.blocks.post import latency as post_latency
from bivit.hw.blocks.rounding import times
from bivit.hw.encoding import layout_of
from bivit.hw.isa import INSTRUCTION, AddSource, ASource, BSource, Destination, Opcode

__all__ = ["MatmulIssue", "WORD_LATENCY", "drain_of", "next_counter", "passes_of", "timing"]

WORD_LATENCY = 3
"""Cycles from the address of a word pair to the pair at the array: memory, then source register."""


def passes_of(opcode: Opcode, fields: dict[str, int]) -> int:
    """Passes (tile, plane of A, plane of B) of an instruction."""
    return fields["n_tiles"] * fields.get("a_planes", 1) * fields.get("b_planes", 1)


def drain_of(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> int:
    """Drain cycles of each pass of an instruction (D_pass)."""
    if opcode is not Opcode.MM_ACC:
        return 1
    source = fields.get("add_src", 0)
    dual = source == fields.get("add2_src", 0) and source != AddSource.NONE.value
    return arch.drain_cycles << dual


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int], counter: int = 0):
    """Occupancy and completion of a matrix product.

    Parameters
    ----------
    counter : int
        The drain counter in the cycle after the pop: what :func:`next_counter` gives for the
        instruction before.

    Returns
    -------
    tuple[int, int]
        Cycles from the pop to the next possible pop, and to the ``done`` pulse.
    """
    drain = drain_of(arch, opcode, fields)
    words = fields["k_words"]
    occupancy = max(counter, words) + (passes_of(opcode, fields) - 1) * max(words, drain)
    return occupancy, (occupancy + WORD_LATENCY + array_latency(arch) + drain - 1
                       + post_latency(arch))


def next_counter(drain: int, idle: int) -> int:
    """Drain counter in the cycle after a pop, `idle` cycles after the last word of an instruction.

    `drain` is what :func:`drain_of` gives for that instruction.
    """
    return max(drain - idle, 0)


class MatmulIssue(wiring.Component):
    """Turns MM instructions into one word pair a cycle for the array, and a record for each pass.

    The next instruction is popped in the cycle of the last word, so that instructions follow each
    other without a bubble; see :func:`timing`. The operands reach the array ``WORD_LATENCY`` cycles
    after their address, the record ``PARAM_LEAD`` cycles before the counts of its pass.

    Members
    -------
    instr : ``In(stream.Signature(INSTRUCTION))``
        Instructions.
    a_addr, b_addr : ``Out``
        Read address of all operand memories of either side.
    a_data, b_data : ``In``, arrays
        Their data, two cycles later, in the order of ``ASource`` and ``BSource``.
    a, b, valid, first, last : ``Out``
        To the array.
    pass_valid, pass_ : ``Out``
        To the post-processing.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "instr": In(stream.Signature(INSTRUCTION)),
            "a_addr": Out(16),
            "b_addr": Out(24),
            "a_data": In(arch.rows * arch.lanes).array(len(ASource)),
            "b_data": In(arch.cols * arch.lanes).array(len(BSource)),
            "a": Out(arch.rows * arch.lanes),
            "b": Out(arch.cols * arch.lanes),
            "valid": Out(1),
            "first": Out(1),
            "last": Out(1),
            "pass_valid": Out(1),
            "pass_": Out(pass_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        a_source, b_source = Signal(ASource), Signal(BSource)
        words, words_left = Signal(8), Signal(8)  # of a pass: all; with the present one
        plane_a, plane_b = Signal(4), Signal(4)
        planes_a_before, planes_b_before = Signal(4), Signal(4)  # before the last one
        tiles_left = Signal(12)  # after the present one
        # Of the present cycle, known in the one before: whether a word pair enters, whether it is
        # the last one of its pass, and whether an instruction may be taken.
        issue, end_pass, ready = Signal(), Signal(), Signal(init=1)
        first_word, last_word = Signal(), Signal()
        last_a, last_b, last_tile = Signal(), Signal(), Signal()
        end_tile = Signal()
        m.d.comb += [
            end_tile.eq(end_pass & last_a & last_b),
            self.instr.ready.eq(ready),
        ]
        most = 2 * self.arch.drain_cycles
        pass_drain, drain = Signal(range(most + 1)), Signal(range(most + 1))
        rest = Signal(range(most))
        # The drain counter of the next cycle, which must be at most the words of its pass.
        m.d.comb += drain.eq(Mux(end_pass, pass_drain, rest))
        m.d.sync += rest.eq(Mux(drain == 0, 0, drain - 1))

        last_b_next, last_a_next = Signal(), Signal()
        m.d.comb += [
            last_b_next.eq(Mux(last_b, planes_b_before.all(), plane_b == planes_b_before)),
            last_a_next.eq(Mux(~last_b, last_a, Mux(
                last_a, planes_a_before.all(), plane_a == planes_a_before))),
        ]
        with m.If(issue):
            m.d.sync += [
                words_left.eq(Mux(last_word, words, words_left - 1)), first_word.eq(last_word),
                last_word.eq(Mux(last_word, words == 1, words_left == 2))]
        with m.If(end_pass):
            m.d.sync += [plane_b.eq(Mux(last_b, 0, plane_b + 1)),
                         last_b.eq(last_b_next), last_a.eq(last_a_next)]
            with m.If(last_b):
                m.d.sync += plane_a.eq(Mux(last_a, 0, plane_a + 1))
        with m.If(end_tile):
            m.d.sync += [tiles_left.eq(tiles_left - 1), last_tile.eq(tiles_left == 1)]
        self._step_addresses(m, issue, end_pass, last_a, last_b)

        # In the next cycle this pass goes on, another one begins, or its first word waited.
        last_pass, enters = last_a & last_b & last_tile, Signal()
        pass_next = last_b_next & last_a_next & Mux(last_a & last_b, tiles_left == 1, last_tile)
        m.d.comb += enters.eq(~(words < drain))
        with m.If(issue & ~last_word):
            m.d.sync += [issue.eq(1), end_pass.eq(words_left == 2),
                         ready.eq((words_left == 2) & last_pass)]
        with m.Else():
            m.d.sync += [
                issue.eq(enters), end_pass.eq(enters & Mux(issue, words == 1, last_word)),
                ready.eq(enters & Mux(issue, (words == 1) & pass_next, last_word & last_pass))]

        # What heads the queue is taken over whether it may start or not, which is known late.
        bits, score, acc = (data.View(layout_of(opcode), self.instr.payload.word) for opcode in
                            (Opcode.MM_BITS, Opcode.MM_SCORE, Opcode.MM_ACC))
        with m.If(ready):
            numbers = bits.opcode == Opcode.MM_ACC
            one_word, one_tile = bits.k_words == 1, bits.n_tiles == 1
            one_a, one_b = ~numbers | (acc.a_planes == 1), ~numbers | (acc.b_planes == 1)
            m.d.sync += [
                issue.eq(self.instr.valid & ~(bits.k_words < drain)),
                end_pass.eq(self.instr.valid & one_word & (drain <= 1)),
                ready.eq(~self.instr.valid
                         | (one_word & one_tile & one_a & one_b & (drain <= 1))),
                plane_a.eq(0), plane_b.eq(0),
                a_source.eq(bits.a_src), b_source.eq(bits.b_src),
                words.eq(bits.k_words), words_left.eq(bits.k_words),
                tiles_left.eq(bits.n_tiles - 1),
                planes_a_before.eq(Mux(numbers, acc.a_planes - 2, ~0)),
                planes_b_before.eq(Mux(numbers, acc.b_planes - 2, ~0)),
                pass_drain.eq(Mux(numbers, Mux(_is_dual(acc), most, most // 2), 1)),
                first_word.eq(1), last_word.eq(one_word),
                last_a.eq(one_a), last_b.eq(one_b), last_tile.eq(one_tile),
                self._a_base.eq(bits.a_addr), self._a_plane.eq(bits.a_addr),
                self.a_addr.eq(bits.a_addr),
                self._b_tile.eq(bits.b_addr), self.b_addr.eq(bits.b_addr),
            ]
        self._operands(m, issue, a_source, b_source, first_word, last_word)
        self._records(m, ready, end_pass, end_tile, Cat(
            last_pass, (plane_a == 0) & (plane_b == 0), last_a & last_b, plane_a + plane_b))
        return m

    def _records(self, m, ready, end_pass, end_tile, passed):
        """The record of each pass, made a cycle later than its words enter."""
        record = Signal(pass_layout(self.arch))
        self._keys_left, self._stride = Signal(16), Signal(12)
        self._add_start, self._add_left, self._add_tiles = Signal(16), Signal(12), Signal(12)
        taken = delayed(m, self.instr.payload, 1, name="taken")
        takes, ended_tile = (delayed(m, value, 1, name=name, init=0) for name, value in
                             (("takes", ready), ("ended_tile", end_tile)))
        with m.If(ended_tile):
            self._step_record(m, record)
        with m.If(takes):
            self._start_record(m, record, taken.tag, *(
                data.View(layout_of(opcode), taken.word)
                for opcode in (Opcode.MM_BITS, Opcode.MM_SCORE, Opcode.MM_ACC)))
        issued = Signal.like(record)
        last_pass, plane_first, plane_last, *planes = delayed(m, passed, 1, name="passed")
        m.d.comb += [
            issued.eq(record),
            issued.last_pass.eq(last_pass),
            issued.plane_first.eq(plane_first),
            issued.plane_last.eq(plane_last),
            issued.count_shift.eq(Cat(planes) + ~record.use_pv),
        ]
        delay = WORD_LATENCY + array_latency(self.arch) - PARAM_LEAD
        m.d.comb += self.pass_valid.eq(delayed(m, end_pass, delay, name="pass_valid_after", init=0))
        m.d.comb += self.pass_.eq(delayed(m, issued, delay - 1, name="pass_after"))

    def _step_addresses(self, m, issue, end_pass, last_a, last_b):
        """A goes back to its plane for each plane of B; B goes back to its tile for each of A."""
        self._a_base, self._a_plane = Signal(16), Signal(16)
        self._b_tile = Signal(24)
        a_next, b_next = self.a_addr + 1, self.b_addr + 1
        with m.If(issue):
            m.d.sync += [self.a_addr.eq(a_next), self.b_addr.eq(b_next)]
        with m.If(end_pass):
            with m.If(~last_b):
                m.d.sync += self.a_addr.eq(self._a_plane)
            with m.Elif(~last_a):
                m.d.sync += [self._a_plane.eq(a_next), self.b_addr.eq(self._b_tile)]
            with m.Else():
                m.d.sync += [self.a_addr.eq(self._a_base), self._a_plane.eq(self._a_base),
                             self._b_tile.eq(b_next)]

    def _start_record(self, m, record, tag, bits, score, acc):
        """The record of tile 0."""
        numbers = bits.opcode == Opcode.MM_ACC
        self._set_valid_cols(m, record, score.keys)
        for name in ("dst", "dst_pos", "dst_col", "pv_first", "pv_addr"):
            m.d.sync += record[name].eq(Mux(numbers, acc[name], bits[name]))
        for name, of_numbers, of_bits in (
                ("thr_addr", acc.thr_addr, bits.param_addr), ("use_pv", acc.from_pv, bits.use_pv),
                ("dst_addr", acc.bits_addr, bits.dst_addr), ("rows", acc.row_hi, bits.rows)):
            m.d.sync += record[name].eq(Mux(numbers, of_numbers, of_bits))
        for name in ("slot", "use_bias", "bias_addr"):
            m.d.sync += record[name].eq(score[name])
        for name in ("base", "shift", "add_src", "bend", "bend_addr", "bend_shift", "add2_src",
                     "add2_addr", "sat", "row_lo", "row_hi"):
            m.d.sync += record[name].eq(acc[name])
        m.d.sync += [
            record.mode.eq(bits.opcode.as_value() - Opcode.MM_BITS.value),
            record.tag.eq(tag),
            record.tile.eq(0), record.first_tile.eq(1),
            record.to_bits.eq(Mux(numbers, acc.to_bits, bits.opcode == Opcode.MM_BITS)),
            self._stride.eq(Mux(numbers, acc.dst_stride, bits.dst_stride)),
            record.scale_addr.eq(acc.param_addr),
            record.resid_addr.eq(acc.dst_addr),
            record.dual.eq(_is_dual(acc)),
            record.add_addr.eq(acc.add_addr + times(acc.add_phase, self.arch.drain_cycles)),
            self._add_start.eq(acc.add_addr), self._add_tiles.eq(acc.add_tiles),
            self._add_left.eq(acc.add_tiles - acc.add_phase),
        ]

    def _step_record(self, m, record):
        """From one tile to the next."""
        drain_cycles = self.arch.drain_cycles
        self._set_valid_cols(m, record, self._keys_left)
        m.d.sync += [record.tile.eq(record.tile + 1), record.first_tile.eq(0)]
        for name in ("thr_addr", "pv_addr", "bias_addr", "scale_addr", "bend_addr"):
            m.d.sync += record[name].eq(record[name] + 1)
        for name in ("resid_addr", "add_addr", "add2_addr"):
            m.d.sync += record[name].eq(record[name] + drain_cycles)
        # Without a period, the tiles left count down from 0 and do not reach 1.
        m.d.sync += self._add_left.eq(self._add_left - 1)
        with m.If(self._add_left == 1):
            m.d.sync += [record.add_addr.eq(self._add_start),
                         self._add_left.eq(self._add_tiles)]
        with m.If(record.dst == Destination.V):
            m.d.sync += record.dst_addr.eq(record.dst_addr + self._stride)
        with m.Elif(record.dst_pos == self.arch.chunks_per_word - 1):
            m.d.sync += [record.dst_pos.eq(0), record.dst_addr.eq(record.dst_addr + 1)]
        with m.Else():
            m.d.sync += record.dst_pos.eq(record.dst_pos + 1)

    def _set_valid_cols(self, m, record, keys: Value):
        full = self.arch.keys_per_group
        with m.If(keys >= full):
            m.d.sync += [record.valid_cols.eq(full), self._keys_left.eq(keys - full)]
        with m.Else():
            m.d.sync += [record.valid_cols.eq(keys), self._keys_left.eq(0)]

    def _operands(self, m, issue, a_source, b_source, first, last):
        """Select the sources two cycles after the address, and register."""
        control = delayed(m, Cat(a_source, b_source, first, last), WORD_LATENCY - 1,
                          name="control")
        valid = delayed(m, issue, WORD_LATENCY - 1, name="word_valid", init=0)
        with m.Switch(control[:2]):
            for source in ASource:
                with m.Case(source):
                    m.d.sync += self.a.eq(self.a_data[source.value])
        with m.Switch(control[2:4]):
            for source in BSource:
                with m.Case(source):
                    m.d.sync += self.b.eq(self.b_data[source.value])
        m.d.sync += [self.valid.eq(valid), self.first.eq(control[4]), self.last.eq(control[5])]


def _is_dual(acc):
    """Whether the two addends of an MM_ACC come from the same memory."""
    return (acc.add_src == acc.add2_src) & (acc.add_src != AddSource.NONE)
