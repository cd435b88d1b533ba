"""The integer operations of a graph: legal shapes and kinds, and what each computes (NumPy).

A *kind* says how a tensor is held: ``pixels`` (uint8 image), ``codes`` (uint8 ``p`` for the
odd number ``2 p - 255``), ``bits`` (0/1 for -1/+1), ``attention`` (0/1 as themselves), ``dot``
(exact integer accumulators), ``numbers`` (signed fixed point of at most 16 bits).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from bivit.compiler.ir import numeric

__all__ = ["OPS", "Op", "OpError", "TensorType"]


class OpError(ValueError):
    """An operation whose inputs, attributes or tensors are not legal."""


@dataclasses.dataclass(frozen=True)
class TensorType:
    """Kind and shape of a value."""

    kind: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation.

    Parameters
    ----------
    inputs : tuple of str
        Kind of each input; a trailing ``?`` marks an optional one, ``|`` alternatives.
    tensors : tuple of str
        Names of the constant integer tensors that a node carries.
    attributes : tuple of str
        Names of its integer attributes.
    infer : callable (input types, attributes, tensors) -> TensorType
    evaluate : callable (input arrays, attributes, tensors) -> array
    """

    inputs: tuple[str, ...]
    tensors: tuple[str, ...]
    attributes: tuple[str, ...]
    infer: Callable
    evaluate: Callable


def _need(condition, message):
    if not condition:
        raise OpError(message)


def _channels(tensors, names, count):
    for name in names:
        _need(tensors[name].shape == (count,),
              f"{name} has shape {tensors[name].shape} where ({count},) is needed")


def _within(tensors, name, low, high):
    values = tensors[name]
    _need(values.size == 0 or (values.min() >= low and values.max() <= high),
          f"{name} has values outside {low}..{high}")


def _check_rescale(attributes, tensors, count):
    _channels(tensors, ("scale", "bias"), count)
    _within(tensors, "scale", -2**15, 2**15 - 1)
    _within(tensors, "bias", -2**23, 2**23 - 1)
    _need(attributes["shift"] in numeric.RESCALE_SHIFTS,
          f"shift {attributes['shift']} is not one of {numeric.RESCALE_SHIFTS}")


