"""The vector unit: LayerNorm, sums of rows, moves of rows of bits, output stream, spills."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import opcodes_of
from bivit.hw.blocks.lanes import spread
from bivit.hw.blocks.move import RowMover, move_timing
from bivit.hw.blocks.normalise import Normaliser, norm_timing
from bivit.hw.blocks.output import BEAT, OutputStreamer, output_timing
from bivit.hw.blocks.rows import RowAdder, rows_add_timing, settling_cycles
from bivit.hw.blocks.rows_out import RowWriter, rows_out_timing
from bivit.hw.blocks.store import Storer, store_members
from bivit.hw.blocks.store import estimate as store_estimate
from bivit.hw.blocks.sums import RowSums
from bivit.hw.blocks.walk import PLAN, TARGET, DestinationWalk, SourceWalk
from bivit.hw.emit import left_out, place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import INSTRUCTION, TAG_BITS, Opcode
from bivit.hw.memories import fetched_memories, memories

__all__ = ["VectorUnit", "settling", "timing"]


def timing(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Cycles from pop to the next possible pop, and from pop to done; STORE's behind the default
    memory.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        One of the vector unit.
    fields : dict
        Fields of the instruction.
    """
    if opcode is Opcode.OUTPUT:
        return output_timing(arch, count=fields["count"])
    if opcode is Opcode.ROWS_ADD:
        return rows_add_timing(arch, fields)
    if opcode is Opcode.ROWS_OUT:
        return rows_out_timing(arch, fields)
    if opcode is Opcode.MOVE:
        return move_timing(arch, fields)
    if opcode is Opcode.STORE:
        return store_estimate(arch, fields)
    return norm_timing(arch, opcode, n_tiles=fields["n_tiles"], groups=fields["groups"])


def settling(arch: Arch, before: Opcode | None, opcode: Opcode) -> int:
    """Cycles beyond its occupancy that an instruction keeps the next one of the unit waiting.

    ROWS_ADD follows ROWS_ADD at once, all others come when its sums are written.
    """
    settles = before is Opcode.ROWS_ADD and opcode is not Opcode.ROWS_ADD
    return settling_cycles(arch) if settles else 0


