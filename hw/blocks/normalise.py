"""LayerNorm in the vector unit: two passes over each row group, to bits, codes or numbers."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.norm import (
    BITS_STAGE,
    NORMALISED_STAGE,
    NUMBER_STAGE,
    PARAMETER,
    ROOT_STAGE,
    NormLane,
    NormWidths,
    control_layout,
)
from bivit.hw.blocks.rounding import limits
from bivit.hw.blocks.writeback import LEAD, NormWriter
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, INSTR_BITS, TAG_BITS, NumberSource, Opcode
from bivit.hw.memories import memories

__all__ = ["Normaliser", "norm_timing"]

BITS_WRITE_STAGE = BITS_STAGE + 1
WRITE_STAGE = NUMBER_STAGE + 1
"""Of codes and numbers."""
OVERLAP = 5
"""Cycles in which the next instruction may run before `done`, which no other one's overtakes."""
NUMBER_CYCLES = 5
"""Cycles of a tile of numbers: its parameters stay until the last stage needs them."""
PARAMETER_STAGE = 2 + NUMBER_CYCLES - 1
"""Stage in which the parameters of codes and numbers are taken, the last one that has them."""


_CYCLES = {Opcode.NORM_BITS: 1, Opcode.NORM_CODES: CODE_BITS, Opcode.NORM_NUMBERS: NUMBER_CYCLES}
"""Cycles of a tile in the second pass."""


def norm_timing(arch: Arch, opcode: Opcode, *, n_tiles: int, groups: int) -> tuple[int, int]:
    """Occupancy and completion of NORM_* (see ``docs/architecture.md``, section 1)."""
    widths = NormWidths(arch)
    wait = widths.wait_for_bits if opcode is Opcode.NORM_BITS else widths.wait_for_codes
    last_cycle = groups * (n_tiles + wait + _CYCLES[opcode] * n_tiles)
    tail = _tail(opcode)
    return last_cycle + tail, last_cycle + tail + OVERLAP


def _tail(opcode):
    """Cycles after the last one of a second pass before another instruction may start."""
    if opcode is Opcode.NORM_BITS:
        return BITS_WRITE_STAGE - OVERLAP
    behind = 0 if opcode is Opcode.NORM_CODES else NUMBER_CYCLES - 1  # the first cycle of a tile
    return WRITE_STAGE - behind - OVERLAP


