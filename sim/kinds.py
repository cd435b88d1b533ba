"""Kinds of work, for the colours of pictures."""

from bivit.hw.isa import Opcode
from bivit.sim.frame import Frame

__all__ = ["KINDS", "OPCODE_KINDS", "layer_kinds", "product_kind"]

KINDS = {
    "linear": "binary linear layers", "scores": "attention scores", "attend": "weighted values",
    "eight": "8-bit layers", "numbers": "numbers alone", "load": "pixels",
    "stem": "pixels times weights, beside the array", "softmax": "attention bits",
    "norm": "LayerNorm", "rows": "sums of rows, moves", "output": "output",
    "fetch": "from and to external memory",
}
"""What is told apart by colour."""

OPCODE_KINDS = {
    Opcode.LOAD: "load", Opcode.STEM: "stem", Opcode.SOFTMAX: "softmax", Opcode.NORM_BITS: "norm",
    Opcode.NORM_CODES: "norm", Opcode.NORM_NUMBERS: "norm", Opcode.ROWS_ADD: "rows",
    Opcode.ROWS_OUT: "rows", Opcode.MOVE: "rows", Opcode.OUTPUT: "output", Opcode.FETCH: "fetch",
    Opcode.STORE: "fetch",
}
"""Kind of the instructions that are no products."""

_OP_KINDS = {"binary_linear": "linear", "scores": "scores", "window_scores": "scores",
             "attend": "attend", "attend_levels": "attend"}


def product_kind(layer: dict) -> str:
    """Kind of the products of a layer."""
    return _OP_KINDS.get(layer["op"], "eight" if layer["macs"] else "numbers")


def layer_kinds(frame: Frame) -> list[str]:
    """Kind of each layer: that of its first instruction."""
    kinds = [product_kind(layer) for layer in frame.layers]
    for step in reversed(frame.steps):
        kinds[step.layer] = OPCODE_KINDS.get(step.opcode, product_kind(frame.layers[step.layer]))
    return kinds