def _patchify_type(inputs, attributes, tensors):
    (channels, height, width), size = inputs[0].shape, attributes["patch_size"]
    _need(size >= 1 and height % size == 0 and width % size == 0,
          f"patch_size {size} does not divide an image of {height}x{width}")
    return TensorType("codes", (height // size * (width // size), channels * size * size))


def patchify(image, size):
    """Image (C, H, W) to patches (N, C*size*size): row-major; (channel, row, column) inside."""
    channels, height, width = image.shape
    grid = image.reshape(channels, height // size, size, width // size, size)
    return grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels * size * size)


def _linear_type(low, high):
    def infer(inputs, attributes, tensors):
        weight = tensors["weight"]
        _need(weight.ndim == 2 and weight.shape[1] == inputs[0].shape[1],
              f"weight has shape {weight.shape} where (*, {inputs[0].shape[1]}) is needed")
        _need(weight.shape[0] >= 1, "weight has no outputs")
        _within(tensors, "weight", low, high)
        _need(low == 0 or bool(np.all(weight % 2 != 0)), "weight has even values: the grid is odd")
        return TensorType("dot", (inputs[0].shape[0], weight.shape[0]))
    return infer


def _bits_to_signs(bits):
    return 2 * bits.astype(np.float32) - 1


def _exact_matmul(a, b):
    return np.rint(a @ b).astype(np.int64)  # float32 is exact below 2**24


def _rescale_type(inputs, attributes, tensors):
    _check_rescale(attributes, tensors, inputs[0].shape[1])
    _need(2 <= attributes["bits"] <= 16, f"bits {attributes['bits']} is not in 2..16")
    _need(len(inputs) == 1 or inputs[0].shape == inputs[1].shape,
          f"the addend has another shape than the product: {inputs[-1].shape}, {inputs[0].shape}")
    return TensorType("numbers", inputs[0].shape)


def _rescale(inputs, attributes, tensors):
    y = numeric.rescale(inputs[0], tensors["scale"], tensors["bias"], attributes["shift"])
    return numeric.saturate(y + (inputs[1] if len(inputs) > 1 else 0), attributes["bits"])


def _embed_type(inputs, attributes, tensors):
    tokens, channels = inputs[0].shape
    _check_rescale(attributes, tensors, channels)
    prefix, bits, table = attributes["prefix"], attributes["bits"], tensors["table"]
    _need(2 <= bits <= 16, f"bits {bits} is not in 2..16")
    _need(prefix >= 0 and table.shape == (tokens + prefix, channels),
          f"table has shape {table.shape} where ({tokens + prefix}, {channels}) is needed")
    _within(tensors, "table", -2**(bits - 1), 2**(bits - 1) - 1)
    return TensorType("numbers", table.shape)


def _embed(inputs, attributes, tensors):
    prefix, table = attributes["prefix"], tensors["table"].astype(np.int64)
    y = numeric.rescale(inputs[0], tensors["scale"], tensors["bias"], attributes["shift"])
    return np.concatenate([table[:prefix],
                           numeric.saturate(y + table[prefix:], attributes["bits"])])


def _threshold_type(inputs, attributes, tensors):
    _channels(tensors, ("threshold", "descending"), inputs[0].shape[1])
    _within(tensors, "descending", 0, 1)
    return TensorType("bits", inputs[0].shape)


def _norm_bits_type(inputs, attributes, tensors):
    _channels(tensors, ("k", "kind"), inputs[0].shape[1])
    _within(tensors, "k", -2**15, 2**15 - 1)
    _within(tensors, "kind", 0, 3)
    _need(1 <= attributes["eps"] < 2**32, f"eps {attributes['eps']} is not in 1..2**32-1")
    return TensorType("bits", inputs[0].shape)


def _norm_codes_type(inputs, attributes, tensors):
    _check_rescale(attributes, tensors, inputs[0].shape[1])
    _need(1 <= attributes["eps"] < 2**32, f"eps {attributes['eps']} is not in 1..2**32-1")
    return TensorType("codes", inputs[0].shape)


def _scores_type(inputs, attributes, tensors):
    (queries, width), (keys, other) = inputs[0].shape, inputs[1].shape
    heads = attributes["num_heads"]
    _need(width == other, f"queries have {width} channels and keys {other}")
    _need(heads >= 1 and width % heads == 0, f"{heads} heads do not divide {width} channels")
    return TensorType("dot", (heads, queries, keys))


def _split_heads(bits, heads):
    return _bits_to_signs(bits.reshape(bits.shape[0], heads, -1).transpose(1, 0, 2))


def _scores(inputs, attributes, tensors):
    q, k = (_split_heads(x, attributes["num_heads"]) for x in inputs)
    return _exact_matmul(q, k.transpose(0, 2, 1))


def _softmax_type(inputs, attributes, tensors):
    _need(len(inputs[0].shape) == 3, "scores must be (num_heads, queries, keys)")
    _need(0 <= attributes["delta"] < 2**13, f"delta {attributes['delta']} is not in 0..8191")
    return TensorType("attention", inputs[0].shape)


def _attend_type(inputs, attributes, tensors):
    (heads, queries, keys), (rows, width) = inputs[0].shape, inputs[1].shape
    _need(rows == keys, f"attention has {keys} keys and there are {rows} values")
    _need(width % heads == 0, f"{heads} heads do not divide {width} channels")
    return TensorType("dot", (queries, width))


def _attend(inputs, attributes, tensors):
    attention, values = inputs
    out = _exact_matmul(attention.astype(np.float32), _split_heads(values, attention.shape[0]))
    return out.transpose(1, 0, 2).reshape(attention.shape[1], -1)


def _select_type(inputs, attributes, tensors):
    tokens, channels = inputs[0].shape
    _need(0 <= attributes["token"] < tokens, f"there is no token {attributes['token']}")
    return TensorType("numbers", (1, channels))


OPS = {
    "patchify": Op(("pixels",), (), ("patch_size",), _patchify_type,
                   lambda x, a, t: patchify(x[0], a["patch_size"])),
    "plane_linear": Op(("codes",), ("weight",), (), _linear_type(-255, 255),
                       lambda x, a, t: numeric.plane_dot(x[0], t["weight"])),
    "binary_linear": Op(("bits",), ("weight",), (), _linear_type(0, 1),
                        lambda x, a, t: _exact_matmul(_bits_to_signs(x[0]),
                                                      _bits_to_signs(t["weight"]).T)),
    "rescale": Op(("dot", "numbers?"), ("scale", "bias"), ("shift", "bits"), _rescale_type,
                  _rescale),
    "embed": Op(("dot",), ("scale", "bias", "table"), ("shift", "bits", "prefix"), _embed_type,
                _embed),
    "threshold": Op(("dot",), ("threshold", "descending"), (), _threshold_type,
                    lambda x, a, t: numeric.threshold_bits(
                        x[0], t["threshold"].astype(np.int64), t["descending"]).astype(np.uint8)),
    "norm_bits": Op(("numbers",), ("k", "kind"), ("eps",), _norm_bits_type,
                    lambda x, a, t: numeric.normalise_to_bits(
                        x[0], t["k"], t["kind"], a["eps"]).astype(np.uint8)),
    "norm_codes": Op(("numbers",), ("scale", "bias"), ("shift", "eps"), _norm_codes_type,
                     lambda x, a, t: numeric.normalise_to_codes(
                         x[0], t["scale"], t["bias"], a["shift"], a["eps"]).astype(np.uint8)),
    "scores": Op(("bits", "bits"), (), ("num_heads",), _scores_type, _scores),
    "softmax_threshold": Op(("dot",), (), ("delta",), _softmax_type,
                            lambda x, a, t: (x[0] >= x[0].max(-1, keepdims=True) - a["delta"]
                                             ).astype(np.uint8)),
    "attend": Op(("attention", "bits"), (), (), _attend_type, _attend),
    "select": Op(("numbers",), (), ("token",), _select_type,
                 lambda x, a, t: x[0][a["token"]:a["token"] + 1]),
}
"""Every operation that a checkpoint may hold, by name."""
