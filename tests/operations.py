"""Random legal uses of every operation, for tests of its definition and of its layer."""

import dataclasses

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.ops import OPS, TensorType

__all__ = ["CASES", "Case", "make"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs of some images, attributes and tensors of an operation.

    Parameters
    ----------
    types : list of TensorType
    images : list of list of array
        Inputs of every image.
    """

    op: str
    types: list
    images: list
    attributes: dict
    tensors: dict

    def infer(self):
        """Type of the result."""
        return OPS[self.op].infer(self.types, self.attributes, self.tensors)

    def evaluate(self):
        """Results of every image."""
        evaluate = OPS[self.op].evaluation(self.types[0].kind)
        return [evaluate(image, self.attributes, self.tensors) for image in self.images]


class _Source:
    """Random sizes and constants."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.windows, self.heads = self.integer(1, 4), self.integer(1, 4)
        self.tokens = self.windows * self.integer(1, 7)
        self.width = self.heads * self.integer(1, 17)
        self.shift = int(self.random.choice(numeric.RESCALE_SHIFTS))

    def integer(self, low, high):
        return int(self.random.integers(low, high))

    def array(self, low, high, *shape):
        return self.random.integers(low, high, shape)

    def scaling(self, *shape, name=""):
        return {f"scale{name}": self.array(-2**15, 2**15, *shape),
                f"bias{name}": self.array(-2**23, 2**23, shape[-1])}

    def value(self, kind, shape):
        if kind in ("bits", "attention"):
            return self.array(0, 2, *shape).astype(np.uint8)
        if kind in ("codes", "pixels"):
            return self.array(0, 256, *shape).astype(np.uint8)
        reach = 40 if len(shape) == 3 else 2 ** self.integer(3, 16)
        return self.array(-reach, reach, *shape)

    def eps(self):
        return 2 ** self.integer(0, 32)


def _linear(kind, low, high):
    def make(s):
        weight = s.array(low, high, s.integer(1, 9), s.width)
        return [(kind, (s.tokens, s.width))], {}, {"weight": weight if low == 0 else 2 * weight + 1}
    return make


def _scores(s):
    return ([("bits", (s.tokens, s.width)), ("bits", (s.tokens + 2, s.width))],
            {"num_heads": s.heads}, {})


def _attend(shared):
    def make(s):
        keys = s.tokens if shared else s.tokens // s.windows
        return [("attention", (s.heads, s.tokens, keys)), ("bits", (s.tokens, s.width))], {}, {}
    return make


def _attend_levels(s):
    inputs, attributes, _ = _attend(False)(s)
    return inputs, attributes, {"zero": s.array(-1, 2, s.heads)}


def _softmax(op, constants):
    def make(kind):
        return lambda s: ([(kind, (s.heads, s.tokens, s.tokens // s.windows))],
                          *constants(s, kind))
    return {f"{op} {kind}": make(kind) for kind in ("dot", "scores")}


def _score_bias(s):
    size, kinds = s.tokens // s.windows, s.integer(1, 4)
    bias = s.array(-2**13, 2**13, kinds, s.heads, size, size)
    bias = np.where(s.random.random(bias.shape) < 0.3, -2**13, bias)
    bias[..., 0] = np.maximum(bias[..., 0], 1 - 2**13)
    return ([("dot", (s.heads, s.tokens, size))], {},
            {"bias": bias, "kind": s.array(0, kinds, s.windows)})


def _absolute(s, kind):
    return {}, {"multiplier": s.array(1, 2 ** s.integer(1, 17), s.heads),
                "threshold": s.array(1, 2 ** s.integer(2, 22), s.heads),
                "flip": s.array(0, 2, s.heads)}


def _rows(tensors, *names, kind="numbers"):
    """An operation on rows with attributes called `names`."""
    def make(s):
        values = {"shift": s.shift, "bits": s.integer(2, 17), "eps": s.eps(),
                  "num_heads": s.heads}
        return ([(kind, (s.tokens, s.width))], {name: values[name] for name in names}, tensors(s))
    return make


def _with_addend(make):
    def with_addend(s):
        inputs, attributes, tensors = make(s)
        return [inputs[0], ("numbers", inputs[0][1])], attributes, tensors
    return with_addend


def _scaling(s):
    return s.scaling(s.width)


def _embed(s):
    prefix, bits = s.integer(0, 3), s.integer(2, 17)
    table = s.array(-2**(bits - 1), 2**(bits - 1), s.tokens + prefix, s.width)
    return ([("dot", (s.tokens, s.width))], {"shift": s.shift, "bits": bits, "prefix": prefix},
            {**s.scaling(s.width), "table": table})


def _bend(s):
    return {"knee": s.array(-2**15, 2**15, s.width), **s.scaling(s.width, name="_above"),
            **s.scaling(s.width, name="_below")}


def _fold(s):
    group, channels = s.integer(1, 7), s.integer(1, 9)
    return ([("numbers", (s.tokens, group * channels))],
            {"shift": s.shift, "bits": s.integer(2, 17), "group": group}, s.scaling(channels))


def _weighted_sum(s):
    sizes = [s.integer(1, 12) for _ in range(s.integer(1, 5))]
    parts, taps = s.integer(1, 5), s.integer(1, 9)
    source, part = s.array(0, len(sizes), parts), s.array(0, parts, taps)
    highest = np.array(sizes)[source[part]]
    index = np.floor(s.random.random((s.tokens, taps)) * (highest + 1)).astype(np.int64) - 1
    return ([("numbers", (size, s.width)) for size in sizes],
            {"shift": s.shift, "bits": s.integer(2, 17)},
            {"index": index, "part": part, "source": source, **s.scaling(parts, s.width)})


def _max_pool(s):
    index = s.array(-1, s.tokens, s.integer(1, 9), s.integer(1, 6))
    index[:, 0] = np.maximum(index[:, 0], 0)
    return [("numbers", (s.tokens, s.width))], {}, {"index": index}


def _gather(kind):
    def make(s):
        lowest = -1 if kind == "codes" else 0
        return ([(kind, (s.tokens, s.width))],
                {"fill": s.integer(0, 256) if kind == "codes" else 0},
                {"index": s.array(lowest, s.tokens, s.integer(1, 9), s.integer(1, 5))})
    return make


def _thresholds(s):
    return {"threshold": s.array(-99, 99, s.width), "descending": s.array(0, 2, s.width)}


def _norm_limits(s):
    return {"k": s.array(-2**13, 2**13, s.width), "kind": s.array(0, 4, s.width)}


CASES = {
    "patchify": lambda s: ([("pixels", (2, 3 * s.heads, 6))], {"patch_size": 3}, {}),
    "plane_linear codes": _linear("codes", -128, 128),
    "plane_linear bits": _linear("bits", -128, 128),
    "binary_linear": _linear("bits", 0, 2),
    "scores": _scores,
    "window_scores": lambda s: ([("bits", (s.tokens, s.width))] * 2,
                                {"num_heads": s.heads, "windows": s.windows}, {}),
    "attend": _attend(True), "attend windows": _attend(False), "attend_levels": _attend_levels,
    "score_bias": _score_bias,
    **_softmax("softmax_threshold", lambda s, kind: ({"delta": s.integer(0, 30)}, {})),
    **_softmax("score_threshold", lambda s, kind: ({"limit": s.integer(-30, 30)}, {})),
    **_softmax("softmax_absolute", _absolute),
    "rescale": _rows(_scaling, "shift", "bits", kind="dot"),
    "rescale addend": _with_addend(_rows(_scaling, "shift", "bits", kind="dot")),
    "embed": _embed,
    "bend": _rows(_bend, "shift", "bits"),
    "bend addend": _with_addend(_rows(_bend, "shift", "bits")),
    "add_table": _rows(lambda s: {"table": s.array(-2**15, 2**15, s.tokens, s.width)}, "bits"),
    "tile_channels": lambda s: ([("numbers", (s.tokens, s.width))], {"copies": s.integer(1, 5)},
                                {}),
    "fold_channels": _fold, "weighted_sum": _weighted_sum, "max_pool": _max_pool,
    "gelu": _rows(lambda s: {}),
    "norm_numbers": _rows(_scaling, "shift", "eps", "bits"),
    "select": lambda s: ([("numbers", (s.tokens, s.width))], {"token": s.tokens - 1}, {}),
    "threshold": _rows(_thresholds, kind="dot"),
    "threshold numbers": _rows(_thresholds),
    "norm_bits": _rows(_norm_limits, "eps"),
    "head_norm_bits": _rows(_norm_limits, "eps", "num_heads"),
    "norm_codes": _rows(_scaling, "shift", "eps"),
    "codes": _rows(_scaling, "shift"),
    **{f"gather {kind}": _gather(kind) for kind in ("numbers", "bits", "codes")},
}
"""How to make a use of every operation, by its name and a word on it."""


def make(name, seed, images=2) -> Case:
    """A random use."""
    source = _Source(seed)
    inputs, attributes, tensors = CASES[name](source)
    if "bias" in tensors and source.integer(0, 2):  # results that are not all saturated
        tensors = tensors | {"bias": tensors["bias"] >> 8}
    types = [TensorType(kind, shape) for kind, shape in inputs]
    values = [[source.value(kind, shape) for kind, shape in inputs] for _ in range(images)]
    if types[0].kind == "scores":
        for image in values:
            _mask(source, image[0])
    return Case(name.split()[0], types, values, attributes, tensors)


def _mask(source, scores):
    """Mask some keys, never all of a row."""
    from bivit.compiler.ir.ops_attention import MASKED

    masked = source.random.random(scores.shape) < 0.3
    masked[..., 0] = False
    scores[masked] = MASKED