class VectorUnit(wiring.Component):
    """Runs the NORM, ROWS, MOVE, OUTPUT and STORE instructions, one after another.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    instr : instructions with their program counter
    done : a pulse for each completed instruction
    busy : an instruction is not completed
    tag : program counter of the instruction whose write is at a port
    resid_addr, resid_data, vmem_addr, vmem_data, norm_addr, norm_data : read ports
    xmem_read_addr, xmem_read_data, hmem_addr, hmem_data : read ports
    xmem_we, xmem_addr, xmem_data : write port, `xmem_we` a bit mask
    vmem_we, vmem_write_addr, vmem_write_data : the same
    kmem_we, kmem_addr, kmem_data : the same
    m_axis : the output stream
    error, error_counter : code, and program counter of the STORE, of a `streamed` target
    burst, beat, answered, wrong, alive : to and from its write port
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)

        def port(address, word, memory, mask=None):
            size, way = sizes[memory], In if mask is None else Out
            members = {address: Out(size.address_bits), word: way(size.width)}
            return members if mask is None else members | {mask: Out(size.width)}

        super().__init__({
            "instr": In(stream.Signature(INSTRUCTION)),
            "done": Out(1),
            "busy": Out(1),
            "tag": Out(TAG_BITS),
            **port("resid_addr", "resid_data", "resid"),
            **port("vmem_addr", "vmem_data", "vmem"),
            **port("norm_addr", "norm_data", "norm"),
            **port("xmem_read_addr", "xmem_read_data", "xmem"),
            **port("hmem_addr", "hmem_data", "hmem"),
            **port("xmem_addr", "xmem_data", "xmem", "xmem_we"),
            **port("vmem_write_addr", "vmem_write_data", "vmem", "vmem_we"),
            **port("kmem_addr", "kmem_data", "kmem", "kmem_we"),
            "m_axis": Out(stream.Signature(BEAT)),
            **({"error_counter": Out(INSTRUCTION["counter"].shape)} | store_members(arch)
               if fetched_memories(arch) else {}),
        })

    def elaborate(self, platform):
        m = Module()
        arch, instr = self.arch, self.instr
        norm = place(m, platform, "normaliser", Normaliser(arch))
        def part(name, kind, present):
            component = kind(arch)
            return place(m, platform, name, component) if present else left_out(component)

        adder = part("row_adder", RowAdder, arch.row_sums)
        writer = part("row_writer", RowWriter, arch.row_sums)
        mover = part("row_mover", RowMover, arch.row_moves)
        streamer = place(m, platform, "streamer", OutputStreamer(arch))
        sums = part("sums", RowSums, arch.row_sums)
        source = part("source_walk", SourceWalk, arch.row_moves)
        target = part("destination_walk", DestinationWalk, arch.row_sums or arch.row_moves)
        units = {unit: opcodes for unit, opcodes in (
            (norm, (Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS)),
            (adder, (Opcode.ROWS_ADD,)),
            (writer, (Opcode.ROWS_OUT,)),
            (mover, (Opcode.MOVE,)),
            (streamer, (Opcode.OUTPUT,)),
        ) if set(opcodes) <= set(opcodes_of(arch))}
        storer = None
        if fetched_memories(arch):
            storer = place(m, platform, "storer", Storer(arch))
            units[storer] = (Opcode.STORE,)
            self._connect_memory(m, storer)

        # One part runs at a time; the next starts in the last cycle of the one before. What comes
        # behind sums waits until they are written, unless it is more of them.
        running = {unit: Signal(name=f"running_{index}") for index, unit in enumerate(units)}
        tag = Signal(TAG_BITS)
        opcode = data.View(layout_of(Opcode.HALT), instr.p.word).opcode
        free = Cat(~flag | unit.last for unit, flag in running.items()).all()
        settled = adder.settled | ~instr.valid | (opcode == Opcode.ROWS_ADD)
        if adder not in units:
            settled = C(1, 1)
        pop = Signal()
        m.d.comb += [instr.ready.eq(free & settled), pop.eq(free & settled & instr.valid)]
        with m.If(instr.ready):
            m.d.sync += tag.eq(instr.p.tag)
        for unit, opcodes in units.items():
            chosen = Cat(opcode == one for one in opcodes).any()
            m.d.comb += unit.start.eq(pop & chosen)
            with m.If(free):
                m.d.sync += running[unit].eq(pop & chosen)
        m.d.comb += [unit.fields.eq(instr.p.word) for unit in units if unit is not norm]
        m.d.comb += [norm.word.eq(instr.p.word), norm.instr_tag.eq(instr.p.tag)]
        self._start_walks(m, source, target, pop, opcode)
        in_flight = Signal(range(settling_cycles(arch) + 3))
        m.d.comb += [self.done.eq(Cat(unit.done for unit in units).any()),
                     self.busy.eq(in_flight != 0)]
        m.d.sync += in_flight.eq(in_flight + pop - self.done)

        # Steps, sums and rows go from part to part.
        m.d.comb += [
            mover.step.eq(source.step),
            sums.address.eq(Mux(running.get(writer, 0), writer.sums_addr, adder.sums_addr)),
            sums.update.eq(adder.update),
            writer.sums_data.eq(sums.words), writer.room.eq(target.room),
            source.room.eq(target.room), mover.rows.eq(source.rows),
            target.advance.eq(Mux(source.taken != 0, source.taken, writer.advance)),
        ]
        for unit in (writer, mover):
            m.d.comb += [unit.row_address.eq(target.address), unit.row.eq(target.row)]
        self._connect_reads(m, norm, adder, writer, mover, streamer, storer, running)
        self._connect_writes(m, norm, writer, mover, tag)
        connect(m, streamer.m_axis, flipped(self.m_axis))
        return m

    def _start_walks(self, m: Module, source: SourceWalk, target: DestinationWalk, pop: Value,
                     opcode: Value):
        """Both walks take what the instruction says of them; only some have use for it."""
        arch, word = self.arch, self.instr.p.word
        out, move = (data.View(layout_of(opcode), word)
                     for opcode in (Opcode.ROWS_OUT, Opcode.MOVE))
        is_move = opcode == Opcode.MOVE
        plan, goal = Signal(PLAN), Signal(TARGET)
        m.d.comb += [plan.address.eq(move.src_addr), plan.row.eq(move.src_row),
                     plan.stride.eq(move.src_stride), plan.words.eq(move.words),
                     plan.alone.eq(move.to_keys)]
        for level, loop in enumerate(plan.levels):
            m.d.comb += [loop[name].eq(move[f"{name}_{level}"])
                         for name in ("count", "blocks", "rows")]
        for rows in (out, move):
            with m.If(is_move if rows is move else ~is_move):
                m.d.comb += [goal.address.eq(rows.dst_addr), goal.row.eq(rows.dst_row),
                             goal.stride.eq(rows.dst_stride), goal.segment.eq(rows.segment),
                             goal.segment_left.eq(rows.segment_left)]
        m.d.comb += [
            goal.limit.eq(Mux(is_move & move.to_keys, arch.keys_per_group, arch.rows)),
            source.plan.eq(plan), source.start.eq(pop & is_move),
            target.target.eq(goal), target.start.eq(pop),
        ]

    def _connect_memory(self, m, storer):
        """The write port, and which instruction finds it wrong."""
        for name in ("burst", "beat"):
            connect(m, getattr(storer, name), flipped(getattr(self, name)))
        m.d.comb += [getattr(storer, name).eq(getattr(self, name))
                     for name in ("answered", "wrong", "alive")]
        m.d.comb += self.error.eq(storer.error)
        with m.If(storer.start):
            m.d.sync += self.error_counter.eq(self.instr.p.counter)

    def _connect_reads(self, m, norm, adder, writer, mover, streamer, storer, running):
        """Addresses of the part that runs; everyone sees the data."""
        number_address, norm_address = Signal(16), Signal(16)
        m.d.comb += [number_address.eq(norm.address), norm_address.eq(norm.norm_addr)]
        with m.If(adder.reading):
            m.d.comb += [number_address.eq(adder.address), norm_address.eq(adder.norm_addr)]
        with m.Elif(running.get(writer, 0)):
            m.d.comb += norm_address.eq(writer.norm_addr)
        with m.Elif(running[streamer]):
            m.d.comb += number_address.eq(streamer.address)
        if storer is not None:
            with m.Elif(running[storer]):
                m.d.comb += number_address.eq(storer.address)
        m.d.comb += [self.resid_addr.eq(number_address), self.vmem_addr.eq(number_address),
                     self.norm_addr.eq(norm_address),
                     self.xmem_read_addr.eq(mover.address), self.hmem_addr.eq(mover.address),
                     mover.xmem_data.eq(self.xmem_read_data), mover.hmem_data.eq(self.hmem_data)]
        for unit in (norm, adder, streamer, *([storer] if storer is not None else ())):
            m.d.comb += [unit.resid_data.eq(self.resid_data), unit.vmem_data.eq(self.vmem_data)]
        for unit in (norm, adder, writer):
            m.d.comb += unit.norm_data.eq(self.norm_data)

    def _connect_writes(self, m, norm, writer, mover, tag):
        """LayerNorm writes words or chunks of a row group, ROWS_OUT rows of it, MOVE rows."""
        arch = self.arch
        bits, number_bits = arch.lanes, arch.cols * arch.resid_bits
        written, mask, row_address = Signal(arch.rows), Signal(bits), Signal(16)
        row_bits = Signal(arch.rows * bits)
        with m.If(mover.writes_xmem):
            m.d.comb += [written.eq(mover.write_rows), mask.eq(~0),
                         row_address.eq(mover.write_address), row_bits.eq(mover.bits)]
        with m.Else():
            m.d.comb += [written.eq(writer.write_rows),
                         mask.eq(Mux(writer.writes_xmem, writer.mask, 0)),
                         row_address.eq(writer.write_address)]
            m.d.comb += row_bits.eq(Cat(writer.bits[index % arch.post_rows]
                                        for index in range(arch.rows)))
        row_mask = Cat(mask & spread(written[index], bits) for index in range(arch.rows))
        number_mask = Cat(spread(writer.lanes[index], number_bits)
                          for index in range(arch.post_rows))
        m.d.comb += [
            self.tag.eq(Mux(norm.writing, norm.tag, tag)),
            self.xmem_we.eq(norm.xmem_we | row_mask),
            self.vmem_we.eq(norm.vmem_we | number_mask),
            self.kmem_we.eq(Cat(spread(mover.writes_kmem & (mover.write_column == column), bits)
                                for column in range(arch.cols))),
            self.kmem_addr.eq(mover.write_address),
            self.kmem_data.eq(mover.bits[:bits].replicate(arch.cols)),
        ]
        # One of them at a time; without parts that write rows nothing is left of the choice.
        writes_rows, writes_numbers = mover.writes_xmem | writer.writes_xmem, writer.lanes.any()
        m.d.comb += [
            self.xmem_addr.eq(Mux(writes_rows, row_address, norm.write_address)),
            self.xmem_data.eq(Mux(writes_rows, row_bits, norm.xmem_data)),
            self.vmem_write_addr.eq(Mux(writes_numbers, writer.write_address, norm.write_address)),
            self.vmem_write_data.eq(Mux(writes_numbers, writer.numbers, norm.vmem_write_data)),
        ]
