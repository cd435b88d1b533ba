"""What an operation of a graph is, and the checks that operations have in common."""

import dataclasses
from collections.abc import Callable

from bivit.compiler.ir import numeric

__all__ = [
    "Op", "OpError", "TensorType", "accepts", "check_bits", "check_channels", "check_eps",
    "check_heads", "check_index", "check_range", "check_rescale", "check_scales", "check_sum",
    "images_of", "need", "pick", "rows",
]

SUM_LIMIT = 1 << 24
"""Greatest sum of the scales' magnitudes: 16-bit numbers then add up to 40 bits."""


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
        Names of its integer attributes; one called ``images`` may be missing and is then 1.
    infer : callable (input types, attributes, tensors) -> TensorType
    evaluate : callable (input arrays, attributes, tensors) -> array
    variants : dict of str to callable
        What to evaluate instead, where the first input is of that kind.
    """

    inputs: tuple[str, ...]
    tensors: tuple[str, ...]
    attributes: tuple[str, ...]
    infer: Callable
    evaluate: Callable
    variants: dict[str, Callable] = dataclasses.field(default_factory=dict)

    def evaluation(self, kind: str) -> Callable:
        """How to evaluate it where the first input is of `kind`."""
        return self.variants.get(kind, self.evaluate)


def accepts(wanted: str) -> tuple[str, ...]:
    """Kinds that an entry of :attr:`Op.inputs` names."""
    return tuple(wanted.rstrip("?").split("|"))


def need(condition, message):
    """Refuse with `message` unless `condition`."""
    if not condition:
        raise OpError(message)


def pick(attributes, name, low, high):
    """The attribute `name`, checked to lie in `low` to `high`."""
    value = attributes[name]
    need(low <= value <= high, f"{name} {value} is not in {low}..{high}")
    return value


def images_of(attributes) -> int:
    """Images that an operation works on."""
    return attributes.get("images", 1)


def check_range(tensors, name, low, high):
    """Every element of the tensor lies in `low` to `high`."""
    values = tensors[name]
    need(values.size == 0 or (values.min() >= low and values.max() <= high),
         f"{name} has values outside {low}..{high}")


def check_channels(tensors, names, count):
    """Each of the tensors has `count` elements in one row."""
    for name in names:
        need(tensors[name].shape == (count,),
             f"{name} has shape {tensors[name].shape} where ({count},) is needed")


def rows(value):
    """Tokens and channels of a value."""
    need(len(value.shape) == 2, f"needs (tokens, channels) and gets scores of shape {value.shape}")
    return value.shape


def check_scales(attributes, tensors, scale="scale", bias="bias"):
    """Scales have 16 bits, biases 24, and the shift is one that a field selects."""
    check_range(tensors, scale, -2**15, 2**15 - 1)
    check_range(tensors, bias, -2**23, 2**23 - 1)
    need(attributes["shift"] in numeric.RESCALE_SHIFTS,
         f"shift {attributes['shift']} is not one of {numeric.RESCALE_SHIFTS}")


def check_rescale(attributes, tensors, count, *, scale="scale", bias="bias"):
    """Scale and bias of `count` channels, and their shift."""
    check_channels(tensors, (scale, bias), count)
    check_scales(attributes, tensors, scale, bias)


def check_bits(attributes):
    """Width of the numbers that come out."""
    return pick(attributes, "bits", 2, 16)


def check_eps(attributes):
    """What is added to the variance of a row."""
    return pick(attributes, "eps", 1, 2**32 - 1)


def check_heads(attributes, width):
    """Number of heads, which divide `width` channels."""
    heads = attributes["num_heads"]
    need(heads >= 1 and width % heads == 0, f"{heads} heads do not divide {width} channels")
    return heads


def check_index(tensors, *, lowest=-1):
    """An index tensor: at least one output token with at least one entry, from `lowest` on."""
    index = tensors["index"]
    need(index.ndim == 2 and min(index.shape) >= 1,
         f"index has shape {index.shape} where (tokens, taps) is needed")
    need(index.min() >= lowest, f"index has values below {lowest}")
    return index


def check_sum(greatest):
    """The scales of one sum do not outgrow the adders."""
    need(greatest <= SUM_LIMIT, f"the scales of a sum add up to {greatest}, more than "
                                f"{SUM_LIMIT}; use a smaller shift")
