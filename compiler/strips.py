"""Tokens in strips that are alike, so that a loop over an image has few instructions.

Where tokens are added to their neighbours in an image, what a strip of them needs is the same from
strip to strip if strips are whole lines: but for the first and last lines, whose neighbours are
missing.
"""

import dataclasses
import math

import numpy as np

__all__ = ["Strips", "Term", "find_strips", "terms_of"]

_ITERATIONS = 12
"""Strips that are whole blocks, too, are taken if there are so many of them."""


@dataclasses.dataclass(frozen=True)
class Strips:
    """How the operations on tokens of one number are cut.

    Parameters
    ----------
    tokens : int
        Tokens of a strip.
    blocks : int
        Blocks of an iteration, where strips are not needed.
    """

    tokens: int
    blocks: int

    def aligned(self, rows: int) -> bool:
        """Whether a strip is whole blocks."""
        return self.tokens == self.blocks * rows


@dataclasses.dataclass(frozen=True)
class Term:
    """What some strips add alike.

    Parameters
    ----------
    begin : int
        The first of these strips.
    index : int array (tokens of a strip, taps)
        Tokens of the source in that strip, -1 for none.
    moved : tuple of int
        For each of these strips: rows by which its rows of the source are later.
    """

    begin: int
    index: np.ndarray
    moved: tuple[int, ...]


def terms_of(index: np.ndarray, numbers: np.ndarray, size: int) -> list[Term] | None:
    """What strips of `size` tokens add, or None if they are not alike.

    Parameters
    ----------
    index : int array (tokens, taps)
        Token of the source, -1 for none.
    numbers : int array
        Row of each token of the source, counted through all blocks.
    """
    index = index.reshape(-1, size, index.shape[1])
    there = index >= 0
    begin, count = there.argmax(0), there.sum(0)
    end = len(index) - there[::-1].argmax(0)
    if (count[count > 0] != (end - begin)[count > 0]).any():
        return None
    terms = []
    for first, last in sorted(set(zip(begin[count > 0].tolist(), end[count > 0].tolist(),
                                      strict=True))):
        own = (begin == first) & (end == last) & (count > 0)
        rows = numbers[index[first:last, own]]
        moved = rows - rows[0]
        if (moved != moved[:, :1]).any():
            return None
        terms.append(Term(first, np.where(own, index[first], -1), tuple(moved[:, 0].tolist())))
    return terms


def find_strips(operations, nodes, types, segments, arch) -> dict[int, Strips]:
    """The strips of every number of tokens that are added to their neighbours in an image.

    Tokens in `segments` (windows) are no image: each segment starts a new block.
    """
    found, most = {}, {}
    for operation in operations:
        if operation.kind == "rows":
            tokens, width = types[operation.name].shape
            room = arch.sums_depth // -(-width // arch.cols) * arch.post_rows
            most[tokens] = min(most.get(tokens, room), room)
            sources = {types[name].shape[0] for name in operation.inputs.values()}
            index = nodes[operation.name].tensors.get("index")
            same = np.arange(tokens)[:, None]
            image = all(segments[name] == 1 for name in (operation.name,
                                                         *operation.inputs.values()))
            if (image and tokens in sources and index is not None
                    and ((index != same) & (index >= 0)).any()):
                found.setdefault(tokens, []).append(operation)
    strips = {}
    for tokens, own in found.items():
        sizes = [size for size in range(2, min(most[tokens], tokens // 2) + 1)
                 if not tokens % size and all(_alike(nodes[operation.name], types, operation,
                                                     tokens, size) for operation in own)]
        if sizes:
            whole = math.lcm(sizes[0], arch.rows)
            size = whole if whole in sizes and tokens // whole >= _ITERATIONS else sizes[0]
            strips[tokens] = Strips(size, -(-size // arch.rows))
    return strips


def _alike(node, types, operation, tokens, size):
    """Whether strips of this size are alike where an operation adds neighbours."""
    index = node.tensors["index"]
    part = node.tensors.get("part", np.zeros(index.shape[1], np.int64))
    source = node.tensors.get("source", np.zeros(1, np.int64))
    return all(terms_of(index[:, part == number], np.arange(tokens), size) is not None
               for number in np.unique(part)
               if types[operation.inputs[f"source{source[number]}"]].shape[0] == tokens)
