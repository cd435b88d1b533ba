"""Program words to instructions, and the errors with which the sequencer stops."""

from bivit.hw.blocks.checks import ErrorCode, count_faults, opcodes_of
from bivit.hw.isa import OPCODE_MASK, UNIT_OF, WAIT_FIELDS, Opcode, Unit, decode

__all__ = ["MachineError", "decode_program"]


class MachineError(RuntimeError):
    """The machine stops with an error code.

    Attributes
    ----------
    code : int
        As in the ERROR register.
    program_counter : int
    """

    def __init__(self, code, program_counter, reason):
        super().__init__(f"the machine stops at instruction {program_counter} with error "
                         f"{code.value}: {reason}")
        self.code, self.program_counter = code.value, program_counter


def decode_program(arch, words):
    """Instructions up to HALT (or to one that stops the machine), and that error or None.

    Parameters
    ----------
    arch : Arch
    words : sequence of int

    Returns
    -------
    tuple of list of tuple (Opcode, dict of str to int), MachineError or None
    """
    instructions, dispatched = [], dict.fromkeys(Unit, 0)
    known = {opcode.value for opcode in opcodes_of(arch)}
    for position, word in enumerate(words):
        if word & OPCODE_MASK not in known:
            return instructions, MachineError(ErrorCode.OPCODE, position,
                                              f"opcode {word & OPCODE_MASK} does not exist")
        try:
            opcode, fields = decode(word)
        except ValueError as error:
            return instructions, MachineError(ErrorCode.RESERVED, position, str(error))
        for code, reason in _faults(arch, opcode, fields, dispatched):
            return instructions, MachineError(code, position, reason)
        if opcode is Opcode.HALT:
            return instructions, None
        dispatched[UNIT_OF[opcode]] += 1
        instructions.append((opcode, fields))
    return instructions, MachineError(ErrorCode.OPCODE, len(words),
                                      "the program ends without HALT")


def _faults(arch, opcode, fields, dispatched):
    """Wrong counts, then waits for what was never dispatched."""
    for name, wrong in count_faults(arch, opcode, fields):
        if wrong:
            value = sum(fields[part] for part in name.split(" + "))
            yield ErrorCode.COUNT, f"{name} is {value}"
    for unit, name in WAIT_FIELDS.items():
        if fields[name] > dispatched[unit]:
            yield ErrorCode.WAIT, f"{name} is {fields[name]}"
