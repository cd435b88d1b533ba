"""The way of a program through itself: loops, calls and registers."""

import functools
import itertools
import operator

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import FAULTS, ErrorCode, opcodes_of, word_error
from bivit.hw.emit import place
from bivit.hw.encoding import layout_of
from bivit.hw.isa import (
    CONTROL,
    FORMATS,
    INSTR_BITS,
    NUMBER_BITS,
    OPCODE_BITS,
    REGISTER_BITS,
    REGISTERS,
    SETS,
    SLOTS,
    STACK,
    STEPS,
    Opcode,
)

__all__ = ["COUNTER_BITS", "FETCHED", "JUMP_CYCLES", "KINDS", "WORD", "Flow", "StraightFlow",
           "control_cycles"]

COUNTER_BITS = 17
"""Bits of the program counter, which may stand behind the last word."""

KINDS = (*CONTROL, Opcode.STEM)
"""Opcodes that the flow treats in ways of their own."""

WORD = data.StructLayout({
    "word": INSTR_BITS, "counter": COUNTER_BITS, "faults": FAULTS,
    "kind": data.StructLayout({opcode.name: 1 for opcode in KINDS})})
"""A word of the program, where it lies, what is wrong with it, and whether it is one of these."""

FETCHED = data.StructLayout({"word": INSTR_BITS, "counter": COUNTER_BITS, "error": ErrorCode})
"""The same with the first error."""

JUMP_CYCLES = 6
"""Cycles from a jump to the instruction that it goes to."""

_STAGE_BITS = layout_of(Opcode.HALT)["stage"].width
_FRAME = data.StructLayout({
    "counter": COUNTER_BITS,  # where the body begins, or where RETURN goes
    "loop": 1, "begun": _STAGE_BITS,  # iterations, as far as stages reach
    "left": FORMATS[Opcode.LOOP]["count"]})
_STEP = data.StructLayout({"reg": NUMBER_BITS, "add": REGISTER_BITS, "limit": REGISTER_BITS,
                           "on_wrap": 1, "keep": 1,  # keep: add to what the register holds
                           "again": 1})  # the register of the step before


_DECISION = data.StructLayout({
    "error": ErrorCode, "passes": 1, "skipped": 1,  # to `o`; else, unless it is one of ours
    "stays": 1, "last": range(max(STEPS, SETS) + 2),
    "steps": 1, "used": range(max(STEPS, SETS) + 1),
    "ends": 1, "opens": 1, "jumps": 1, "pushes": 1, "pops": 1, "turns": 1})


def control_cycles(opcode: Opcode, fields: dict[str, int], *, jumps: bool) -> int:
    """Cycles that an instruction of the sequencer takes; one that is skipped takes 1."""
    steps = fields["used"] if opcode in (Opcode.END, Opcode.SET) else 0
    own = steps + 2 if steps else 1
    if opcode in (Opcode.LOOP, Opcode.END):  # the next one's guards look at what they change
        own = max(own, 2)
    return max(own, JUMP_CYCLES) if jumps else own


class Taker(wiring.Component):
    """Whether a register takes the next word: few LUTs, and apart from those with many loads.

    Members
    -------
    valid, passes, ends : ``In(1)``
        There is a word in it; it goes on to `o`; it leaves in this cycle if it does not.
    jump, o_valid, o_ready : ``In(1)``
    ready : ``Out(1)``
    """

    def __init__(self):
        super().__init__({name: In(1) for name in (
            "valid", "passes", "ends", "jump", "o_valid", "o_ready")} | {"ready": Out(1)})

    def elaborate(self, platform):
        m = Module()
        leave = Mux(self.passes, ~self.o_valid | self.o_ready, self.ends)
        m.d.comb += self.ready.eq((~self.valid | leave) & ~self.jump)
        return m


