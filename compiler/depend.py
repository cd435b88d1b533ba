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


def dependencies(instructions: Sequence[Instruction], arch: Arch) -> list[dict[int, bool]]:
    """For each instruction those before it that it depends on; True: it must be done.

    HALT depends on nothing here: it is last, and the machine waits for all units.
    """
    touched = [accesses(arch, instruction.opcode, instruction.fields)
               for instruction in instructions]
    keys = WordKeys(touched)
    units = [UNIT_OF.get(instruction.opcode, -1) for instruction in instructions]
    read = _flat(keys(access.reads) for access in touched)
    written = _flat((*keys(access.writes), *keys(access.updates)) for access in touched)
    first, found, hazards = depend(np.array(units), keys.count, *read, *written)
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
