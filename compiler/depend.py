"""Dependencies between instructions: who must have finished before whom, and who only comes later.

They are found on single memory words, in the canonical order. Instructions of one unit run in
order: writes stay in order, and an operand is read long before a later instruction writes, so
such pairs only keep their order. What the matrix unit reads of its own results is waited for.
"""

from collections.abc import Sequence

import numpy as np

from bivit.compiler.depend_kernel import depend
from bivit.compiler.structures import Instruction
from bivit.compiler.touched import Touched, touched_words
from bivit.hw.arch import Arch
from bivit.hw.isa import UNIT_OF, Unit

__all__ = ["Needs", "dependencies", "needs_of", "units_of"]


class Needs(Sequence):
    """For each instruction those before it that it depends on; True: it must be done.

    Parameters
    ----------
    first : int array
        Where those of each instruction begin in the other two, and the end.
    found : int array
        Instructions.
    hazards : bool array
        Whether they must be done, or only come before.
    """

    def __init__(self, first: np.ndarray, found: np.ndarray, hazards: np.ndarray):
        self.first, self.found, self.hazards = first, found, hazards
        self._known = [None] * (len(first) - 1)

    def __len__(self):
        return len(self._known)

    def __getitem__(self, index: int) -> dict[int, bool]:
        known = self._known[index]
        if known is None:
            own = slice(self.first[index], self.first[index + 1])
            known = self._known[index] = dict(zip(
                self.found[own].tolist(), self.hazards[own].tolist(), strict=True))
        return known


def dependencies(instructions: Sequence[Instruction], arch: Arch, *,
                 share_sums: bool = True) -> Needs:
    """What each instruction depends on.

    HALT depends on nothing here: it is last, and the machine waits for all units.

    Parameters
    ----------
    share_sums : bool
        If not, each operation has sums of its own: who orders the instructions leaves those
        together that begin, change and end the same sums.
    """
    return needs_of(units_of(instructions),
                    touched_words(instructions, arch, share_sums=share_sums))


def units_of(instructions: Sequence[Instruction]) -> np.ndarray:
    """The unit of each instruction, -1 for HALT."""
    return np.array([UNIT_OF.get(instruction.opcode, -1) for instruction in instructions])


def needs_of(units: np.ndarray, touched: Touched) -> Needs:
    """The same from the unit of each instruction and the words that it touches."""
    low, high, words = touched.numbered()
    return Needs(*depend(units, words, touched.first, touched.writes, low, high, Unit.LOAD.value))
