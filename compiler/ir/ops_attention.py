"""Operations that turn scores into attention bits.

A score that a bias was added to is held as itself, a masked one as :data:`MASKED`, which is below
every score and every limit.
"""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import MASKING_BIAS
from bivit.compiler.ir.operation import Op, TensorType, check_range, need, pick

__all__ = ["ATTENTION", "MASKED"]

MASKED = -(1 << 24)
"""Value of a masked score."""


def _score_bias_type(inputs, attributes, tensors):
    need(len(inputs[0].shape) == 3, "needs scores (num_heads, queries, keys)")
    heads, queries, size = inputs[0].shape
    bias, kind = tensors["bias"], tensors["kind"]
    need(queries % size == 0, f"{queries} queries are no whole windows of {size} keys")
    need(bias.ndim == 4 and bias.shape[0] >= 1 and bias.shape[1:] == (heads, size, size),
         f"bias has shape {bias.shape} where (*, {heads}, {size}, {size}) is needed")
    need(kind.shape == (queries // size,),
         f"kind has shape {kind.shape} where ({queries // size},) is needed")
    check_range(tensors, "bias", MASKING_BIAS, -MASKING_BIAS - 1)
    check_range(tensors, "kind", 0, len(bias) - 1)
    need(not (bias == MASKING_BIAS).all(-1).any(), "bias masks every key of a query")
    return TensorType("scores", inputs[0].shape)


def _score_bias(inputs, attributes, tensors):
    scores = inputs[0]
    heads, _, size = scores.shape
    bias = tensors["bias"].astype(np.int64)[tensors["kind"]].transpose(1, 0, 2, 3)
    bias = bias.reshape(heads, -1, size)
    return np.where(bias == MASKING_BIAS, MASKED,
                    (scores.astype(np.int64) << numeric.SCORE_FRACTION) + bias)


def _check_scores(inputs):
    need(len(inputs[0].shape) == 3, "scores must be (num_heads, queries, keys)")
    return TensorType("attention", inputs[0].shape)


def _softmax_threshold_type(inputs, attributes, tensors):
    pick(attributes, "delta", 0, 2**13 - 1 if inputs[0].kind == "dot" else 2**18 - 1)
    return _check_scores(inputs)


def _softmax_threshold(inputs, attributes, tensors):
    greatest = inputs[0].max(-1, keepdims=True)
    return (inputs[0] >= greatest - attributes["delta"]).astype(np.uint8)


def _score_threshold_type(inputs, attributes, tensors):
    pick(attributes, "limit", -2**23, 2**23 - 1)
    return _check_scores(inputs)


def _score_threshold(inputs, attributes, tensors):
    return (inputs[0] >= attributes["limit"]).astype(np.uint8)


def _softmax_absolute_type(inputs, attributes, tensors):
    result = _check_scores(inputs)
    heads = result.shape[0]
    for name, low, high in (("multiplier", 1, 2**16 - 1), ("threshold", 1, 2**21 - 1),
                            ("flip", 0, 1)):
        need(tensors[name].shape == (heads,),
             f"{name} has shape {tensors[name].shape} where ({heads},) is needed")
        check_range(tensors, name, low, high)
    return result


def _softmax_absolute(fraction):
    def evaluate(inputs, attributes, tensors):
        scores = inputs[0].astype(np.int64)
        multiplier, threshold, flip = (tensors[name].astype(np.int64)[:, None, None]
                                       for name in ("multiplier", "threshold", "flip"))
        present = scores != MASKED
        distance = (scores.max(-1, keepdims=True) - scores) << (numeric.SCORE_FRACTION - fraction)
        power = np.where(present, numeric.exponential(distance, multiplier), 0)
        share = power << numeric.ATTENTION_FRACTION
        bits = (share >= threshold * power.sum(-1, keepdims=True)) != flip
        return (bits & present).astype(np.uint8)
    return evaluate


ATTENTION = {
    "score_bias": Op(("dot",), ("bias", "kind"), (), _score_bias_type, _score_bias),
    "softmax_threshold": Op(("dot|scores",), (), ("delta",), _softmax_threshold_type,
                            _softmax_threshold),
    "score_threshold": Op(("dot|scores",), (), ("limit",), _score_threshold_type,
                          _score_threshold),
    "softmax_absolute": Op(("dot|scores",), ("multiplier", "threshold", "flip"), (),
                           _softmax_absolute_type, _softmax_absolute(0),
                           {"scores": _softmax_absolute(numeric.SCORE_FRACTION)}),
}
"""Operations by name."""
