"""Signs of scaled numbers become signs of the numbers themselves, which a product gives with them.

``n = saturate(round(x scale + bias))`` of one token grows or falls with x, so ``n >= t`` is a limit
of x: bits that the products behind a normalisation wait for need not wait for its numbers.
"""

import dataclasses

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.graph import Graph, Node

__all__ = ["lift_signs", "lifted_threshold"]

_MAKERS = ("rescale", "embed", "bend", "add_table")
"""Operations of a product whose numbers can give bits as well."""
_READERS = ("binary_linear", "gather")
"""Operations that take bits as rows."""
_HALF = 1 << 15


def lift_signs(graph: Graph) -> Graph:
    """The same values by other nodes: one threshold of each product's numbers at most."""
    nodes = {node.name: node for node in graph.nodes}
    signed = {node.inputs[0] for node in graph.nodes if node.op == "threshold"}
    readers = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.op)
    for node in graph.nodes:
        sums = nodes.get(node.inputs[0]) if node.op == "threshold" else None
        if sums is None or not _keeps_tokens(sums):
            continue
        maker = nodes.get(sums.inputs[0])
        if maker is None or maker.op not in _MAKERS or maker.name in signed:
            continue
        if not set(readers.get(node.name, ())) <= set(_READERS):
            continue
        signed.add(maker.name)
        threshold, descending = lifted_threshold(sums, node)
        tensors = {"threshold": threshold, "descending": descending}
        nodes[node.name] = dataclasses.replace(node, inputs=(maker.name,), tensors=tensors)
    return dataclasses.replace(graph, nodes=tuple(nodes.values()))


def _keeps_tokens(node: Node) -> bool:
    """Whether every token is made of the same one of the only input."""
    if node.op != "weighted_sum" or len(node.inputs) != 1:
        return False
    index = node.tensors["index"]
    return index.shape[1] == 1 and (index[:, 0] == np.arange(len(index))).all()


def lifted_threshold(sums: Node, sign: Node):
    """Threshold and direction on x for ``sign`` of the numbers that `sums` makes of x.

    Returns
    -------
    tuple of int64 arrays
        Threshold, one beyond the numbers where it always or never holds; descending.
    """
    scale, bias = sums.tensors["scale"][0], sums.tensors["bias"]
    threshold = sign.tensors["threshold"].astype(np.int64)

    def holds(x):
        numbers = numeric.saturate(numeric.rescale(x, scale, bias, sums.attributes["shift"]),
                                   sums.attributes["bits"])
        return numeric.threshold_bits(numbers, threshold, sign.tensors["descending"])

    low, high = np.full(len(threshold), -_HALF), np.full(len(threshold), _HALF - 1)
    first, last = holds(low), holds(high)
    while (low < high).any():  # for the least x that gives what the greatest one gives
        middle = low + high >> 1
        alike = holds(middle) == last
        low, high = np.where(alike, low, middle + 1), np.where(alike, middle, high)
    descending = first & ~last
    never = ~first & ~last
    return np.where(never, _HALF, low - descending), descending.astype(np.int64)
