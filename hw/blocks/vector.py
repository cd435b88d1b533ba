"""The vector unit: LayerNorm to bits or codes, and the output stream."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from bivit.hw.arch import Arch
from bivit.hw.blocks.norm import CODE_BITS, PARAMETER, NormLane, NormWidths, control_layout
from bivit.hw.blocks.output import BEAT, OutputStreamer, output_timing
from bivit.hw.blocks.writeback import NormWriter
from bivit.hw.emit import place
from bivit.hw.isa import FORMATS, INSTR_BITS, Opcode, layout_of
from bivit.hw.memories import memories

__all__ = ["VectorUnit", "timing"]

BITS_WRITE_STAGE = 5
CODES_WRITE_STAGE = 8
CODES_TAIL = 3
"""Cycles after the last read of codes in which nothing new starts, for the order of `done`."""


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Cycles from pop to the next possible pop, and from pop to done.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        NORM_BITS, NORM_CODES or OUTPUT.
    fields : dict
        Fields of the instruction.
    """
    if opcode is Opcode.OUTPUT:
        return output_timing(arch, count=fields["count"])
    widths, tiles, groups = NormWidths(arch), fields["n_tiles"], fields["groups"]
    if opcode is Opcode.NORM_BITS:
        last_read = groups * (tiles + widths.wait_for_bits + tiles)
        return last_read, last_read + BITS_WRITE_STAGE
    last_cycle = groups * (tiles + widths.wait_for_codes + CODE_BITS * tiles)
    return last_cycle + CODES_TAIL, last_cycle + CODES_WRITE_STAGE


