"""Fetch, check, dispatch and synchronisation of instructions."""

import re

from amaranth.hdl import C, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import (
    ErrorCode,
    check_counts,
    opcodes_of,
    units_of,
    word_faults,
    word_marks,
)
from bivit.hw.blocks.flow import COUNTER_BITS, KINDS, WORD, Flow, StraightFlow
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import (
    FORMATS,
    HEADER,
    INSTR_BITS,
    INSTRUCTION,
    OPCODE_BITS,
    TAG_BITS,
    UNIT_OF,
    WAIT_FIELDS,
    Opcode,
    Unit,
)

__all__ = ["END_CYCLES", "FIRST_DECODE", "QUEUE_CYCLES", "REST_CYCLES", "ROOM_CYCLES",
           "WAIT_CYCLES", "InstructionQueue", "Sequencer"]

FIRST_DECODE = 5
"""Busy cycle in which the first instruction is in the register of the flow that decodes it; an
instruction is dispatched two cycles after that at the earliest."""

QUEUE_CYCLES = 2
"""Cycles from a dispatch until the instruction heads its queue at the earliest; it can be popped a
cycle later."""

ROOM_CYCLES = 2
"""Cycles from when an instruction heads its queue until another may be dispatched in its place."""

WAIT_CYCLES = 2
"""Cycles from a `done` until an instruction that waited for it can be popped."""

REST_CYCLES = 2
"""Cycles from the last `done` until a HALT that waits for it sees that all is done."""

END_CYCLES = 1
"""Cycles from then until the frame ends."""

_FETCH_DEPTH = 4  # cycles from an address until its slot is free again
_HEADER_BITS = data.StructLayout(HEADER).size


