"""Dependencies between instructions: who must have finished before whom, and who only comes later.

They are found on single memory words, in the canonical order. Instructions of one unit run in
order: writes stay in order, and an operand is read long before a later instruction writes, so
such pairs only keep their order. What the matrix unit reads of its own results is waited for.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from bivit.compiler.accesses import WordKeys, accesses
from bivit.compiler.kernels import depend
from bivit.compiler.structures import Instruction
from bivit.hw.arch import Arch
from bivit.hw.isa import UNIT_OF, Unit

__all__ = ["dependencies"]


def dependencies(instructions: Sequence[Instruction], arch: Arch, *,
                 share_sums: bool = True) -> list[dict[int, bool]]:
    """For each instruction those before it that it depends on; True: it must be done.

    HALT depends on nothing here: it is last, and the machine waits for all units.

    Parameters
    ----------
    share_sums : bool
        If not, each operation has sums of its own: who orders the instructions leaves those
        together that begin, change and end the same sums.
    """
    touched = [accesses(arch, instruction.opcode, instruction.fields)
               for instruction in instructions]
    keys = WordKeys(touched)
    units = [UNIT_OF.get(instruction.opcode, -1) for instruction in instructions]
    own = {}  # operation, word of sums -> number

    def words(ranges, operation):
        for memory, span in ranges:
            for word in keys(((memory, span),)):
                if share_sums or memory != "sums":
                    yield word
                else:
                    yield own.setdefault((operation, word), keys.count + len(own))

    named = [(access, instruction.operation)
             for access, instruction in zip(touched, instructions, strict=True)]
    read = _flat(words(access.reads, operation) for access, operation in named)
    written = _flat(words((*access.writes, *access.updates), operation)
                    for access, operation in named)
    first, found, hazards = depend(np.array(units), keys.count + len(own), *read, *written)
    edges = list(zip(found.tolist(), hazards.tolist(), strict=True))
    needs = [dict(edges[low:high]) for low, high in itertools.pairwise(first.tolist())]
    last_load = None
    for index, unit in enumerate(units):  # the stream has an order, too
        if unit is Unit.LOAD:
            if last_load is not None:
                needs[index].setdefault(last_load, False)
            last_load = index
    return needs


def _flat(lists):
    """Where each list begins, and the end; what is in them."""
    flat, first = [], [0]
    for items in lists:
        flat.extend(items)
        first.append(len(flat))
    return np.array(first, np.int64), np.array(flat, np.int64)
