"""The instructions that a program executes, in the order of their dispatch.

This is what the sequencer does with loops, calls and registers (``docs/loops.md``), and every error
with which it stops. The check, the simulators and the cycle model all walk the same sequence.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from bivit.compiler.ir.errors import UserError
from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode, control_faults, count_faults, opcodes_of
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.encoding import decode, layout_of
from bivit.hw.isa import (
    CONTROL,
    INDEXED,
    OPCODE_MASK,
    REGISTER_BITS,
    REGISTERS,
    STACK,
    TAG_BITS,
    UNIT_OF,
    WAIT_FIELDS,
    Opcode,
    register_of,
)

__all__ = ["LONGEST", "EndlessProgram", "Executed", "Execution", "MachineError", "expand",
           "frames_of"]

LONGEST = 1 << TAG_BITS
"""Executed and skipped instructions of the longest program that is followed to its end."""

_REGISTER_MASK = (1 << REGISTER_BITS) - 1


class MachineError(RuntimeError):
    """The machine stops with an error code.

    Attributes
    ----------
    code : int
        As in the ERROR register.
    program_counter : int
    reason : str
    """

    def __init__(self, code, program_counter, reason):
        super().__init__(f"the machine stops at instruction {program_counter} with error "
                         f"{code.value}: {reason}")
        self.code, self.program_counter, self.reason = code.value, program_counter, reason


class EndlessProgram(UserError):
    """A program that runs longer than anybody can wait."""


class Executed(NamedTuple):
    """One dispatched instruction.

    `fields` are what the unit gets, registers added, and the waits; do not change them, they may
    be shared. `counter` is the program counter. `delay` is how many cycles the sequencer spends on
    instructions of its own, and on those that it skips, since the one before.
    """

    opcode: Opcode
    fields: dict[str, int]
    counter: int
    delay: int


@dataclasses.dataclass(frozen=True)
class Execution:
    """What a program does.

    Attributes
    ----------
    instructions : list of Executed
        Up to HALT, which is the last, or up to the one before that which stops the machine.
    error : MachineError or None
    unset : int or None
        Program counter of the first instruction that uses a register that was never set.
    reached : set of int
        Program counters of all that was executed or skipped.
    """

    instructions: list[Executed]
    error: MachineError | None
    unset: int | None
    reached: set[int]


def expand(arch: Arch, words: Sequence[int], *, entry: int = 0, more: bool = False) -> Execution:
    """Follow a program through a frame.

    Parameters
    ----------
    entry : int
        Where it begins.
    more : bool
        Whether another frame follows: then it does what belongs to the following image.

    Raises
    ------
    EndlessProgram
        If it takes more than :data:`LONGEST` instructions.
    """
    return _Sequencer(_Decoded(arch, words), entry, more).run()


def frames_of(arch: Arch, words: Sequence[int], count: int) -> list[Execution]:
    """All frames of one start, up to the first that stops the machine."""
    decoded = _Decoded(arch, words)
    first = _Sequencer(decoded, 0, count > 1).run()
    if count == 1 or first.error:
        return [first]
    entry = first.instructions[-1].fields["entry"]
    middle = [_Sequencer(decoded, entry, True).run()] * (count - 2)
    return [first, *middle, _Sequencer(decoded, entry, False).run()]


@dataclasses.dataclass
class _Frame:
    """A loop or a call that is open; `counter` is where its body, or what follows it, begins."""

    counter: int
    loop: bool = False
    begun: int = 0
    left: int = 0


class _Static:
    """What a word of the program says, whenever it is executed.

    `stop` is an error that the word alone shows. `registers` are name, number of the register and
    mask of the indexed fields that have one.
    """

    def __init__(self, arch, opcodes, word):
        self.stop, self.faults = None, {}
        if word & OPCODE_MASK not in opcodes:
            self.stop = ErrorCode.OPCODE, f"opcode {word & OPCODE_MASK} does not exist"
            return
        try:
            self.opcode, fields = decode(word)
        except ValueError as error:
            self.stop = ErrorCode.RESERVED, str(error)
            return
        indexed = INDEXED.get(self.opcode, ())
        numbers = {name: fields.pop(register_of(name)) for name in indexed}
        self.registers = [(name, numbers[name], (1 << layout_of(self.opcode)[name].width) - 1)
                          for name in indexed if numbers[name]]
        self.checked = [name for name in indexed
                        if numbers[name] and not name.endswith("_addr")]
        self.guard, self.fields = (fields.pop("stage"), fields.pop("rest")), fields
        self.unit = UNIT_OF.get(self.opcode)
        if self.opcode in CONTROL:
            if any(self.guard) or any(fields[name] for name in WAIT_FIELDS.values()):
                self.stop = ErrorCode.RESERVED, f"{self.opcode.name} cannot wait or have guards"
            else:
                self.stop = _first(control_faults(arch, self.opcode, fields), fields)

    def resolved(self, registers):
        """The fields, registers added."""
        if not self.registers:
            return self.fields
        fields = dict(self.fields)
        for name, number, mask in self.registers:
            fields[name] = fields[name] + registers[number] & mask
        return fields

    def fault(self, arch, fields):
        """Code and reason of a wrong count, or None."""
        key = tuple(fields[name] for name in self.checked)
        if key not in self.faults:
            self.faults[key] = _first(count_faults(arch, self.opcode, fields), fields)
        return self.faults[key]


def _first(faults, fields):
    for name, wrong in faults:
        if wrong:
            value = sum(fields[part] for part in name.split(" + "))
            return ErrorCode.COUNT, f"{name} is {value}"
    return None


class _Decoded:
    """The words of a program, each decoded when it is asked for first."""

    def __init__(self, arch, words):
        self.arch, self._words, self._known = arch, words, {}
        self._opcodes = {opcode.value for opcode in opcodes_of(arch)}

    def __getitem__(self, counter):
        static = self._known.get(counter)
        if static is None:
            if counter < len(self._words):
                static = _Static(self.arch, self._opcodes, self._words[counter])
            else:
                static = _Static(self.arch, self._opcodes, 0)
                static.stop = ErrorCode.OPCODE, "the program ends without HALT"
            self._known[counter] = static
        return static


class _Sequencer:
    """State of the sequencer while it follows a program."""

    def __init__(self, decoded, entry, more):
        self.arch, self.decoded, self.more, self.reached = decoded.arch, decoded, more, set()
        self.counter, self.delay, self.stack = entry, 0, []
        self.registers, self.known = [0] * REGISTERS, {0}
        self.instructions, self.unset = [], None

    def run(self):
        for _ in range(LONGEST):
            self.reached.add(self.counter)
            static = self.decoded[self.counter]
            stop = static.stop or self._step(static)
            if stop:
                return self._result(MachineError(stop[0], self.counter, stop[1]))
            if self.instructions and self.instructions[-1].opcode is Opcode.HALT:
                return self._result(None)
        raise EndlessProgram(f"the program takes more than {LONGEST} instructions; change the "
                             "counts of its loops")

    def _result(self, error):
        return Execution(self.instructions, error, self.unset, self.reached)

    def _step(self, static):
        """Execute an instruction; give code and reason if it stops the machine."""
        if static.opcode in CONTROL:
            return _CONTROL[static.opcode](self, static.fields)
        of_following = static.opcode is Opcode.STEM and static.fields["next"]
        if any(static.guard) or self.stack or of_following:
            stop, taken = self._guard(*static.guard)
            taken = taken and (self.more or not of_following)
            if stop or not taken:
                self.counter += not stop
                self.delay += 1
                return stop
        self._used(number for _, number, _ in static.registers)
        fields = static.resolved(self.registers)
        if static.unit is not None and (stop := static.fault(self.arch, fields)):
            return stop
        self.instructions.append(Executed(static.opcode, fields, self.counter, self.delay))
        self.counter, self.delay = self.counter + 1, 0
        return None

    def _guard(self, stage, rest):
        """Error, and whether an instruction with these guards is taken in this iteration."""
        top = self.stack[-1] if self.stack else None
        if top and top.loop:
            return None, stage <= top.begun and top.left > rest
        if stage or rest:
            return (ErrorCode.STAGE, f"stage {stage} and rest {rest} outside of loops"), False
        return None, True

    def _used(self, numbers):
        if self.unset is None and not self.known.issuperset(numbers):
            self.unset = self.counter

    def _spend(self, opcode, fields, target=None):
        """Go on at `target`, or behind the instruction."""
        self.delay += control_cycles(opcode, fields, jumps=target is not None)
        self.counter = self.counter + 1 if target is None else target

    def _push(self, frame):
        if len(self.stack) == STACK:
            return ErrorCode.STACK, f"more than {STACK} loops and calls are open"
        self.stack.append(frame)
        return None

    def _loop(self, fields):
        stop = self._push(_Frame(self.counter + 1, True, 0, fields["count"]))
        if not stop:
            self._spend(Opcode.LOOP, fields)
        return stop

    def _end(self, fields):
        if not self.stack or not self.stack[-1].loop:
            return ErrorCode.STACK, "END without a loop"
        wrapped, registers = False, self.registers
        for k in range(fields["used"]):
            if fields[f"on_wrap_{k}"] and not wrapped:
                continue
            number, limit = fields[f"reg_{k}"], fields[f"limit_{k}"]
            self._used((number,))
            value = registers[number] + fields[f"add_{k}"] & _REGISTER_MASK
            if limit:
                wrapped = value == limit
                value = 0 if wrapped else value
            if number:
                registers[number] = value
        if fields["more"]:
            self._spend(Opcode.END, fields)
            return None
        top = self.stack[-1]
        top.begun, top.left = top.begun + 1, top.left - 1
        if top.left:
            self._spend(Opcode.END, fields, top.counter)
        else:
            self.stack.pop()
            self._spend(Opcode.END, fields)
        return None

    def _set(self, fields):
        stop = self._push(_Frame(self.counter + 1)) if fields["call"] else None
        if stop:
            return stop
        for k in range(fields["used"]):
            if number := fields[f"reg_{k}"]:
                self.registers[number] = fields[f"value_{k}"]
                self.known.add(number)
        self._spend(Opcode.SET, fields, fields["target"] if fields["call"] else None)
        return None

    def _return(self, fields):
        if not self.stack or self.stack[-1].loop:
            return ErrorCode.STACK, "RETURN without a call"
        self._spend(Opcode.RETURN, fields, self.stack.pop().counter)
        return None


_CONTROL = {Opcode.LOOP: _Sequencer._loop, Opcode.END: _Sequencer._end,
            Opcode.SET: _Sequencer._set, Opcode.RETURN: _Sequencer._return}
