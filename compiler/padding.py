"""Padding bits of the constant memories: which they are, and what they must be.

Columns without a channel, lanes past the end of K and numbers of rows without a token hold fixed
bits. They are found by tiling the network twice, once with parameters whose bits are all zero and
once with all ones: a bit that does not follow the parameters is padding.
"""

from bivit.compiler.batch import batched
from bivit.compiler.cutting import RUN_WORDS
from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import Graph
from bivit.compiler.lift import lift_signs
from bivit.compiler.tile import tile
from bivit.hw.arch import Arch

__all__ = ["find_changed_padding"]


def find_changed_padding(graph: Graph, arch: Arch, constants: dict[str, list[int]],
                         batch: int = 1) -> tuple[str, int] | None:
    """Memory and word of the first padding bit that is not as the compiler writes it, or None.

    Parameters
    ----------
    constants : dict of str to list of int
        The words of each constant memory, of a build of `graph` for `arch`.
    batch : int
        Images of the program.
    """
    graph = lift_signs(batched(graph, batch))
    fused = fuse(graph, arch)
    for run_words in RUN_WORDS:  # which of them the build has does not stand in it
        segments = tile(graph, fused, arch, run_words).segments
        low, high = ({segment.name: segment.words for segment in
                      tile(graph, fused, arch, run_words, share=False, fill=fill).segments}
                     for fill in (0, -1))
        changed = _find(segments, low, high, constants)
        if changed is None:
            break
    return changed


def _find(segments, low, high, constants):
    """The same, for one way to cut the network."""
    position = dict.fromkeys(constants, 0)
    for segment in segments:
        for zero, one in zip(low[segment.name], high[segment.name], strict=True):
            index = position[segment.memory]
            position[segment.memory] += 1
            given = constants[segment.memory][index:index + 1]
            if not given or (given[0] ^ zero) & ~(zero ^ one):
                return segment.memory, index
    for memory, words in constants.items():
        for index in range(position[memory], len(words)):
            if words[index]:
                return memory, index
    return None
