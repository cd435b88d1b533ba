"""Padding bits of the constant memories: which they are, and what they must be.

Columns without a channel, lanes past the end of K and numbers of rows without a token hold fixed
bits. They are found by tiling the network twice, once with parameters whose bits are all zero and
once with all ones: a bit that does not follow the parameters is padding.
"""

import dataclasses

import numpy as np

from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import Graph, Node
from bivit.compiler.passes import RUN_WORDS
from bivit.compiler.tile import tile
from bivit.hw.arch import Arch

__all__ = ["find_changed_padding"]

_ZEROS = {"scale": 0, "bias": 0, "k": 0, "kind": 0, "table": 0, "descending": 0}
_ONES = {"scale": -1, "bias": -1, "k": -1, "kind": 3, "table": -1, "descending": 1}


def find_changed_padding(graph: Graph, arch: Arch,
                         constants: dict[str, list[int]]) -> tuple[str, int] | None:
    """Memory and word of the first padding bit that is not as the compiler writes it, or None.

    Parameters
    ----------
    constants : dict of str to list of int
        The words of each constant memory, of a build of `graph` for `arch`.
    """
    zeros, ones = (_filled(graph, fill) for fill in (_ZEROS, _ONES))
    for run_words in RUN_WORDS:  # which of them the build has does not stand in it
        segments = _plan(graph, arch, run_words).segments
        low, high = ({segment.name: segment.words for segment in
                      _plan(filled, arch, run_words, share=False).segments}
                     for filled in (zeros, ones))
        changed = _find(segments, low, high, constants)
        if changed is None:
            break
    return changed


def _plan(graph, arch, run_words, **options):
    return tile(graph, fuse(graph, arch), arch, run_words, **options)


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


def _filled(graph, fill):
    nodes = tuple(dataclasses.replace(node, tensors={
        name: np.full_like(tensor, _value(graph, node, name, fill), dtype=np.int64)
        for name, tensor in node.tensors.items()}) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes)


def _value(graph: Graph, node: Node, name: str, fill) -> int:
    if name == "weight":
        low, high = (-255, 255) if node.op == "plane_linear" else (0, 1)
        return high if fill is _ONES else low
    if name == "threshold":  # folds to 0 and not flipped, or to -1 and flipped
        source = graph.node(node.inputs[0])
        return source.tensors["weight"].shape[1] if source.op == "binary_linear" else 0
    return fill[name]
