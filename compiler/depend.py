"""Dependencies between instructions: who must have finished before whom, and who only comes later.

They are found on single memory words, in the canonical order. Instructions of one unit run in
order: writes stay in order, and an operand is read long before a later instruction writes, so
such pairs only keep their order. What the matrix unit reads of its own results is waited for.
"""

import collections

from bivit.compiler.accesses import WordKeys, accesses
from bivit.compiler.structures import Instruction
from bivit.hw.arch import Arch
from bivit.hw.isa import UNIT_OF, Opcode, Unit

__all__ = ["dependencies"]


def dependencies(instructions: tuple[Instruction, ...], arch: Arch) -> list[dict[int, bool]]:
    """For each instruction those before it that it depends on; True: it must be done.

    HALT depends on nothing here: it is last, and the machine waits for all units.
    """
    writer, readers = {}, collections.defaultdict(list)
    all_touched = [accesses(arch, instruction.opcode, instruction.fields)
                   for instruction in instructions]
    keys = WordKeys(all_touched)
    last_load = None
    result = []
    for index, instruction in enumerate(instructions):
        found = {}
        result.append(found)
        if instruction.opcode is Opcode.HALT:
            continue
        unit = UNIT_OF[instruction.opcode]

        def need(other, hazard, found=found, unit=unit):
            foreign = UNIT_OF[instructions[other].opcode] is not unit
            found[other] = found.get(other, False) or foreign or hazard

        touched = all_touched[index]
        for key in keys(touched.reads):
            if key in writer:
                need(writer[key], True)
            readers[key].append(index)
        for key in keys(touched.writes + touched.updates):
            if key in writer:
                need(writer[key], False)
            for other in readers.pop(key, ()):
                if other != index:
                    need(other, False)
            writer[key] = index
        if unit is Unit.LOAD:  # the stream has an order, too
            if last_load is not None:
                need(last_load, False)
            last_load = index
    return result