class VectorUnit(wiring.Component):
    """Runs NORM_BITS, NORM_CODES and OUTPUT.

    A row group is read twice; between the passes its lanes take the square root. The second pass
    has registers of its own for what it needs of its instruction, so that the first pass of
    the next one may follow without a bubble.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    instr : instructions with their program counter
    done : a pulse for each completed instruction
    busy : an instruction is not completed
    tag : program counter of the instruction whose write is at the XMEM port
    resid_addr, resid_data, norm_addr, norm_data : read ports
    xmem_we, xmem_addr, xmem_data : write port, `xmem_we` a bit mask
    m_axis : the output stream
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "instr": In(stream.Signature(data.StructLayout({"word": INSTR_BITS, "tag": 16}))),
            "done": Out(1),
            "busy": Out(1),
            "tag": Out(16),
            "resid_addr": Out(sizes["resid"].address_bits),
            "resid_data": In(sizes["resid"].width),
            "norm_addr": Out(sizes["norm"].address_bits),
            "norm_data": In(sizes["norm"].width),
            "xmem_we": Out(sizes["xmem"].width),
            "xmem_addr": Out(sizes["xmem"].address_bits),
            "xmem_data": Out(sizes["xmem"].width),
            "m_axis": Out(stream.Signature(BEAT)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        lanes = [place(m, platform, f"lane_{index}", NormLane(arch))
                 for index in range(arch.post_rows)]
        writer = place(m, platform, "writer", NormWriter(arch))
        streamer = place(m, platform, "streamer", OutputStreamer(arch))
        control = Signal(control_layout(arch))
        valid = self._read(m, control, writer, streamer)

        row_bits = arch.cols * arch.resid_bits
        parameters = data.ArrayLayout(PARAMETER, arch.cols)
        numbers = data.ArrayLayout(signed(arch.resid_bits), arch.cols)
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.control.eq(control),
                lane.numbers.eq(data.View(numbers, self.resid_data.word_select(index, row_bits))),
                lane.valid.eq(valid),
                lane.parameters.eq(data.View(parameters, self.norm_data)),
                writer.bits[index].eq(lane.bits),
            ]
        m.d.comb += [
            self.xmem_we.eq(writer.xmem_we),
            self.xmem_addr.eq(writer.xmem_addr),
            self.xmem_data.eq(writer.xmem_data),
            self.tag.eq(writer.tag),
            streamer.resid_data.eq(self.resid_data),
        ]
        connect(m, streamer.m_axis, flipped(self.m_axis))

        in_flight = Signal(2)
        m.d.comb += [self.done.eq(writer.done | streamer.done), self.busy.eq(in_flight != 0)]
        m.d.sync += in_flight.eq(in_flight + (self.instr.valid & self.instr.ready) - self.done)
        return m

    def _read(self, m: Module, control: data.View, writer: NormWriter,
              streamer: OutputStreamer) -> Value:
        """The passes over RESID: addresses and stages. Returns the valid columns in stage 2."""
        arch, widths, instr = self.arch, NormWidths(self.arch), self.instr
        word = data.View(layout_of(Opcode.NORM_CODES), instr.p.word)
        fields = Signal(layout_of(Opcode.NORM_CODES))
        tag = Signal(16)
        is_codes = Signal()
        address = Signal(len(self.resid_addr))        # of the present word
        group_address = Signal(len(self.resid_addr))  # of the first word of the row group
        tiles_left = Signal(FORMATS[Opcode.NORM_BITS]["n_tiles"])
        groups_left = Signal(6)
        group = Signal(6)
        columns_left = Signal(signed(FORMATS[Opcode.NORM_BITS]["channels"] + 1))
        wait = Signal(range(widths.wait_for_codes))
        phase = Signal(range(CODE_BITS))
        tail = Signal(range(CODES_TAIL))
        first_tile = Signal()
        summing = Signal()
        normalising = Signal()
        tile_done = Signal()
        begin = Signal()
        last_tile = tiles_left == 0

        def accept():
            m.d.comb += instr.ready.eq(1)
            with m.If(~instr.valid):
                m.next = "IDLE"
            with m.Elif(word.opcode == Opcode.OUTPUT):
                m.next = "OUTPUT"
            with m.Else():
                m.next = "SUM"

        with m.FSM():
            with m.State("IDLE"):
                accept()
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
                m.d.comb += [normalising.eq(phase == 0),
                             tile_done.eq(~is_codes | (phase == CODE_BITS - 1))]
                m.d.sync += phase.eq(Mux(is_codes, phase + 1, 0))
                with m.If(tile_done):
                    m.d.sync += self.norm_addr.eq(self.norm_addr + 1)
                    with m.If(last_tile):
                        m.d.sync += [
                            self.norm_addr.eq(fields.param_addr),
                            address.eq(group_address + 1),
                            group_address.eq(group_address + 1),
                            group.eq(group + 1),
                            groups_left.eq(groups_left - 1),
                        ]
                        with m.If(groups_left != 0):
                            m.next = "SUM"
                        with m.Elif(is_codes):
                            m.next = "TAIL"
                        with m.Else():
                            accept()
            with m.State("TAIL"):
                m.d.sync += tail.eq(tail + 1)
                with m.If(tail == CODES_TAIL - 1):
                    m.d.sync += tail.eq(0)
                    accept()
            with m.State("OUTPUT"):
                with m.If(~streamer.busy):
                    accept()
        # One word after the other.
        with m.If(tile_done):
            m.d.sync += first_tile.eq(0)
            with m.If(~last_tile):
                m.d.sync += [address.eq(address + arch.drain_cycles),
                             tiles_left.eq(tiles_left - 1),
                             columns_left.eq(columns_left - arch.cols)]
            with m.Else():
                m.d.sync += [tiles_left.eq(fields.n_tiles - 1), columns_left.eq(fields.channels),
                             first_tile.eq(1)]
                with m.If(summing):
                    m.d.sync += [address.eq(group_address),
                                 wait.eq(Mux(is_codes, widths.wait_for_codes - 1,
                                             widths.wait_for_bits - 1))]
        pop = Signal()
        m.d.comb += pop.eq(instr.valid & instr.ready)
        with m.If(pop):
            m.d.sync += [
                fields.eq(word), tag.eq(instr.p.tag),
                is_codes.eq(word.opcode == Opcode.NORM_CODES),
                address.eq(word.src_addr), group_address.eq(word.src_addr),
                self.norm_addr.eq(word.param_addr),
                tiles_left.eq(word.n_tiles - 1), columns_left.eq(word.channels),
                groups_left.eq(word.groups - 1), group.eq(0), first_tile.eq(1),
            ]
        output = data.View(layout_of(Opcode.OUTPUT), instr.p.word)
        m.d.comb += [
            streamer.start.eq(pop & (output.opcode == Opcode.OUTPUT)),
            streamer.src_addr.eq(output.src_addr),
            streamer.row.eq(output.row),
            streamer.count.eq(output.count),
            self.resid_addr.eq(Mux(streamer.busy, streamer.resid_addr, address)),
        ]

        # Stages of the first pass, then of the second with its own copy of the instruction.
        valid = Cat(columns_left > column for column in range(arch.cols))
        sums = _delay(m, "sum", summing, 3)
        norms = _delay(m, "norm", normalising, CODES_WRITE_STAGE)
        m.d.comb += [
            control.accumulate.eq(sums[3]),
            control.restart.eq(_delay(m, "restart", summing & first_tile, 3)[3]),
            control.finish.eq(_delay(m, "finish", summing & last_tile, 4)[4]),
            control.channels.eq(fields.channels),
            control.eps.eq(fields.eps),
            control.centre.eq(norms[2]),
            control.second.eq(norms[6]),
            control.load.eq(Mux(control.codes, norms[CODES_WRITE_STAGE - 1],
                                norms[BITS_WRITE_STAGE - 1])),
            writer.begin.eq(begin),
            writer.fields.eq(fields),
            writer.codes.eq(is_codes),
            writer.group.eq(group),
            writer.last_group.eq(groups_left == 0),
            writer.instr_tag.eq(tag),
            writer.write.eq(Mux(control.codes, norms[CODES_WRITE_STAGE], norms[BITS_WRITE_STAGE])),
        ]
        with m.If(begin):
            m.d.sync += [control.norm_channels.eq(fields.channels), control.codes.eq(is_codes),
                         control.shift.eq(fields.shift)]
        return _delay(m, "valid", valid, 2)[2]


def _delay(m: Module, name: str, value: Value, stages: int) -> list[Value]:
    """`value` in stage 0 and after each of `stages` registers."""
    found = [value]
    for stage in range(1, stages + 1):
        register = Signal(len(value), name=f"{name}_stage_{stage}")
        m.d.sync += register.eq(found[-1])
        found.append(register)
    return found
