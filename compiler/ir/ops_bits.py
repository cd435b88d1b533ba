"""Operations whose result is bits or codes, and `gather`, which moves both and numbers."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.operation import (
    Op,
    TensorType,
    check_channels,
    check_eps,
    check_heads,
    check_index,
    check_range,
    check_rescale,
    need,
    pick,
    rows,
)

__all__ = ["BITS"]


def _threshold_type(inputs, attributes, tensors):
    check_channels(tensors, ("threshold", "descending"), rows(inputs[0])[1])
    check_range(tensors, "threshold", -2**31, 2**31 - 1)
    check_range(tensors, "descending", 0, 1)
    return TensorType("bits", inputs[0].shape)


def _threshold(inputs, attributes, tensors):
    return numeric.threshold_bits(inputs[0], tensors["threshold"].astype(np.int64),
                                  tensors["descending"]).astype(np.uint8)


def _norm_bits_type(inputs, attributes, tensors):
    check_channels(tensors, ("k", "kind"), inputs[0].shape[1])
    check_range(tensors, "k", -2**15, 2**15 - 1)
    check_range(tensors, "kind", 0, 3)
    check_eps(attributes)
    return TensorType("bits", inputs[0].shape)


def _norm_bits(inputs, attributes, tensors):
    return numeric.normalise_to_bits(inputs[0], tensors["k"], tensors["kind"],
                                     attributes["eps"]).astype(np.uint8)


def _head_norm_bits_type(inputs, attributes, tensors):
    check_heads(attributes, inputs[0].shape[1])
    return _norm_bits_type(inputs, attributes, tensors)


def _head_norm_bits(inputs, attributes, tensors):
    heads = attributes["num_heads"]
    split = {name: tensors[name].reshape(heads, -1) for name in ("k", "kind")}
    bits = _norm_bits([inputs[0].reshape(len(inputs[0]), heads, -1)], attributes, split)
    return bits.reshape(inputs[0].shape)


def _norm_codes_type(inputs, attributes, tensors):
    check_rescale(attributes, tensors, inputs[0].shape[1])
    check_eps(attributes)
    return TensorType("codes", inputs[0].shape)


def _norm_codes(inputs, attributes, tensors):
    return numeric.normalise_to_codes(inputs[0], tensors["scale"], tensors["bias"],
                                      attributes["shift"], attributes["eps"]).astype(np.uint8)


def _codes_type(inputs, attributes, tensors):
    check_rescale(attributes, tensors, inputs[0].shape[1])
    return TensorType("codes", inputs[0].shape)


def _codes(inputs, attributes, tensors):
    y = numeric.rescale(inputs[0], tensors["scale"], tensors["bias"], attributes["shift"])
    return np.clip(y, 0, 255).astype(np.uint8)


def _gather_type(inputs, attributes, tensors):
    (tokens, channels), kind = inputs[0].shape, inputs[0].kind
    index = check_index(tensors, lowest=-1 if kind == "codes" else 0)
    need(index.max() < tokens, f"index names token {index.max()} and there are {tokens}")
    pick(attributes, "fill", 0, 255 if kind == "codes" else 0)
    return TensorType(kind, (len(index), index.shape[1] * channels))


def _gather(inputs, attributes, tensors):
    x, index = inputs[0], tensors["index"]
    filled = np.concatenate([x, np.full_like(x[:1], attributes["fill"])])
    return filled[index].reshape(len(index), -1)


BITS = {
    "threshold": Op(("dot|numbers",), ("threshold", "descending"), (), _threshold_type,
                    _threshold),
    "norm_bits": Op(("numbers",), ("k", "kind"), ("eps",), _norm_bits_type, _norm_bits),
    "head_norm_bits": Op(("numbers",), ("k", "kind"), ("eps", "num_heads"), _head_norm_bits_type,
                         _head_norm_bits),
    "norm_codes": Op(("numbers",), ("scale", "bias"), ("shift", "eps"), _norm_codes_type,
                     _norm_codes),
    "codes": Op(("numbers",), ("scale", "bias"), ("shift",), _codes_type, _codes),
    "gather": Op(("numbers|bits|codes",), ("index",), ("fill",), _gather_type, _gather),
}
"""Operations by name."""
