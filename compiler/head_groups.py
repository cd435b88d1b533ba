"""Attentions of many heads and their operands, cut into groups of heads.

All blocks of tokens are gone through for a group of heads, then for the next: the iterations of a
loop are so many more, and its body has the instructions of a group alone.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.pipeline import FURTHEST
from bivit.compiler.structures import Form, Operation
from bivit.hw.arch import Arch

__all__ = ["HeadGroups", "find_head_groups"]

_SHORT = 64
"""Most blocks of all queries: a loop of more iterations is long enough."""


@dataclasses.dataclass(frozen=True)
class HeadGroups:
    """Equally many heads, one group behind the other.

    Parameters
    ----------
    heads : int
        All heads.
    together : int
        Those of a group.
    """

    heads: int
    together: int

    def starts(self, form: Form) -> tuple[int, ...]:
        """Chunk position where each group begins."""
        width = sum(max(form.chunks)) // self.heads * self.together
        first = {}
        for position, (channel, count) in enumerate(form.chunks):
            if count:
                first.setdefault(channel // width, position)
        return tuple(first.values())


def find_head_groups(operations: Sequence[Operation], nodes: dict, types: dict,
                     arch: Arch) -> dict[str, HeadGroups]:
    """The groups of some attentions, and of their queries, keys and values, by name.

    These have more heads than SOFTMAX has slots, few blocks of queries, and so few of keys that
    scores may be in the loop that makes all keys of a window. Heads of a group are equal but for
    addresses: limits or zero points of their own keep all heads together.
    """
    made = {operation.name: operation for operation in operations}
    found = {}
    for operation in operations:
        if operation.kind != "attention":
            continue
        softmax, attend = (nodes[operation.nodes[role]] for role in ("softmax", "attend"))
        heads, queries, keys = types[softmax.name].shape
        operands = {operation.inputs[role] for role in "qkv"}
        if (heads > arch.score_slots and -(-keys // arch.rows) <= max(FURTHEST)
                and queries <= _SHORT * arch.rows
                and softmax.op != "softmax_absolute" and not any(attend.tensors.get("zero", ()))
                and all(name in made and made[name].kind == "bits" for name in operands)):
            together = max(size for size in range(1, arch.score_slots + 1) if heads % size == 0)
            found |= dict.fromkeys((operation.name, *operands), HeadGroups(heads, together))
    return found