class InstructionQueue(wiring.Component):
    """Instructions of one unit, in order, with a register at the head.

    An instruction written in cycle t is at the head in cycle t + ``QUEUE_CYCLES`` + 1 at the
    earliest. The queue holds `depth` instructions besides the head. One that is not `met` when its
    turn comes is the head in all but that `o` does not show it.

    Parameters
    ----------
    width, depth : int
        Bits of an entry; entries.
    ahead : int
        The lowest bits of an entry, which `met` looks at; 0: there is no `front`.

    Members
    -------
    i, o : streams
    room : ``Out(1)``
        Whether `i` will be ready in the next cycle.
    front, coming : ``Out(ahead)``
        Of the next head, or of the head that `o` does not show; of the one behind it.
    fetch : ``Out(1)``
        `front` will be what `coming` is.
    met : ``In(1)``
        Whether `o` may show that in the next cycle.
    waiting : ``Out(1)``
        There is a head that `o` does not show.
    """

    def __init__(self, *, width: int, depth: int, ahead: int = 0):
        self.width, self.depth, self.ahead = width, depth, ahead
        super().__init__({"i": In(stream.Signature(width)),
                          "o": Out(stream.Signature(width - ahead)),
                          "room": Out(1), "front": Out(ahead),
                          "coming": Out(ahead), "fetch": Out(1),
                          "met": In(1, init=1), "waiting": Out(1)})

    def elaborate(self, platform):
        m = Module()
        level = Signal(range(self.depth + 1))  # without the head
        ready = Signal(init=1)
        given = Signal()                       # there is a `front`
        push, move, heads, shown = Signal(), Signal(), Signal(), Signal()
        head = Signal(self.width - self.ahead, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(ready),
            self.room.eq((level != self.depth) & ~(push & (level == self.depth - 1))),
            push.eq(self.i.valid & self.i.ready),
            move.eq(given & ~self.waiting & (~self.o.valid | self.o.ready)),
            heads.eq(move | self.waiting), shown.eq(heads & self.met),
            self.o.payload.eq(head),
        ]
        m.d.sync += ready.eq(self.room)
        with m.If(push & ~move):
            m.d.sync += level.eq(level + 1)
        with m.Elif(move & ~push):
            m.d.sync += level.eq(level - 1)
        with m.If(heads):
            m.d.sync += [self.o.valid.eq(self.met), self.waiting.eq(~self.met)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        tail, some = self._pointer(m, "tail", push), Signal()
        fetched = self._pointer(m, "fetched", some & self.fetch)
        m.d.comb += [some.eq(fetched != tail), self.fetch.eq(~given | shown)]
        with m.If(self.fetch):
            m.d.sync += given.eq(some)
        if self.ahead:
            part = self._memory(m, "ahead", push, tail, fetched, self.i.payload[:self.ahead])
            m.d.comb += self.coming.eq(part)
            with m.If(self.fetch):
                m.d.sync += self.front.eq(part)
        shows = self._pointer(m, "shows", shown)
        part = self._memory(m, "storage", push, tail, shows, self.i.payload[self.ahead:])
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += head.eq(part)
        return m

    def _pointer(self, m, name, step):
        """Goes round the entries: one that is not shown takes one besides the `depth`."""
        pointer = Signal(range(self.depth + 1), name=f"{name}_pointer")
        with m.If(step):
            m.d.sync += pointer.eq(Mux(pointer == self.depth, 0, pointer + 1))
        return pointer

    def _memory(self, m, name, push, tail, place, part):
        """A part of each entry; gives that of one of them."""
        m.submodules[name] = memory = Memory(shape=len(part), depth=self.depth + 1, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.en.eq(push), write.addr.eq(tail), write.data.eq(part),
                     read.addr.eq(place)]
        return read.data


class Freedom(wiring.Component):
    """A register of one bit that begins as 1, apart from its equals: each has its own loads."""

    def __init__(self):
        super().__init__({"next": In(1), "now": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.now.eq(self.next)
        return m


class Sequencer(wiring.Component):
    """Runs a program: dispatches its instructions to the units and keeps their waits.

    The first instruction is dispatched ``FIRST_DECODE + 2`` cycles after `busy` rises, then one a
    cycle while there is room in the queue of its unit; :func:`bivit.hw.blocks.flow.control_cycles`
    says how long others hold that up. Wait targets and completed instructions are counted in full:
    a unit may run ahead of a waiting one by any number. An error stops the machine: nothing more is
    popped, and only a reset makes it ready again.

    Members
    -------
    start : ``In(1)``
        Pulse; ignored while busy and after an error.
    frames : ``In(16)``
        How many frames a start runs; 0 counts as 1.
    frames_left : ``Out(16)``
        How many frames follow the present one.
    busy, finished : ``Out(1)``
        Running; ended with HALT (until the next start).
    error_code, error_tag : ``Out``
        What stopped the machine, and the program counter of the instruction.
    cycles : ``Out(32)``
        Cycles with `busy` since the start.
    run, stall, idle : ``Out(32)``, arrays
        Of these, for each unit: occupied by an instruction; its head waits; nothing to do. They
        are complete a cycle after `busy` falls.
    program_addr, program_data : ``Out``, ``In``
        Program memory, two cycles of latency.
    units : ``Out(stream.Signature(INSTRUCTION))``, array
        Instructions of each unit.
    done : ``In``
        Pulse of each unit for each completed instruction.
    unit_error, unit_error_tag : ``In``
        Code from a unit, or from what loads constants, and its program counter.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        units, counter = len(Unit), Out(32).array(len(Unit))
        super().__init__({
            "start": In(1), "frames": In(16), "frames_left": Out(16),
            "busy": Out(1), "finished": Out(1),
            "error_code": Out(ErrorCode), "error_tag": Out(16),
            "cycles": Out(32), "run": counter, "stall": counter, "idle": counter,
            "program_addr": Out(ceil_log2(arch.program_depth)),
            "program_data": In(INSTR_BITS),
            "units": Out(stream.Signature(INSTRUCTION)).array(units),
            "done": In(units),
            "unit_error": In(ErrorCode), "unit_error_tag": In(16),
        })

    def elaborate(self, platform):
        m = Module()
        # The instructions of each unit are numbered from 1 on: the next that is dispatched, and
        # the next that completes.
        units = units_of(self.arch)
        sent, completed = ([Signal(TAG_BITS, name=f"{name}_{unit.name.lower()}", init=1)
                            for unit in units] for name in ("sent", "completed"))

        # Units before the first cycle, which clears their counters.
        failed = Signal()  # there is an error code
        targets, dispatch = Signal(data.ArrayLayout(TAG_BITS, len(units))), Signal()
        stage = Signal(data.StructLayout({
            "valid": 1, "word": INSTR_BITS, "counter": COUNTER_BITS, "tag": TAG_BITS,
            "error": ErrorCode, "halts": 1,  # without error: HALT
            "wrong": 1}), reset_less=True)   # a count of what has no other error
        to = Signal(len(units))  # the unit that it goes to, if to any, wrong or not
        queues = [self._unit(m, platform, unit, completed, targets, stage, to[unit])
                  for unit in units]
        sends, rests = Signal(len(units)), Signal(len(units))  # rests: has completed what was sent
        m.d.comb += [sends.eq(Cat(queue.i.valid & queue.i.ready for queue in queues)),
                     dispatch.eq(sends.any())]
        for unit in units:
            with m.If(sends[unit]):
                m.d.sync += sent[unit].eq(sent[unit] + 1)
            with m.If(self.done[unit]):
                m.d.sync += completed[unit].eq(completed[unit] + 1)
            m.d.sync += rests[unit].eq((completed[unit] == sent[unit]) & ~sends[unit])

        over, ends, again = Signal(), Signal(), Signal()  # the present frame; and another follows
        first = Signal()  # cycle with `busy`
        m.d.sync += [ends.eq(over & ~ends), first.eq(0)]
        with m.If(self.busy):
            m.d.sync += [self.cycles.eq(self.cycles + 1),
                         self.frames_left.eq(self.frames_left - again)]
        with m.Elif(self.start & ~failed):
            m.d.sync += [self.busy.eq(1), first.eq(1), self.finished.eq(0), self.cycles.eq(0),
                         self.frames_left.eq(Mux(self.frames == 0, 0, self.frames - 1))]
        with m.If(first):
            for unit in units:
                m.d.sync += [counter.eq(counter.init) for counter in (
                    sent[unit], completed[unit], self.run[unit], self.stall[unit],
                    self.idle[unit])]
        with m.If(again):
            m.d.sync += [counter[unit].eq(1) for counter in (sent, completed)
                         for unit in self._of_one_frame()]
        # No instruction waits in a queue while the others are counted from 1 again.
        begun, input_ = Signal(TAG_BITS, init=1), self.units[Unit.LOAD]
        with m.If(~self.busy):
            m.d.sync += begun.eq(1)
        with m.Elif(input_.valid & input_.ready):
            m.d.sync += begun.eq(begun + 1)
        rest = Signal()
        m.d.sync += rest.eq((begun == sent[Unit.LOAD]) & ~sends[Unit.LOAD]
                            if self.arch.stem_macs else 1)

        flow = place(m, platform, "flow", Flow() if self.arch.loops else StraightFlow(self.arch),
                     reset=~self.busy | again)
        last_frame = Signal()  # the first instruction of a frame comes cycles after that changes
        m.d.sync += last_frame.eq(self.frames_left == 0)
        m.d.comb += again.eq(ends & ~last_frame)
        m.d.comb += flow.last_frame.eq(last_frame)
        entry = Mux(again, data.View(layout_of(Opcode.HALT), stage.word).entry, 0)
        self._fetch(m, flow, self.busy & ~again, entry)
        self._check(m, platform, flow.o, stage, to, dispatch, self.busy & ~again,
                    Cat(queue.room for queue in queues))
        self._targets(m, stage, targets, sent)
        of_one_frame = Cat(rest, *(rests[unit] for unit in self._of_one_frame()))
        m.d.comb += over.eq(self.busy & stage.valid & stage.halts
                            & Mux(last_frame, rests.all(), of_one_frame.all()))
        self._end(m, stage, ends & last_frame, failed)
        return m

    def _fetch(self, m, flow, running, entry):
        """Program memory, then a short queue and a register in front of the flow."""
        depth, arch = _FETCH_DEPTH, self.arch
        marks = word_marks(arch, self.program_data)
        stored = Cat(self.program_data, marks.as_value())
        m.submodules.fetched = fetched = Memory(shape=len(stored), depth=depth, init=[])
        write, read = fetched.write_port(), fetched.read_port(domain="comb")
        address, counter = Signal(COUNTER_BITS), Signal(COUNTER_BITS)
        free, level = Signal(range(depth + 1), init=depth), Signal(range(depth + 1))
        arriving = Signal(2)
        ask, take = Signal(), Signal()
        word, head = read.data[:INSTR_BITS], Signal(WORD, reset_less=True)
        faults = word_faults(data.View(marks.shape(), read.data[INSTR_BITS:]))
        m.d.comb += [
            self.program_addr.eq(address),
            ask.eq(free != 0),
            take.eq((level != 0) & (~flow.i.valid | flow.i.ready)),
            write.en.eq(arriving[1]), write.data.eq(stored),
            flow.i.payload.eq(head),
        ]
        with m.If(~flow.i.valid | flow.taken):
            m.d.sync += [
                flow.i.valid.eq(level != 0), head.word.eq(word), head.counter.eq(counter),
                head.faults.eq(faults),
                head.kind.eq(Cat(word[:OPCODE_BITS] == opcode.value for opcode in KINDS)),
                head.faults.illegal.eq(faults.illegal | (counter >= arch.program_depth)),
            ]
        with m.If(running & ~flow.jump):
            with m.If(ask):
                m.d.sync += address.eq(address + 1)
            with m.If(take):
                m.d.sync += counter.eq(counter + 1)
            m.d.sync += [
                arriving.eq(Cat(ask, arriving)),
                write.addr.eq(write.addr + arriving[1]), read.addr.eq(read.addr + take),
                free.eq(free - ask + take), level.eq(level + arriving[1] - take),
            ]
        with m.Else():
            m.d.sync += [signal.eq(signal.init) for signal in (
                arriving, write.addr, read.addr, free, level, flow.i.valid)]
            start = Mux(running, flow.target, entry)
            m.d.sync += [address.eq(start), counter.eq(start)]

    def _check(self, m, platform, summed, stage, to, dispatch, running, room):
        """Counts, then the register that dispatches.

        Whether that is free, which holds up all in front of it, is known a cycle before. One with
        an error may count as free: the machine stops.
        """
        word, goes, known = summed.payload.word, Signal.like(to), Signal()
        free, wide = (self._freedom(m, platform, name, known) for name in ("free", "stage_free"))
        wrong, owner = check_counts(m, self.arch, word), Signal.like(to)
        with m.Switch(word[:OPCODE_BITS]):
            for opcode in (opcode for opcode in opcodes_of(self.arch) if opcode in UNIT_OF):
                with m.Case(opcode.value):
                    m.d.comb += owner[UNIT_OF[opcode]].eq(1)
        good, halt = summed.payload.error == ErrorCode.NONE, word[:OPCODE_BITS] == Opcode.HALT.value
        m.d.comb += [summed.ready.eq(free), goes.eq(Mux(free, owner, to)),
                     known.eq((free & ~summed.valid) | (goes & room).any() | ~running)]
        with m.If(wide):
            m.d.sync += [
                stage.word.eq(word), stage.counter.eq(summed.payload.counter),
                stage.error.eq(summed.payload.error), stage.wrong.eq(good & wrong),
                stage.halts.eq(good & halt), stage.valid.eq(summed.valid),
                to.eq(owner & (summed.valid & good).replicate(len(to))),
            ]
        with m.If(dispatch):
            m.d.sync += stage.tag.eq(stage.tag + 1)
        with m.If(~running):
            m.d.sync += [to.eq(0), stage.valid.eq(0), stage.tag.eq(0)]

    def _freedom(self, m, platform, name, known):
        freedom = place(m, platform, name, Freedom())
        m.d.comb += freedom.next.eq(known)
        return freedom.now

    def _targets(self, m, stage, targets, sent):
        """Turn waits into targets."""
        view = data.View(data.StructLayout(HEADER), stage.word[:_HEADER_BITS])
        for unit, number in enumerate(sent):
            distance = view[WAIT_FIELDS[Unit(unit)]]
            nothing = (distance == 0) | (distance >= number)
            m.d.comb += targets[unit].eq(Mux(nothing, 0, number - distance))

    def _end(self, m, stage, finishes, failed):
        """Stop at errors, and behind the last frame."""
        with m.If(self.unit_error != ErrorCode.NONE):
            with m.If(~failed):
                self._stop(m, failed, self.unit_error, self.unit_error_tag)
        with m.Elif(self.busy & stage.valid & (stage.wrong | (stage.error != ErrorCode.NONE))):
            self._stop(m, failed, Mux(stage.wrong, ErrorCode.COUNT.value, stage.error.as_value()),
                       stage.counter)
        with m.Elif(finishes):
            m.d.sync += [self.busy.eq(0), self.finished.eq(1)]

    def _of_one_frame(self):
        """The units that do nothing for the following image."""
        return [unit for unit in units_of(self.arch)
                if unit is not Unit.LOAD or not self.arch.stem_macs]

    def _stop(self, m, failed, code, tag):
        m.d.sync += [self.busy.eq(0), failed.eq(1), self.error_code.eq(code),
                     self.error_tag.eq(tag)]

    def _unit(self, m, platform, unit, completed, targets, stage, to):
        """Queue of one unit, the check of its head's waits, its counters."""
        parts = _parts(unit)
        entry = data.StructLayout({
            "fields": sum(width for _, width in parts), "tag": TAG_BITS, "counter": 16})
        queue = place(m, platform, f"{unit.name.lower()}_queue", InstructionQueue(
            width=targets.shape().size + entry.size, depth=self.arch.queue_depth,
            ahead=targets.shape().size), reset=~self.busy)
        head, instructions = data.View(entry, queue.o.payload), self.units[unit]
        # Whether each instruction that is waited for was one of those that completed: of what is
        # in front, and of what may come there, which is chosen last.
        stays, comes = (Cat(Cat(done, number) >= Cat(C(1, 1), target) for done, number, target in
                            zip(self.done, completed, data.View(targets.shape(), part),
                                strict=False)) for part in (queue.front, queue.coming))
        met = Signal(len(stays))
        m.d.sync += met.eq(Mux(queue.fetch, comes, stays))
        m.d.comb += [
            queue.met.eq(met.all()),
            queue.i.valid.eq(to),
            queue.i.payload.eq(Cat(targets.as_value(), *(
                stage.word[offset:offset + width] for offset, width in parts),
                stage.tag, stage.counter[:16])),
            instructions.valid.eq(self.busy & queue.o.valid),
            instructions.payload.tag.eq(head.tag),
            instructions.payload.counter.eq(head.counter),
            instructions.payload.word.eq(_spread(parts, head.fields)),
            queue.o.ready.eq(instructions.ready),
        ]
        runs = ~instructions.ready | instructions.valid
        for counter, counts in ((self.run, runs), (self.stall, ~runs & queue.waiting),
                                (self.idle, ~runs & ~queue.waiting)):
            one = Signal()
            m.d.sync += one.eq(self.busy & counts)
            with m.If(one):
                m.d.sync += counter[unit].eq(counter[unit] + 1)
        return queue


def _parts(unit):
    """Offset and width of what a unit reads of its instructions: opcode and fields."""
    used = (1 << OPCODE_BITS) - 1
    for opcode, owner in UNIT_OF.items():
        if owner == unit:
            for name in FORMATS[opcode]:
                field = layout_of(opcode)[name]
                used |= (1 << field.width) - 1 << field.offset
    runs = re.finditer("1+", f"{used:0{INSTR_BITS}b}"[::-1])
    return [(run.start(), len(run[0])) for run in runs]


def _spread(parts, fields):
    """The parts of an instruction at their places, zeros between them."""
    pieces, end, taken = [], 0, 0
    for offset, width in parts:
        pieces += [Const(0, offset - end), fields[taken:taken + width]]
        end, taken = offset + width, taken + width
    return Cat(*pieces)
