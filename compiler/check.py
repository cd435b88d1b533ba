"""The legality check of a finished program: addresses, initialised words, hazards, zero bits.

It looks only at words and at the target, and follows what is executed. Every word that an
instruction reads must have been written before, and every pair that touches the same word must be
covered by waits or by the order within a unit.
"""

import collections

from bivit.compiler.accesses import CONSTANTS, accesses
from bivit.compiler.clock import KnownDone
from bivit.compiler.expand import expand
from bivit.hw.arch import Arch
from bivit.hw.isa import UNIT_OF, Destination, Opcode
from bivit.hw.memories import memories

__all__ = ["IllegalProgram", "check_program"]


class IllegalProgram(ValueError):
    """A program that could go wrong; the message names the instruction."""


def check_program(words, arch: Arch, constant_words: dict[str, int]) -> None:
    """Check a whole program.

    Parameters
    ----------
    words : sequence of int
    constant_words : dict of str to int
        Words that are in each constant memory; nothing behind them may be read.

    Raises
    ------
    IllegalProgram
    """
    if len(words) > arch.program_depth:
        raise IllegalProgram(f"{len(words)} instructions do not fit a program memory of "
                             f"{arch.program_depth}")
    execution = expand(arch, words)
    if execution.error:
        raise IllegalProgram(f"instruction {execution.error.program_counter}: "
                             f"{execution.error.reason}")
    if execution.unset is not None:
        raise IllegalProgram(f"instruction {execution.unset}: uses a register that nothing set")
    if unreached := set(range(len(words))) - execution.reached:
        raise IllegalProgram(f"instruction {min(unreached)}: is never reached")
    checker = _Checker(arch, constant_words)
    for position, (opcode, fields, counter, _) in enumerate(execution.instructions):
        try:
            if opcode is not Opcode.HALT:
                checker.instruction(position, opcode, fields)
            elif any(fields.values()):
                raise ValueError("HALT has waits")
        except ValueError as error:
            place = f"instruction {counter}"
            if len(execution.instructions) != len(words):
                place += f", executed as number {position}"
            raise IllegalProgram(f"{place}: {error}") from None


class _Checker:
    """State of a walk through what is executed; positions are numbers in the order of dispatch."""

    def __init__(self, arch, constant_words):
        self.arch = arch
        self.limits = {name: size.depth for name, size in memories(arch).items()} | constant_words
        self.clock = KnownDone()
        self.place = {}  # position -> unit, number in the unit
        self.writer = {}
        self.readers = collections.defaultdict(list)

    def instruction(self, position, opcode, fields):
        _check_places(self.arch, fields)
        unit = UNIT_OF[opcode]
        self.place[position] = (unit, len(self.clock.sent[unit]))
        known = self.clock.add(position, opcode, fields)
        touched = accesses(self.arch, opcode, fields)
        _check_overlap(touched, fields)
        for memory, word in self._within(touched.reads):
            if memory not in CONSTANTS:
                self._read(position, known, memory, word)
        for memory, word in self._within(touched.updates):
            if (memory, word) not in self.writer:
                raise ValueError(f"adds to {memory.upper()} word {word}, which nothing wrote")
        for memory, word in self._within(touched.writes + touched.updates):
            self._write(position, known, memory, word)

    def _within(self, ranges):
        for memory, words in ranges:
            if words and not 0 <= words[0] <= words[-1] < self.limits[memory]:
                raise ValueError(f"words {words[0]} to {words[-1]} of {memory.upper()} are not "
                                 f"all within its {self.limits[memory]}")
            for word in words:
                yield memory, word

    def _read(self, position, known, memory, word):
        key = (memory, word)
        if key not in self.writer:
            raise ValueError(f"reads {memory.upper()} word {word}, which nothing wrote")
        self._done(known, self.writer[key], f"reads {memory.upper()} word {word}, which", "writes")
        self.readers[key].append(position)

    def _write(self, position, known, memory, word):
        key = (memory, word)
        unit = self.place[position][0]
        if key in self.writer and self.place[self.writer[key]][0] is not unit:
            self._done(known, self.writer[key],
                       f"writes {memory.upper()} word {word}, which", "writes")
        for other in self.readers.pop(key, ()):
            if self.place[other][0] is not unit:
                self._done(known, other, f"writes {memory.upper()} word {word}, which", "reads")
        self.writer[key] = position

    def _done(self, known, other, what, verb):
        unit, number = self.place[other]
        if known[unit] < number:
            raise ValueError(f"{what} executed instruction {other} {verb}, without waiting for it")


def _check_places(arch, fields):
    """Places that the sequencer does not check."""
    bounds = {"dst_pos": (arch.blocks_per_key_word if fields.get("dst") == Destination.V.value
                          else arch.chunks_per_word),
              "dst_col": arch.blocks_per_key_group, "sat": arch.resid_bits + 1}
    for name, bound in bounds.items():
        if fields.get(name, 0) >= bound:
            raise ValueError(f"{name} is {fields[name]}, and must be below {bound}")


def _check_overlap(touched, fields):
    """A product must not write what it still reads; an addend may be replaced in place."""
    reads = {(memory, word) for memory, words in touched.reads for word in words}
    writes = {(memory, word) for memory, words in touched.writes for word in words}
    addends = {fields.get("dst_addr")} & {fields.get("add_addr"), fields.get("add2_addr")}
    if reads & writes and not addends:
        memory, word = min(reads & writes)
        raise ValueError(f"reads and writes {memory.upper()} word {word}")
