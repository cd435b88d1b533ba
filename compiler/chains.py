"""Chains of nodes that one MM_ACC computes: a product, rescaled, added, bent, added.

``saturate(v + second, bits)`` with ``v = bend(saturate(rescale(dot) + first, 16))``: nodes join a
chain only where no saturation between them can be seen.
"""

import dataclasses

import numpy as np

from bivit.compiler.classes import ATTEND
from bivit.compiler.ir import numeric
from bivit.compiler.ir.graph import Node

__all__ = ["Chain", "find_chains"]

_BENT_BITS = 16
_VIEW_READERS = ("rescale", "bend", "add_table", "threshold")


@dataclasses.dataclass(frozen=True)
class Chain:
    """One chain.

    Parameters
    ----------
    name : str
        The value that it makes.
    nodes : dict of role to node name
        Roles: ``linear`` or ``attend``, ``rescale``, ``bend``, ``table``, ``copy``.
    inputs : dict of role to value name
        ``a``, ``addend``, ``addend2``.
    """

    name: str
    nodes: dict[str, str]
    inputs: dict[str, str]


def find_chains(nodes: dict[str, Node], types: dict, end: str) -> dict[str, Chain]:
    """All chains by the value that they make; `end` is the value that leaves the network."""
    readers = {name: [] for name in nodes}
    for node in nodes.values():
        for name in node.inputs:
            if name in readers:
                readers[name].append(node)
    found, taken = {}, set()
    for node in nodes.values():
        if node.name in taken:
            continue
        start = _START.get(node.op)
        if start is None or node.op == "tile_channels" and _stays_view(node, readers, end):
            continue
        roles, inputs = start(node, nodes)
        last, inner = node, node.op
        while len(readers[last.name]) == 1 and last.name != end:
            follower = readers[last.name][0]
            if not _joins(follower, last, inner, roles, inputs, nodes, types):
                break
            taken.add(follower.name)
            if follower.op == "bend":
                roles["bend"] = follower.name
                if len(follower.inputs) > 1:
                    inputs["addend2"] = follower.inputs[1]
            else:
                roles["table"] = follower.name
            last, inner = follower, follower.op
        found[last.name] = Chain(last.name, roles, inputs)
    return found


def _product(node, nodes):
    dot = nodes[node.inputs[0]]
    addend = {"addend": node.inputs[1]} if len(node.inputs) > 1 else {}
    if dot.op in ATTEND:
        return {"attend": dot.name, "rescale": node.name}, addend
    return {"linear": dot.name, "rescale": node.name}, {"a": dot.inputs[0]} | addend


def _bend(node, nodes):
    addend = {"addend2": node.inputs[1]} if len(node.inputs) > 1 else {}
    return {"bend": node.name}, {"addend": node.inputs[0]} | addend


_START = {
    "rescale": _product, "embed": _product, "bend": _bend,
    "add_table": lambda node, nodes: ({"table": node.name}, {"addend": node.inputs[0]}),
    "tile_channels": lambda node, nodes: ({"copy": node.name}, {"addend": node.inputs[0]}),
}


def _stays_view(node, readers, end):
    """Whether copies of channels are first addends only: an address that starts again."""
    def first(reader):
        place = 1 if reader.op == "rescale" else 0
        return (reader.op in _VIEW_READERS and reader.inputs[place] == node.name
                and reader.inputs.count(node.name) == 1)
    return node.name != end and all(first(reader) for reader in readers[node.name])


def _joins(follower, last, inner, roles, inputs, nodes, types):
    """Whether the only reader of a chain's numbers can be its next part."""
    if follower.inputs[0] != last.name or inner in ("tile_channels", "add_table"):
        return False
    if follower.op == "bend":
        return inner == "rescale" and last.attributes["bits"] == _BENT_BITS
    if follower.op != "add_table" or "addend2" in inputs:
        return False
    half = 1 << (last.attributes["bits"] - 1)
    return _greatest(last, inner, nodes, types) < half - 1


def _greatest(node, inner, nodes, types):
    """Bound of a chain's numbers before they are saturated."""
    if inner == "bend":
        sides = [_rescaled(node.tensors[f"scale_{side}"], node.tensors[f"bias_{side}"], 1 << 15,
                           node.attributes["shift"]) for side in ("above", "below")]
        return max(sides)
    if len(node.inputs) > 1 or inner == "embed":
        return 1 << 16
    dot = nodes[node.inputs[0]]
    if dot.op in ATTEND:
        length = 2 * types[dot.inputs[0]].shape[2]
    else:
        codes = types[dot.inputs[0]].kind == "codes"
        top = int(np.abs(dot.tensors["weight"].astype(np.int64)).max(initial=1))
        length = dot.tensors["weight"].shape[1] * top * (255 if codes else 1)
    return _rescaled(node.tensors["scale"], node.tensors["bias"], length, node.attributes["shift"])


def _rescaled(scale, bias, greatest, shift):
    scale, bias = (np.abs(np.asarray(x, np.int64)) for x in (scale, bias))
    return int((scale * greatest + (bias << (shift - numeric.BIAS_FRACTION))).max() >> shift) + 1