class Normaliser(wiring.Component):
    """Runs NORM_BITS, NORM_CODES and NORM_NUMBERS.

    A row group is read twice; between the passes its lanes take the square root. The second pass
    has registers of its own for what it needs of its instruction, so that the first pass of
    the next one may follow without a bubble.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, word, instr_tag : take an instruction
    last : the last cycle before another instruction may start
    address, norm_addr : of what is read
    resid_data, vmem_data, norm_data : two cycles later
    writing, done, tag, write_address, xmem_we, xmem_data, vmem_we, vmem_write_data :
        see :class:`NormWriter`
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "start": In(1),
            "word": In(INSTR_BITS),
            "instr_tag": In(TAG_BITS),
            "last": Out(1),
            "address": Out(16),
            "resid_data": In(sizes["resid"].width),
            "vmem_data": In(sizes["vmem"].width),
            "norm_addr": Out(16),
            "norm_data": In(sizes["norm"].width),
            "writing": Out(1),
            "done": Out(1),
            "tag": Out(TAG_BITS),
            "write_address": Out(16),
            "xmem_we": Out(sizes["xmem"].width),
            "xmem_data": Out(sizes["xmem"].width),
            "vmem_we": Out(sizes["vmem"].width),
            "vmem_write_data": Out(sizes["vmem"].width),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        lanes = [place(m, platform, f"lane_{index}", NormLane(arch))
                 for index in range(arch.post_rows)]
        writer = place(m, platform, "writer", NormWriter(arch))
        control = Signal(control_layout(arch))
        valid, from_vmem = self._read(m, control, writer)

        row_bits = arch.cols * arch.resid_bits
        parameters = data.ArrayLayout(PARAMETER, arch.cols)
        numbers = data.ArrayLayout(signed(arch.resid_bits), arch.cols)
        word = Mux(from_vmem, self.vmem_data, self.resid_data)
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.control.eq(control),
                lane.numbers.eq(data.View(numbers, word.word_select(index, row_bits))),
                lane.valid.eq(valid),
                lane.parameters.eq(data.View(parameters, self.norm_data)),
                writer.results[index].eq(lane.results),
            ]
        m.d.comb += self.write_address.eq(writer.address)
        for name in ("writing", "done", "tag", "xmem_we", "xmem_data", "vmem_we",
                     "vmem_write_data"):
            m.d.comb += getattr(self, name).eq(getattr(writer, name))
        return m

    def _read(self, m: Module, control: data.View, writer: NormWriter) -> tuple[Value, Value]:
        """The passes over the numbers. Returns the valid columns and the source in stage 2."""
        arch, widths = self.arch, NormWidths(self.arch)
        word = data.View(layout_of(Opcode.NORM_CODES), self.word)
        fields = Signal(layout_of(Opcode.NORM_CODES))
        tag = Signal(TAG_BITS)
        is_bits = Signal()
        is_codes = Signal()
        group_address = Signal(16)  # of the first word of the row group
        tiles_left = Signal(FORMATS[Opcode.NORM_BITS]["n_tiles"])
        groups_left = Signal(6)
        group = Signal(6)
        columns_left = Signal(signed(FORMATS[Opcode.NORM_BITS]["span"] + 1))
        wait = Signal(range(widths.wait_for_codes))
        phase = Signal(range(CODE_BITS))
        last_phase = Signal(range(CODE_BITS))
        tail = Signal(range(max(map(_tail, _CYCLES))))
        short_tail = Signal()  # of one cycle
        first_tile = Signal()
        summing = Signal()
        normalising = Signal()
        tile_done = Signal()
        begin = Signal()
        # What the next cycle is, so that another instruction is taken after few LUTs.
        last_tile = Signal()   # nothing in tiles_left
        last_group = Signal()  # nothing in groups_left
        phase_done = Signal()  # the last phase of a tile

        def follow():
            with m.If(self.start):
                m.next = "SUM"
            with m.Else():
                m.next = "IDLE"

        with m.FSM() as states:
            idle = states.ongoing("IDLE")
            with m.State("IDLE"):
                follow()
            with m.State("SUM"):
                m.d.comb += [summing.eq(1), tile_done.eq(1)]
                with m.If(last_tile):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.comb += begin.eq(1)
                    m.next = "NORM"
            with m.State("NORM"):
                m.d.comb += [normalising.eq(phase == 0), tile_done.eq(phase_done)]
                m.d.sync += [
                    phase.eq(Mux(phase_done, 0, phase + 1)),
                    phase_done.eq(Mux(phase_done, is_bits, phase + 1 == last_phase))]
                with m.If(tile_done):
                    m.d.sync += self.norm_addr.eq(self.norm_addr + 1)
                    with m.If(last_tile):
                        m.d.sync += [
                            self.norm_addr.eq(fields.param_addr),
                            self.address.eq(group_address + 1),
                            group_address.eq(group_address + 1),
                            group.eq(group + 1),
                            groups_left.eq(groups_left - 1), last_group.eq(groups_left == 1),
                        ]
                        with m.If(~last_group):
                            m.next = "SUM"
                        with m.Else():
                            m.d.sync += self.last.eq(short_tail)
                            m.next = "TAIL"
            with m.State("TAIL"):
                m.d.sync += [tail.eq(tail - 1), self.last.eq(tail == 1)]
                with m.If(self.last):
                    follow()
        # One word after the other.
        with m.If(tile_done):
            m.d.sync += first_tile.eq(0)
            with m.If(~last_tile):
                m.d.sync += [self.address.eq(self.address + arch.drain_cycles),
                             tiles_left.eq(tiles_left - 1), last_tile.eq(tiles_left == 1),
                             columns_left.eq(columns_left - arch.cols)]
            with m.Else():
                m.d.sync += [tiles_left.eq(fields.n_tiles - 1), columns_left.eq(fields.span),
                             last_tile.eq(fields.n_tiles == 1), first_tile.eq(1)]
                with m.If(summing):
                    m.d.sync += [self.address.eq(group_address),
                                 wait.eq(Mux(is_bits, widths.wait_for_bits - 1,
                                             widths.wait_for_codes - 1))]
        # What comes is taken over whether it starts here or not, which is known late.
        with m.If(idle | self.last):
            m.d.sync += [
                fields.eq(word), tag.eq(self.instr_tag),
                is_bits.eq(word.opcode == Opcode.NORM_BITS),
                is_codes.eq(word.opcode == Opcode.NORM_CODES),
                last_phase.eq(_of(word.opcode, {kind: cycles - 1 for kind, cycles in
                                                _CYCLES.items()})),
                tail.eq(_of(word.opcode, {kind: _tail(kind) - 1 for kind in _CYCLES})),
                short_tail.eq(_of(word.opcode, {kind: int(_tail(kind) == 1) for kind in _CYCLES})),
                self.address.eq(word.src_addr), group_address.eq(word.src_addr),
                self.norm_addr.eq(word.param_addr),
                tiles_left.eq(word.n_tiles - 1), columns_left.eq(word.span),
                groups_left.eq(word.groups - 1), group.eq(0), first_tile.eq(1),
                last_tile.eq(word.n_tiles == 1), last_group.eq(word.groups == 1),
                phase_done.eq(word.opcode == Opcode.NORM_BITS),
            ]

        # Stages of the first pass, then of the second with its own copy of the instruction.
        valid = Cat(columns_left > column for column in range(arch.cols))
        sums = _stages(m, "sum", summing, 5)
        restarts = _stages(m, "restart", summing & first_tile, 4)
        norms = _stages(m, "norm", normalising, WRITE_STAGE - LEAD)
        m.d.comb += [
            control.accumulate.eq(Cat(sums[4:])),
            control.restart.eq(Cat(restarts[3:])),
            control.finish.eq(_stages(m, "finish", summing & last_tile, ROOT_STAGE)[ROOT_STAGE]),
            control.channels.eq(fields.channels),
            control.eps.eq(fields.eps),
            control.centre.eq(norms[2]),
            control.take.eq(~control.normalise | norms[PARAMETER_STAGE - 1]),
            control.second.eq(norms[NORMALISED_STAGE - 1] & control.normalise),
            control.load.eq(norms[NUMBER_STAGE - 1]),
            writer.begin.eq(begin),
            writer.fields.eq(fields),
            writer.group.eq(group),
            writer.last_group.eq(last_group),
            writer.instr_tag.eq(tag),
            writer.write.eq(Mux(control.normalise, norms[WRITE_STAGE - LEAD],
                                norms[BITS_WRITE_STAGE - LEAD])),
        ]
        with m.If(begin):
            sat = data.View(layout_of(Opcode.NORM_NUMBERS), fields.as_value()).sat
            m.d.sync += [control.norm_channels.eq(fields.channels), control.normalise.eq(~is_bits),
                         control.shift.eq(fields.shift),
                         control.limits.eq(limits(control.limits.shape(), is_codes, sat))]
        from_vmem = fields.src == NumberSource.VMEM
        return _stages(m, "valid", valid, 2)[2], _stages(m, "source", from_vmem, 2)[2]


def _of(opcode: Value, values: dict[Opcode, int]) -> Value:
    """The value of a NORM instruction's opcode."""
    bits, codes, numbers = (values[kind] for kind in (
        Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS))
    return Mux(opcode == Opcode.NORM_BITS, bits, Mux(opcode == Opcode.NORM_CODES, codes, numbers))


def _stages(m: Module, name: str, value: Value, stages: int) -> list[Value]:
    """`value` in stage 0 and after each of `stages` registers."""
    found = [value]
    for stage in range(1, stages + 1):
        register = Signal(len(value), name=f"{name}_stage_{stage}")
        m.d.sync += register.eq(found[-1])
        found.append(register)
    return found
