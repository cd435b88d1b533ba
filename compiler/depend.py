"""Dependencies between instructions: who must have finished before whom, and who only comes later.

They are found on single memory words, in the canonical order. Instructions of one unit run in
order: writes stay in order, and an operand is read long before a later instruction writes, so
such pairs only keep their order. What the matrix unit reads of its own results is waited for.
"""

from bivit.compiler.accesses import WordKeys, accesses
from bivit.compiler.structures import Instruction
from bivit.hw.arch import Arch
from bivit.hw.isa import UNIT_OF, Opcode, Unit

__all__ = ["dependencies"]


def dependencies(instructions: tuple[Instruction, ...], arch: Arch, *,
                 share_sums: bool = True) -> list[dict[int, bool]]:
    """For each instruction those before it that it depends on; True: it must be done.

    HALT depends on nothing here: it is last, and the machine waits for all units.

    Parameters
    ----------
    share_sums : bool
        If not, each operation has sums of its own: who orders the instructions leaves those
        together that begin, change and end the same sums.
    """
    writer, readers = {}, {}
    all_touched = [accesses(arch, instruction.opcode, instruction.fields)
                   for instruction in instructions]
    keys = WordKeys(all_touched)
    last_load = None
    result = []
    units = [UNIT_OF.get(instruction.opcode) for instruction in instructions]
    for index, instruction in enumerate(instructions):
        found = {}
        result.append(found)
        if instruction.opcode is Opcode.HALT:
            continue
        touched = all_touched[index]
        hazards, orders = set(), set()
        own = 0 if share_sums else instruction.operation
        for key in _of(own, keys, touched.reads):
            if key in writer:
                hazards.add(writer[key])
            readers.setdefault(key, []).append(index)
        for key in _of(own, keys, touched.writes + touched.updates):
            if key in writer:
                orders.add(writer[key])
            orders.update(readers.pop(key, ()))
            writer[key] = index
        if units[index] is Unit.LOAD:  # the stream has an order, too
            if last_load is not None:
                orders.add(last_load)
            last_load = index
        orders.discard(index)
        found.update((other, units[other] is not units[index]) for other in orders)
        found.update(dict.fromkeys(hazards, True))
    return result


def _of(operation, keys, ranges):
    """Numbers of words; those of sums belong to an operation."""
    if not operation:
        return keys(ranges)
    return [key for memory, words in ranges for key in (
        ((operation, key) for key in keys(((memory, words),))) if memory == "sums"
        else keys(((memory, words),)))]
