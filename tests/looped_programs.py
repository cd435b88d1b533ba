"""Random legal programs with loops, calls, guards and registers."""

import itertools

from bivit.compiler.expand import EndlessProgram, expand
from bivit.hw.isa import (
    INDEXED,
    REGISTERS,
    SETS,
    STEPS,
    Opcode,
    encode,
    register_of,
)
from programs import random_fields, random_waits, unit_opcodes

__all__ = ["looped_program", "straightened"]

_FREE = {"param_addr", "thr_addr", "bend_addr", "bias_addr", "eps", "delta", "multiplier",
         "threshold", "flip", "shift", "bend_shift", "pv_first", "first"}
"""Fields that may be anything."""
_DEEPEST = 2  # loops and calls in each other, in the program and in each subroutine


def looped_program(rng, arch, *, longest, ordered=False, opcodes=None):
    """A program that executes 20 to `longest` instructions, HALT last.

    Parameters
    ----------
    rng : random.Random
    arch : Arch
    longest : int
    ordered : bool
        Every instruction waits for all before it; else waits are random.
    opcodes : sequence of Opcode
        Of the units; all that the target has if none are given.
    """
    opcodes = opcodes or unit_opcodes(arch)
    while True:
        program = _Program(rng, arch, opcodes, ordered)
        words = [encode(opcode, **fields) for opcode, fields in program.instructions]
        try:
            execution = expand(arch, words)
        except EndlessProgram:
            continue
        assert execution.error is None and execution.unset is None
        if 20 <= len(execution.instructions) <= longest and len(words) <= arch.program_depth:
            return words


def straightened(arch, words):
    """The same without loops: what is executed, one after the other."""
    return [encode(executed.opcode, **executed.fields)
            for executed in expand(arch, words).instructions]


class _Program:
    """Instructions, subroutines behind HALT."""

    def __init__(self, rng, arch, opcodes, ordered):
        self.rng, self.arch, self.opcodes, self.ordered = rng, arch, opcodes, ordered
        self.instructions, self.calls = [], []
        numbers = iter(range(1, REGISTERS))
        while part := list(itertools.islice(numbers, SETS)):
            self._emit(Opcode.SET, used=len(part), **{
                f"{name}_{k}": value for k, number in enumerate(part)
                for name, value in (("reg", number), ("value", rng.randrange(4)))})
        self._block(0, {})
        self._emit(Opcode.HALT)
        targets = []
        for _ in range(2):
            targets.append(len(self.instructions))
            self._block(0, {}, calls=False)
            self._emit(Opcode.RETURN)
        for fields in self.calls:
            fields["target"] = rng.choice(targets)

    def _emit(self, opcode, **fields):
        self.instructions.append((opcode, fields))
        return fields

    def _block(self, depth, slots, calls=True, loop=False):
        rng = self.rng
        for _ in range(rng.randint(1, 6)):
            kind = rng.random()
            if kind < 0.25 and depth < _DEEPEST:
                self._emit(Opcode.LOOP, count=rng.randint(1, 7))
                self._block(depth + 1, slots, calls, loop=True)
                self._emit(Opcode.END, **self._steps())
            elif kind < 0.3 and loop:
                self._emit(Opcode.END, more=1, **self._steps())
            elif kind < 0.4 and calls and depth < _DEEPEST:
                self.calls.append(self._emit(Opcode.SET, call=1, **self._values()))
            elif kind < 0.45:
                self._emit(Opcode.SET, **self._values())
            else:
                self._unit(loop, slots)

    def _unit(self, loop, slots):
        rng, opcode = self.rng, self.rng.choice(self.opcodes)
        if opcode is Opcode.SOFTMAX and not slots:
            opcode = Opcode.MM_SCORE
        fields = random_fields(rng, self.arch, opcode, slots)
        for name in INDEXED[opcode]:
            if name in _FREE and rng.random() < 0.7:
                fields[register_of(name)] = rng.randrange(REGISTERS)
        # What SOFTMAX reads was written in the same iteration.
        guards = {}
        if loop and opcode not in (Opcode.MM_SCORE, Opcode.SOFTMAX):
            guards = {name: rng.choice((0, 0, 1, 2, 5)) for name in ("stage", "rest")}
        self._emit(opcode, **guards, **fields, **random_waits(rng, self.ordered))

    def _steps(self):
        rng, used = self.rng, self.rng.randint(0, STEPS)
        return {"used": used} | {
            f"{name}_{k}": value for k in range(used) for name, value in (
                ("reg", rng.randrange(REGISTERS)), ("add", rng.randrange(3)),
                ("limit", rng.choice((0, 1, 2, 3, 4))), ("on_wrap", rng.getrandbits(1)))}

    def _values(self):
        rng, used = self.rng, self.rng.choice((0, 1, 2, 5, SETS))
        return {"used": used} | {
            f"{name}_{k}": value for k in range(used) for name, value in (
                ("reg", rng.randrange(REGISTERS)), ("value", rng.randrange(6)))}
