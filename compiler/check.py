"""The legality check of a finished program: addresses, initialised words, hazards, zero bits.

It looks only at words and at the target, and follows what is executed. Every word that an
instruction reads must have been written before, and every pair that touches the same word must be
covered by waits or by the order within a unit.
"""

import collections

from bivit.compiler.accesses import EXTERNAL, accesses
from bivit.compiler.clock import KnownDone
from bivit.compiler.expand import expand
from bivit.compiler.word_keys import WordKeys
from bivit.hw.arch import Arch
from bivit.hw.blocks.read_port import BEAT_ADDRESS_BITS
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Destination, Opcode
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
        Words that are in each constant memory at start; nothing behind them may be read. None of a
        `streamed` target.

    Raises
    ------
    IllegalProgram
    """
    if len(words) > arch.program_depth:
        raise IllegalProgram(f"{len(words)} instructions do not fit a program memory of "
                             f"{arch.program_depth}")
    execution = expand(arch, words, more=True)
    if execution.error:
        raise IllegalProgram(f"instruction {execution.error.program_counter}: "
                             f"{execution.error.reason}")
    if execution.unset is not None:
        raise IllegalProgram(f"instruction {execution.unset}: uses a register that nothing set")
    if unreached := set(range(len(words))) - execution.reached:
        raise IllegalProgram(f"instruction {min(unreached)}: is never reached")
    keys = WordKeys(accesses(arch, executed.opcode, executed.fields)
                    for executed in execution.instructions)
    checker = _Checker(arch, constant_words, keys)
    for position, (opcode, fields, counter, _) in enumerate(execution.instructions):
        try:
            if opcode is not Opcode.HALT:
                checker.instruction(position, opcode, fields)
            elif any(fields[name] for name in WAIT_FIELDS.values()):
                raise ValueError("HALT has waits")
            else:
                _check_frames(arch, words, execution.instructions, fields["entry"])
        except ValueError as error:
            place = f"instruction {counter}"
            if len(execution.instructions) != len(words):
                place += f", executed as number {position}"
            raise IllegalProgram(f"{place}: {error}") from None


class _Checker:
    """State of a walk through what is executed; positions are numbers in the order of dispatch."""

    def __init__(self, arch, constant_words, keys):
        self.arch, self.keys = arch, keys
        self.limits = {name: size.depth for name, size in memories(arch).items()} | constant_words
        self.limits[EXTERNAL] = 1 << BEAT_ADDRESS_BITS
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
        for key in self._within(touched.reads):
            self._read(position, known, key)
        for key in self._within(touched.updates):
            if key not in self.writer:
                raise ValueError(f"adds to {self.keys.name(key)}, which nothing wrote")
        for key in self._within(touched.writes + touched.updates):
            self._write(position, known, key)

    def _within(self, ranges):
        for memory, words in ranges:
            if words and not 0 <= words[0] <= words[-1] < self.limits[memory]:
                raise ValueError(f"words {words[0]} to {words[-1]} of {memory.upper()} are not "
                                 f"all within its {self.limits[memory]}")
            yield from self.keys(((memory, words),))

    def _read(self, position, known, key):
        if key in self.writer:
            self._done(known, self.writer[key], "reads", key, "writes")
        elif self.keys.memory(key) != EXTERNAL:  # which holds constants from the start
            raise ValueError(f"reads {self.keys.name(key)}, which nothing wrote")
        self.readers[key].append(position)

    def _write(self, position, known, key):
        unit = self.place[position][0]
        if key in self.writer and self.place[self.writer[key]][0] is not unit:
            self._done(known, self.writer[key], "writes", key, "writes")
        for other in self.readers.pop(key, ()):
            if self.place[other][0] is not unit:
                self._done(known, other, "writes", key, "reads")
        self.writer[key] = position

    def _done(self, known, other, does, key, verb):
        unit, number = self.place[other]
        if known[unit] < number:
            raise ValueError(f"{does} {self.keys.name(key)}, which executed instruction {other} "
                             f"{verb}, without waiting for it")


_VARYING = dict.fromkeys((*WAIT_FIELDS.values(), "next"), 0)


def _check_frames(arch, words, first, entry):
    """A later frame is the first one without its first STEM, which the one before did for it.

    Then each wait for STEM finds in every frame what it finds in the first: as many of them were
    sent before.
    """
    following = expand(arch, words, entry=entry, more=True)
    if following.error:
        raise ValueError(f"a later frame begins at {entry}: {following.error}")
    later = [executed[:3] for executed in following.instructions]
    split = len(first) - len(later)
    if split < 0 or [executed[:3] for executed in first[split:]] != later:
        raise ValueError(f"a later frame begins at {entry} and is not the end of the first")
    for_this, for_next = ([(opcode, fields | _VARYING, fields.get("next"))
                           for opcode, fields, _, _ in part if opcode is Opcode.STEM or own]
                          for part, own in ((first[:split], True), (first[split:], False)))
    if ([stem[:2] for stem in for_this] != [stem[:2] for stem in for_next]
            or any(following for _, _, following in for_this)
            or not all(following for _, _, following in for_next)):
        raise ValueError(f"a later frame begins at {entry}, and what the one before did for it is "
                         "not what the first does before")


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
