"""First pass: the graph is legal, and the target's counters and fields can hold its numbers."""

import numpy as np

from bivit.compiler.ir.graph import Graph, GraphError
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.compiler.structures import CompileError
from bivit.hw.arch import Arch

__all__ = ["verify", "weight_planes"]

_FIELD_12, _FIELD_16 = (1 << 12) - 1, (1 << 16) - 1
_BASE = (1 << 28) - 1


def verify(graph: Graph, arch: Arch) -> None:
    """Refuse what no later pass could make legal.

    Raises
    ------
    CompileError
    """
    try:
        types = graph.infer()
    except GraphError as error:
        raise CompileError(f"{error}; mend the network and export it again") from None
    for node in graph.nodes:
        inputs = [types[name] for name in node.inputs]
        check = _CHECKS.get(node.op)
        problem = check and check(node, inputs, types[node.name], arch)
        if problem:
            raise CompileError(f"layer {node.name}: {problem}")


def weight_planes(weight) -> int:
    """Fewest bit planes of an odd grid that hold `weight`."""
    return max(1, int(abs(weight).max(initial=1)).bit_length())


def _count(length, what, arch):
    limit = (1 << arch.count_bits) - 1
    if length > limit:
        bits = int(length).bit_length()
        return (f"{what} is {length} long and the counters of target {arch.name} reach {limit}; "
                f"raise count_bits to {bits}")
    return None


def _tiles(channels, arch):
    return (f"{channels} channels are more than the {_FIELD_12} of the instruction set; "
            "make the layer narrower" if channels > _FIELD_12 else None)


def _binary_linear(node, inputs, output, arch):
    return (_count(inputs[0].shape[1], "the dot product", arch)
            or _sum(inputs[0].shape[1], 1, 1, arch)
            or _tiles(output.shape[1], arch))


def _plane_linear(node, inputs, output, arch):
    length, planes = inputs[0].shape[1], weight_planes(node.tensors["weight"])
    codes = CODE_BITS if inputs[0].kind == "codes" else 1
    return (_count(length, "the dot product", arch)
            or _sum(length, (1 << codes) - 1, (1 << planes) - 1, arch)
            or _tiles(output.shape[1], arch))


def _sum(length, a_top, b_top, arch):
    largest = length * a_top * b_top
    if largest >= 1 << arch.acc_bits:
        return (f"its sums reach {largest} and target {arch.name} adds up {arch.acc_bits} bits; "
                f"raise acc_bits to {largest.bit_length()}")
    if largest > _BASE:
        return (f"its sums reach {largest}, more than the {_BASE} of the instruction set; "
                "make the dot product shorter")
    return None


def _numbers(node, inputs, output, arch):
    bits = node.attributes["bits"]
    return (f"its numbers have {bits} bits and target {arch.name} has {arch.resid_bits}; "
            f"raise resid_bits to {bits} or export with fewer bits"
            if bits > arch.resid_bits else None)


def _norm(node, inputs, output, arch):
    return _tiles(inputs[0].shape[1], arch)


def _scores(node, inputs, output, arch):
    heads, _, keys = output.shape
    tiles = -(-keys // arch.keys_per_group)
    if keys > _FIELD_16:
        return f"{keys} keys are more than the {_FIELD_16} of the instruction set; use fewer tokens"
    if tiles > arch.score_tiles:
        return (f"{keys} keys make {tiles} score tiles and target {arch.name} has "
                f"{arch.score_tiles} a slot; raise score_tiles to {tiles}")
    return _count(inputs[0].shape[1] // heads, "the dot product of a head", arch)


def _attend(node, inputs, output, arch):
    heads, _, keys = inputs[0].shape
    if abs(node.tensors.get("zero", np.zeros(heads))).max():
        keys *= 2  # every key once more, for the zero point
    return (_count(keys, "the dot product over the keys", arch)
            or _tiles(output.shape[1], arch))


def _patchify(node, inputs, output, arch):
    pixels = output.shape[1]
    if arch.stem_macs and pixels > arch.stem_pixels:
        return (f"a token has {pixels} pixels and the stem engine of target {arch.name} takes "
                f"{arch.stem_pixels}; raise stem_pixels to {pixels}")
    return (f"a token of {output.shape[1]} pixels is more than the {_FIELD_12} of the instruction "
            "set; use smaller patches" if output.shape[1] > _FIELD_12 else None)


_CHECKS = {
    "binary_linear": _binary_linear, "plane_linear": _plane_linear, "scores": _scores,
    "window_scores": _scores, "attend": _attend, "attend_levels": _attend, "patchify": _patchify,
    **dict.fromkeys(("norm_bits", "norm_codes", "head_norm_bits"), _norm),
    **dict.fromkeys(("rescale", "embed", "bend", "add_table", "fold_channels", "weighted_sum",
                     "norm_numbers"), _numbers),
}
