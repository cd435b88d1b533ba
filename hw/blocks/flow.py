"""The way of a program through itself: loops, calls and registers."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode, opcodes_of
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

__all__ = ["COUNTER_BITS", "FETCHED", "JUMP_CYCLES", "Flow", "StraightFlow", "control_cycles"]

COUNTER_BITS = 17
"""Bits of the program counter, which may stand behind the last word."""

FETCHED = data.StructLayout({"word": INSTR_BITS, "counter": COUNTER_BITS, "error": ErrorCode})
"""A word of the program, where it lies, and what is wrong with it."""

JUMP_CYCLES = 5
"""Cycles from a jump to the instruction that it goes to."""

_STAGE_BITS = layout_of(Opcode.HALT)["stage"].width
_FRAME = data.StructLayout({
    "counter": COUNTER_BITS,  # where the body begins, or where RETURN goes
    "loop": 1, "begun": _STAGE_BITS,  # iterations, as far as stages reach
    "left": FORMATS[Opcode.LOOP]["count"]})
_STEP = data.StructLayout({"reg": NUMBER_BITS, "add": REGISTER_BITS, "limit": REGISTER_BITS,
                           "on_wrap": 1, "keep": 1})  # keep: add to what the register holds


def control_cycles(opcode: Opcode, fields: dict[str, int], *, jumps: bool) -> int:
    """Cycles that an instruction of the sequencer takes; one that is skipped takes 1."""
    own = fields["used"] + 1 if opcode in (Opcode.END, Opcode.SET) else 1
    return max(own, JUMP_CYCLES) if jumps else own


class Flow(wiring.Component):
    """Executes the instructions of the sequencer, and adds registers to those of the units.

    An instruction of the following image is skipped in the last frame.

    Instructions wait in a register where their registers are read; one that is taken, or that has
    an error, goes on to the register of `o`, with its sums. LOOP, RETURN and instructions that are
    skipped stay a cycle, END and SET a cycle for each step and one more. A jump is pulsed in the
    first of them, and `i` is then asked for the instruction at `target`.

    Members
    -------
    i, o : streams of ``FETCHED``
    last_frame : ``In``
    jump, target : ``Out``
    """

    def __init__(self):
        super().__init__({"i": In(stream.Signature(FETCHED)), "o": Out(stream.Signature(FETCHED)),
                          "last_frame": In(1),
                          "jump": Out(1), "target": Out(COUNTER_BITS)})

    def elaborate(self, platform):
        m = Module()
        now, valid, out = Signal(FETCHED, reset_less=True), Signal(), self._out(m)
        stack, depth = Signal(data.ArrayLayout(_FRAME, STACK)), Signal(range(STACK + 1))
        step, top = Signal(range(max(STEPS, SETS) + 1)), stack[0]
        view = {opcode: data.View(layout_of(opcode), now.word)
                for opcode in (Opcode.LOOP, Opcode.END, Opcode.SET)}
        is_ = {opcode: view[Opcode.LOOP].opcode == opcode for opcode in Opcode}
        error, good = self._errors(m, now, step == 0, view, is_, top, depth)

        header = view[Opcode.LOOP]
        following = data.View(layout_of(Opcode.STEM), now.word).next
        taken, control, used = Signal(), Signal(), Signal.like(step)
        leave, passes = Signal(), Signal()
        with m.Switch(now.word[:OPCODE_BITS]):
            for opcode in CONTROL:
                with m.Case(opcode.value):
                    m.d.comb += control.eq(1)
                    if "used" in FORMATS[opcode]:
                        m.d.comb += used.eq(view[opcode].used)
        m.d.comb += [
            taken.eq((~top.loop | ((header.stage <= top.begun) & (top.left > header.rest)))
                     & ~(is_[Opcode.STEM] & following & self.last_frame)),
            passes.eq(~good | (~control & taken)),
            leave.eq(valid & Mux(passes, ~self.o.valid | self.o.ready,
                                 ~control | (step == used))),
            self.i.ready.eq((~valid | leave) & ~self.jump),
        ]
        with m.If(self.i.ready):
            m.d.sync += [now.eq(self.i.payload), valid.eq(self.i.valid)]
        with m.Elif(leave):
            m.d.sync += valid.eq(0)
        with m.If(leave):
            m.d.sync += step.eq(0)
        with m.Elif(valid & good & control):
            m.d.sync += step.eq(step + 1)
        with m.If(valid & good & (step == 0)):
            self._go(m, now, view, is_, stack, depth)

        values = self._registers(m, valid & good & (step != used), step, now.word, view,
                                 is_[Opcode.END])
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(valid & passes), out.eq(now), out.error.eq(error)]
            for (offset, width, _), value in zip(SLOTS, values, strict=True):
                field = now.word[offset:offset + width]
                m.d.sync += out.word[offset:offset + width].eq(field + value)
        return m

    def _out(self, m):
        """The register of `o`."""
        out = Signal(FETCHED, reset_less=True)
        m.d.comb += self.o.payload.eq(out)
        return out

    def _errors(self, m, now, first, view, is_, top, depth):
        """The error of the instruction, and whether there is none."""
        error, calls = Signal(ErrorCode), view[Opcode.SET].call & is_[Opcode.SET]
        opens = is_[Opcode.LOOP] | calls
        with m.If(now.error != ErrorCode.NONE):
            m.d.comb += error.eq(now.error)
        with m.Elif(first & ((opens & (depth == STACK)) | (is_[Opcode.END] & ~top.loop)
                             | (is_[Opcode.RETURN] & (top.loop | (depth == 0))))):
            m.d.comb += error.eq(ErrorCode.STACK)
        with m.Elif(~top.loop & ((view[Opcode.LOOP].stage | view[Opcode.LOOP].rest) != 0)):
            m.d.comb += error.eq(ErrorCode.STAGE)
        good = Signal()
        m.d.comb += good.eq(error == ErrorCode.NONE)
        return error, good

    def _go(self, m, now, view, is_, stack, depth):
        """Open and close loops and calls, and jump."""
        top, loop, push, pop = stack[0], view[Opcode.LOOP], Signal(), Signal()
        behind = (now.counter + 1)[:COUNTER_BITS]
        opened = Cat(behind, is_[Opcode.LOOP], C(0, _STAGE_BITS),
                     Mux(is_[Opcode.LOOP], loop.count, 0))
        m.d.comb += self.target.eq(top.counter)
        with m.If(is_[Opcode.LOOP]):
            m.d.comb += push.eq(1)
        with m.Elif(is_[Opcode.SET]):
            call = view[Opcode.SET].call
            m.d.comb += [push.eq(call), self.jump.eq(call), self.target.eq(view[Opcode.SET].target)]
        with m.Elif(is_[Opcode.END] & ~view[Opcode.END].more):
            m.d.comb += [self.jump.eq(top.left != 1), pop.eq(top.left == 1)]
            m.d.sync += [top.left.eq(top.left - 1),
                         top.begun.eq(Mux(top.begun.all(), top.begun, top.begun + 1))]
        with m.Elif(is_[Opcode.RETURN]):
            m.d.comb += [self.jump.eq(1), pop.eq(1)]
        with m.If(push):
            m.d.sync += [depth.eq(depth + 1), stack[0].eq(opened)]
            m.d.sync += [stack[index].eq(stack[index - 1]) for index in range(1, STACK)]
        with m.If(pop):
            m.d.sync += depth.eq(depth - 1)
            m.d.sync += [stack[index].eq(stack[index + 1] if index + 1 < STACK else 0)
                         for index in range(STACK)]

    def _registers(self, m, stepping, step, word, view, is_end):
        """One step of END or SET a cycle, chosen in the cycle before; what the slots read."""
        chosen, valid, wrapped = Signal(_STEP), Signal(), Signal()
        m.d.sync += [valid.eq(stepping), chosen.keep.eq(is_end), chosen.limit.eq(0),
                     chosen.on_wrap.eq(0)]
        with m.If(is_end):
            self._choose(m, step, view[Opcode.END], STEPS, chosen, {
                "reg": "reg", "add": "add", "limit": "limit", "on_wrap": "on_wrap"})
        with m.Else():
            self._choose(m, step, view[Opcode.SET], SETS, chosen, {"reg": "reg", "add": "value"})

        old, total = Signal(REGISTER_BITS), Signal(REGISTER_BITS)
        hit, taken = Signal(), Signal()
        m.d.comb += [
            total.eq(Mux(chosen.keep, old, 0) + chosen.add),
            hit.eq((chosen.limit != 0) & (total == chosen.limit)),
            taken.eq(~chosen.on_wrap | wrapped),
        ]
        with m.If(~valid):
            m.d.sync += wrapped.eq(0)
        with m.Elif(chosen.limit != 0):
            m.d.sync += wrapped.eq(taken & hit)

        values = []
        numbers = [word[at:at + NUMBER_BITS] for _, _, at in SLOTS]
        for index, number in enumerate([chosen.reg, *numbers]):
            memory = Memory(shape=REGISTER_BITS, depth=REGISTERS, init=[])
            m.submodules[f"registers_{index}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            m.d.comb += [write.en.eq(valid & taken & (chosen.reg != 0)),
                         write.addr.eq(chosen.reg), write.data.eq(Mux(hit, 0, total)),
                         read.addr.eq(number)]
            values.append(read.data)
        m.d.comb += old.eq(values[0])
        return values[1:]

    def _choose(self, m, step, fields, count, chosen, names):
        with m.Switch(step):
            for index in range(count):
                with m.Case(index):
                    m.d.sync += [chosen[name].eq(fields[f"{field}_{index}"])
                                 for name, field in names.items()]


class StraightFlow(Flow):
    """The same for targets without loops: two registers, no stack, no registers of a program.

    There are no jumps.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        now, out = Signal(FETCHED, reset_less=True), self._out(m)
        valid, leave, skipped = Signal(), Signal(), Signal()
        header, stem = (data.View(layout_of(opcode), now.word)
                        for opcode in (Opcode.HALT, Opcode.STEM))
        error = Signal(ErrorCode)
        with m.If(now.error != ErrorCode.NONE):
            m.d.comb += error.eq(now.error)
        with m.Elif((header.stage | header.rest) != 0):
            m.d.comb += error.eq(ErrorCode.STAGE)
        if Opcode.STEM in opcodes_of(self.arch):
            m.d.comb += skipped.eq((error == ErrorCode.NONE) & (header.opcode == Opcode.STEM)
                                   & stem.next & self.last_frame)
        m.d.comb += [
            leave.eq(valid & (~self.o.valid | self.o.ready | skipped)),
            self.i.ready.eq(~valid | leave),
        ]
        with m.If(self.i.ready):
            m.d.sync += [now.eq(self.i.payload), valid.eq(self.i.valid)]
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(valid & ~skipped), out.eq(now), out.error.eq(error)]
        return m