class Flow(wiring.Component):
    """Executes the instructions of the sequencer, and adds registers to those of the units.

    An instruction of the following image is skipped in the last frame.

    Instructions wait in a register where their registers are read; one that is taken, or that has
    an error, goes on to the register of `o`, with its sums. What an instruction will do is decided
    while it goes into its register, by the loops and calls that are open then: so one that may
    change these stays two cycles at least. RETURN and instructions that are skipped stay a cycle,
    LOOP two, END and SET a cycle for each step and two more, without steps two and one. A jump is
    pulsed in the first of them, and `i` is then asked for the instruction at `target`.

    Members
    -------
    i, o : streams of ``WORD`` and ``FETCHED``
    taken : ``Out(1)``
        `i.ready` once more, for what has many loads.
    last_frame : ``In``
    jump, target : ``Out``
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(WORD)), "o": Out(stream.Signature(FETCHED)),
                          "taken": Out(1), "last_frame": In(1),
                          "jump": Out(1), "target": Out(COUNTER_BITS)})

    def elaborate(self, platform):
        m = Module()
        now, valid, out = Signal(WORD, reset_less=True), Signal(), self._out(m)
        stack, depth = Signal(data.ArrayLayout(_FRAME, STACK)), Signal(range(STACK + 1))
        step, does = Signal(range(max(STEPS, SETS) + 2)), Signal(_DECISION, reset_less=True)
        of_end, of_set = Signal(STEPS), Signal(SETS)  # the step as one of these bits
        leave, first, last = Signal(), Signal(), Signal()  # of the cycles that one of ours stays
        m.d.comb += [
            leave.eq(valid & Mux(does.passes, ~self.o.valid | self.o.ready,
                                 does.skipped | last)),
            self.jump.eq(first & does.jumps),
        ]
        m.d.comb += [
            self.i.ready.eq(self._taker(m, platform, "ready", valid, does, last)),
            self.taken.eq(self._taker(m, platform, "takes", valid, does, last)),
        ]
        decision = self._decision(m, stack[0], depth)
        m.d.sync += first.eq(self.taken & self.i.valid)
        with m.If(self.taken):
            m.d.sync += [now.eq(self.i.payload), valid.eq(self.i.valid), does.eq(decision),
                         last.eq(decision.last == 0),
                         of_end.eq(decision.ends), of_set.eq(~decision.ends)]
        with m.Elif(leave):
            m.d.sync += valid.eq(0)
        with m.If(leave):
            m.d.sync += step.eq(0)
        with m.Elif(valid & does.stays):
            m.d.sync += [step.eq(step + 1), last.eq(step + 1 == does.last),
                         of_end.eq(of_end << 1), of_set.eq(of_set << 1)]
        self._go(m, now, first, does, stack, depth)

        view = {opcode: data.View(layout_of(opcode), now.word)
                for opcode in (Opcode.END, Opcode.SET)}
        stepping = valid & does.steps & (step != does.used) & ~last  # the last is for the write
        values = self._registers(m, stepping, of_end, of_set, now.word, view)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(valid & does.passes), out.word.eq(now.word),
                         out.counter.eq(now.counter), out.error.eq(does.error)]
            for (offset, width, _), value in zip(SLOTS, values, strict=True):
                field = now.word[offset:offset + width]
                m.d.sync += out.word[offset:offset + width].eq(field + value)
        return m

    def _out(self, m):
        """The register of `o`."""
        out = Signal(FETCHED, reset_less=True)
        m.d.comb += self.o.payload.eq(out)
        return out

    def _taker(self, m, platform, name, valid, does, last):
        """Whether the register takes what `i` has."""
        taker = place(m, platform, name, Taker())
        m.d.comb += [taker.valid.eq(valid), taker.passes.eq(does.passes),
                     taker.ends.eq(does.skipped | last), taker.jump.eq(self.jump),
                     taker.o_valid.eq(self.o.valid), taker.o_ready.eq(self.o.ready)]
        return taker.ready

    def _decision(self, m, top, depth):
        """What the instruction of `i` will do, which nothing changes before."""
        word = self.i.payload.word
        loop, end, call = (data.View(layout_of(opcode), word)
                           for opcode in (Opcode.LOOP, Opcode.END, Opcode.SET))
        is_ = {opcode: self.i.payload.kind[opcode.name] for opcode in KINDS}
        following = data.View(layout_of(Opcode.STEM), word).next
        does = Signal(_DECISION)
        control, used, calls = Signal(), Signal.like(does.used), Signal()
        taken, closes = Signal(), Signal()
        with m.Switch(word[:OPCODE_BITS]):
            for opcode in CONTROL:
                with m.Case(opcode.value):
                    m.d.comb += control.eq(1)
                    if "used" in FORMATS[opcode]:
                        m.d.comb += used.eq(data.View(layout_of(opcode), word).used)
        error, good = self._error(m, loop, is_, calls, top, depth)
        m.d.comb += [
            calls.eq(is_[Opcode.SET] & call.call), closes.eq(is_[Opcode.END] & ~end.more),
            taken.eq((~top.loop | ((loop.stage <= top.begun) & (top.left > loop.rest)))
                     & ~(is_[Opcode.STEM] & following & self.last_frame)),
        ]
        last_turn = top.left == 1
        m.d.comb += [
            does.error.eq(error), does.passes.eq(~good | (~control & taken)),
            does.skipped.eq(~control), does.stays.eq(good & control),
            does.steps.eq(good & control & (used != 0)), does.used.eq(used),
            does.last.eq(Mux(used == 0, is_[Opcode.LOOP] | is_[Opcode.END], used + 1)),
            does.ends.eq(is_[Opcode.END]), does.opens.eq(is_[Opcode.LOOP]),
            does.jumps.eq(good & (calls | (closes & ~last_turn) | is_[Opcode.RETURN])),
            does.pushes.eq(good & (is_[Opcode.LOOP] | calls)),
            does.pops.eq(good & ((closes & last_turn) | is_[Opcode.RETURN])),
            does.turns.eq(good & closes),
        ]
        return does

    def _error(self, m, loop, is_, calls, top, depth):
        """The error of the instruction of `i`, and whether there is none."""
        error, (of_word, wrong) = Signal(ErrorCode), word_error(m, self.i.payload.faults)
        no_stack = (((is_[Opcode.LOOP] | calls) & (depth == STACK))
                    | (is_[Opcode.END] & ~top.loop)
                    | (is_[Opcode.RETURN] & (top.loop | (depth == 0))))
        no_stage = ~top.loop & ((loop.stage | loop.rest) != 0)
        m.d.comb += error.eq(of_word)
        with m.If(~wrong & no_stack):
            m.d.comb += error.eq(ErrorCode.STACK)
        with m.Elif(~wrong & no_stage):
            m.d.comb += error.eq(ErrorCode.STAGE)
        return error, ~(wrong | no_stack | no_stage)

    def _go(self, m, now, first, does, stack, depth):
        """Open and close loops and calls, and jump."""
        top, loop = stack[0], data.View(layout_of(Opcode.LOOP), now.word)
        behind = (now.counter + 1)[:COUNTER_BITS]
        opened = Cat(behind, does.opens, C(0, _STAGE_BITS), Mux(does.opens, loop.count, 0))
        call = data.View(layout_of(Opcode.SET), now.word)
        m.d.comb += self.target.eq(Mux(does.pushes, call.target, top.counter))
        with m.If(first & does.turns):
            m.d.sync += [top.left.eq(top.left - 1),
                         top.begun.eq(Mux(top.begun.all(), top.begun, top.begun + 1))]
        with m.If(first & does.pushes):
            m.d.sync += [depth.eq(depth + 1), stack[0].eq(opened)]
            m.d.sync += [stack[index].eq(stack[index - 1]) for index in range(1, STACK)]
        with m.If(first & does.pops):
            m.d.sync += depth.eq(depth - 1)
            m.d.sync += [stack[index].eq(stack[index + 1] if index + 1 < STACK else 0)
                         for index in range(STACK)]

    def _registers(self, m, stepping, of_end, of_set, word, view):
        """One step of END or SET a cycle, chosen in the cycle before and written in the one behind;
        what the slots read."""
        coming, chosen, valid = Signal(_STEP), Signal(_STEP), Signal()
        end, set_ = view[Opcode.END], view[Opcode.SET]
        numbers = [end[f"reg_{k}"] for k in range(STEPS)]
        same = Cat(0, *(number == before for before, number in itertools.pairwise(numbers)))
        m.d.comb += [
            coming.keep.eq(of_end.any()), coming.again.eq((same & of_end).any()),
            coming.reg.eq(_chosen(of_end, end, "reg") | _chosen(of_set, set_, "reg")),
            coming.add.eq(_chosen(of_end, end, "add") | _chosen(of_set, set_, "value")),
            coming.limit.eq(_chosen(of_end, end, "limit")),
            coming.on_wrap.eq(_chosen(of_end, end, "on_wrap")),
        ]

        # A sum is compared with its limit while it is written; the next step may read it.
        stored, old, value = (Signal(REGISTER_BITS) for _ in range(3))
        taken, writes, hit, before, wrapped, again = (Signal() for _ in range(6))
        written = Signal(data.StructLayout({
            "en": 1, "taken": 1, "reg": NUMBER_BITS, "total": REGISTER_BITS,
            "limited": 1, "limit": REGISTER_BITS}))
        m.d.comb += [
            hit.eq(written.limited & (written.total == written.limit)),
            value.eq(Mux(hit, 0, written.total)),
            wrapped.eq(Mux(written.limited, written.taken & hit, before)),
            old.eq(Mux(again, value, stored)),
            taken.eq(~chosen.on_wrap | wrapped), writes.eq(valid & taken & (chosen.reg != 0)),
        ]
        m.d.sync += [
            valid.eq(stepping), chosen.eq(coming), again.eq(coming.again & writes),
            written.en.eq(writes), written.taken.eq(taken),
            written.reg.eq(chosen.reg), written.total.eq(Mux(chosen.keep, old, 0) + chosen.add),
            written.limited.eq(valid & (chosen.limit != 0)), written.limit.eq(chosen.limit),
            before.eq(wrapped & valid),
        ]

        values = []
        numbers = [word[at:at + NUMBER_BITS] for _, _, at in SLOTS]
        for index, number in enumerate([chosen.reg, *numbers]):
            memory = Memory(shape=REGISTER_BITS, depth=REGISTERS, init=[])
            m.submodules[f"registers_{index}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [write.en.eq(written.en), write.addr.eq(written.reg),
                         write.data.eq(value), read.addr.eq(number)]
            values.append(read.data)
        m.d.comb += stored.eq(values[0])
        return values[1:]


def _chosen(bits, fields, name):
    """The numbered field of which one of some bits tells."""
    return functools.reduce(operator.or_, (Mux(bit, fields[f"{name}_{index}"], 0)
                                           for index, bit in enumerate(bits)))


class StraightFlow(Flow):
    """The same for targets without loops: two registers, no stack, no registers of a program.

    There are no jumps.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        now, out = Signal(WORD, reset_less=True), self._out(m)
        valid, leave, skipped = Signal(), Signal(), Signal()
        header, stem = (data.View(layout_of(opcode), now.word)
                        for opcode in (Opcode.HALT, Opcode.STEM))
        error, (of_word, wrong) = Signal(ErrorCode), word_error(m, now.faults)
        m.d.comb += error.eq(of_word)
        with m.If(~wrong & ((header.stage | header.rest) != 0)):
            m.d.comb += error.eq(ErrorCode.STAGE)
        if Opcode.STEM in opcodes_of(self.arch):
            m.d.comb += skipped.eq((error == ErrorCode.NONE) & (header.opcode == Opcode.STEM)
                                   & stem.next & self.last_frame)
        m.d.comb += [
            leave.eq(valid & (~self.o.valid | self.o.ready | skipped)),
            self.i.ready.eq(~valid | leave), self.taken.eq(self.i.ready),
        ]
        with m.If(self.i.ready):
            m.d.sync += [now.eq(self.i.payload), valid.eq(self.i.valid)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(valid & ~skipped), out.word.eq(now.word),
                         out.counter.eq(now.counter), out.error.eq(error)]
        return m
