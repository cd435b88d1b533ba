"""Operations that multiply: patches, linear layers, scores, what attention gathers."""

import numpy as np

from bivit.compiler.ir.operation import Op, TensorType, check_heads, check_range, need, pick

__all__ = ["PRODUCTS", "patchify"]


def _patchify_type(inputs, attributes, tensors):
    (channels, height, width), size = inputs[0].shape, attributes["patch_size"]
    need(size >= 1 and height % size == 0 and width % size == 0,
         f"patch_size {size} does not divide an image of {height}x{width}")
    return TensorType("codes", (height // size * (width // size), channels * size * size))


def patchify(image, size):
    """Image (C, H, W) to patches (N, C*size*size): row-major; (channel, row, column) inside."""
    channels, height, width = image.shape
    grid = image.reshape(channels, height // size, size, width // size, size)
    return grid.transpose(1, 3, 0, 2, 4).reshape(-1, channels * size * size)


def _check_weight(inputs, tensors, low, high):
    weight = tensors["weight"]
    need(weight.ndim == 2 and weight.shape[1] == inputs[0].shape[1],
         f"weight has shape {weight.shape} where (*, {inputs[0].shape[1]}) is needed")
    need(weight.shape[0] >= 1, "weight has no outputs")
    check_range(tensors, "weight", low, high)
    return TensorType("dot", (inputs[0].shape[0], weight.shape[0]))


def _binary_type(inputs, attributes, tensors):
    return _check_weight(inputs, tensors, 0, 1)


def _plane_type(inputs, attributes, tensors):
    result = _check_weight(inputs, tensors, -255, 255)
    need(bool(np.all(tensors["weight"] % 2 != 0)), "weight has even values: the grid is odd")
    return result


def _signs(bits, dtype=np.float32):
    return 2 * bits.astype(dtype) - 1


def _matmul(a, b):
    """Integer product by floating point: exact while no sum reaches 2**24 (float32; 2**53)."""
    return np.rint(a @ b).astype(np.int64)


def _binary_linear(inputs, attributes, tensors):
    return _matmul(_signs(inputs[0]), _signs(tensors["weight"]).T)


def _plane_linear(inputs, attributes, tensors):
    codes = 2 * inputs[0].astype(np.float64) - 255
    return _matmul(codes, tensors["weight"].astype(np.float64).T)


def _plane_linear_of_bits(inputs, attributes, tensors):
    return _matmul(_signs(inputs[0], np.float64), tensors["weight"].astype(np.float64).T)


def _scores_type(inputs, attributes, tensors):
    (queries, width), (keys, other) = inputs[0].shape, inputs[1].shape
    need(width == other, f"queries have {width} channels and keys {other}")
    return TensorType("dot", (check_heads(attributes, width), queries, keys))


def _heads(bits, heads):
    """Signs (..., heads, tokens, head_dim) of bits (..., tokens, channels)."""
    return np.moveaxis(_signs(bits.reshape(*bits.shape[:-1], heads, -1)), -2, -3)


def _scores(inputs, attributes, tensors):
    q, k = (_heads(x, attributes["num_heads"]) for x in inputs)
    return _matmul(q, np.swapaxes(k, -1, -2))


def _window_scores_type(inputs, attributes, tensors):
    (queries, width), (keys, other) = inputs[0].shape, inputs[1].shape
    need(width == other, f"queries have {width} channels and keys {other}")
    windows = pick(attributes, "windows", 1, keys)
    for tokens in (queries, keys):
        need(tokens % windows == 0, f"{windows} windows do not divide {tokens} tokens")
    return TensorType("dot", (check_heads(attributes, width), queries, keys // windows))


def _windows(value, count):
    return value.reshape(count, -1, value.shape[-1])


def _join_windows(value):
    """(windows, heads, tokens, n) to (heads, windows * tokens, n)."""
    heads, last = value.shape[1], value.shape[3]
    return value.transpose(1, 0, 2, 3).reshape(heads, -1, last)


def _window_scores(inputs, attributes, tensors):
    q, k = (_heads(_windows(x, attributes["windows"]), attributes["num_heads"]) for x in inputs)
    return _join_windows(_matmul(q, k.swapaxes(-1, -2)))


def _attend_type(inputs, attributes, tensors):
    (heads, queries, keys), (rows, width) = inputs[0].shape, inputs[1].shape
    need(rows % keys == 0 and queries % (rows // keys) == 0,
         f"attention has {queries} queries and {keys} keys and there are {rows} values")
    need(width % heads == 0, f"{heads} heads do not divide {width} channels")
    return TensorType("dot", (queries, width))


def _attend_levels_type(inputs, attributes, tensors):
    result = _attend_type(inputs, attributes, tensors)
    heads = inputs[0].shape[0]
    need(tensors["zero"].shape == (heads,),
         f"zero has shape {tensors['zero'].shape} where ({heads},) is needed")
    check_range(tensors, "zero", -1, 1)
    return result


def _gather_values(attention, values, zero):
    """Window by window: attention bits times ``sign - zero``."""
    heads, queries, keys = attention.shape
    windows = len(values) // keys
    attention = attention.reshape(heads, windows, queries // windows, keys).transpose(1, 0, 2, 3)
    levels = _heads(_windows(values, windows), heads) - zero[:, None, None].astype(np.float32)
    out = _join_windows(_matmul(attention.astype(np.float32), levels))
    return out.transpose(1, 0, 2).reshape(queries, -1)


def _attend(inputs, attributes, tensors):
    return _gather_values(*inputs, np.zeros(len(inputs[0]), np.int64))


def _attend_levels(inputs, attributes, tensors):
    return _gather_values(*inputs, tensors["zero"])


PRODUCTS = {
    "patchify": Op(("pixels",), (), ("patch_size",), _patchify_type,
                   lambda x, a, t: patchify(x[0], a["patch_size"])),
    "plane_linear": Op(("codes|bits",), ("weight",), (), _plane_type, _plane_linear,
                       {"bits": _plane_linear_of_bits}),
    "binary_linear": Op(("bits",), ("weight",), (), _binary_type, _binary_linear),
    "scores": Op(("bits", "bits"), (), ("num_heads",), _scores_type, _scores),
    "window_scores": Op(("bits", "bits"), (), ("num_heads", "windows"), _window_scores_type,
                        _window_scores),
    "attend": Op(("attention", "bits"), (), (), _attend_type, _attend),
    "attend_levels": Op(("attention", "bits"), ("zero",), (), _attend_levels_type,
                        _attend_levels),
}
"""Operations by name."""
