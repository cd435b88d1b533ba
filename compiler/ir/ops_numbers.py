"""Operations whose result is numbers: signed fixed point of at most 16 bits."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.operation import (
    Op,
    TensorType,
    check_bits,
    check_channels,
    check_eps,
    check_index,
    check_range,
    check_rescale,
    check_scales,
    check_sum,
    images_of,
    need,
    pick,
    rows,
)

__all__ = ["NUMBERS"]


def _numbers(shape):
    return TensorType("numbers", shape)


def _check_addend(inputs):
    need(len(inputs) == 1 or inputs[0].shape == inputs[1].shape,
         f"the addend has another shape than the product: {inputs[-1].shape}, {inputs[0].shape}")


def _finish(y, inputs, attributes):
    """Add what is to be added and saturate."""
    return numeric.saturate(y + (inputs[1] if len(inputs) > 1 else 0), attributes["bits"])


def _rescaled(x, attributes, tensors):
    return numeric.rescale(x, tensors["scale"], tensors["bias"], attributes["shift"])


def _rescale_type(inputs, attributes, tensors):
    check_rescale(attributes, tensors, rows(inputs[0])[1])
    check_bits(attributes)
    _check_addend(inputs)
    return _numbers(inputs[0].shape)


def _rescale(inputs, attributes, tensors):
    return _finish(_rescaled(inputs[0], attributes, tensors), inputs, attributes)


def _embed_type(inputs, attributes, tensors):
    tokens, channels = rows(inputs[0])
    check_rescale(attributes, tensors, channels)
    prefix, bits, table = attributes["prefix"], check_bits(attributes), tensors["table"]
    images = images_of(attributes)
    own = tokens // images + prefix
    need(prefix >= 0 and tokens % images == 0 and table.shape == (own, channels),
         f"table has shape {table.shape} where ({own}, {channels}) is needed")
    check_range(tensors, "table", -2**(bits - 1), 2**(bits - 1) - 1)
    return _numbers((images * own, channels))


def _embed(inputs, attributes, tensors):
    prefix, table = attributes["prefix"], tensors["table"].astype(np.int64)
    parts = np.split(_rescaled(inputs[0], attributes, tensors), images_of(attributes))
    return np.concatenate([rows for y in parts for rows in (
        table[:prefix], numeric.saturate(y + table[prefix:], attributes["bits"]))])


def _bend_type(inputs, attributes, tensors):
    channels = inputs[0].shape[1]
    check_channels(tensors, ("knee",), channels)
    check_range(tensors, "knee", -2**15, 2**15 - 1)
    for side in ("above", "below"):
        check_rescale(attributes, tensors, channels, scale=f"scale_{side}", bias=f"bias_{side}")
    check_bits(attributes)
    _check_addend(inputs)
    return _numbers(inputs[0].shape)


def _bend(inputs, attributes, tensors):
    above, below = ((tensors[f"scale_{side}"], tensors[f"bias_{side}"])
                    for side in ("above", "below"))
    y = numeric.bend(inputs[0], tensors["knee"], above, below, attributes["shift"])
    return _finish(y, inputs, attributes)


def _add_table_type(inputs, attributes, tensors):
    (tokens, channels), images = inputs[0].shape, images_of(attributes)
    check_bits(attributes)
    need(tokens % images == 0 and tensors["table"].shape == (tokens // images, channels),
         f"table has shape {tensors['table'].shape} where ({tokens // images}, {channels}) is "
         "needed")
    check_range(tensors, "table", -2**15, 2**15 - 1)
    return _numbers(inputs[0].shape)


def _add_table(inputs, attributes, tensors):
    table = np.tile(tensors["table"], (images_of(attributes), 1))
    return numeric.saturate(inputs[0] + table, attributes["bits"])


def _tile_channels_type(inputs, attributes, tensors):
    tokens, channels = inputs[0].shape
    return _numbers((tokens, channels * pick(attributes, "copies", 1, 2**12)))


def _fold_channels_type(inputs, attributes, tensors):
    tokens, channels = inputs[0].shape
    group = attributes["group"]
    need(group >= 1 and channels % group == 0,
         f"groups of {group} channels do not divide {channels} channels")
    check_rescale(attributes, tensors, channels // group)
    check_bits(attributes)
    check_sum(group * int(abs(tensors["scale"].astype(np.int64)).max()))
    return _numbers((tokens, channels // group))


def _fold_channels(inputs, attributes, tensors):
    groups = inputs[0].reshape(len(inputs[0]), -1, attributes["group"]).sum(-1)
    return numeric.saturate(_rescaled(groups, attributes, tensors), attributes["bits"])


def _weighted_sum_type(inputs, attributes, tensors):
    channels = inputs[0].shape[1]
    index, part, source, scale = (tensors[name] for name in ("index", "part", "source", "scale"))
    need(all(x.shape[-1] == channels for x in inputs),
         f"the inputs have {', '.join(str(x.shape[-1]) for x in inputs)} channels; they need "
         "equally many")
    check_index(tensors)
    need(part.shape == index.shape[1:],
         f"part has shape {part.shape} where ({index.shape[1]},) is needed")
    need(source.ndim == 1 and len(source) >= 1, "source names no part")
    check_range(tensors, "source", 0, len(inputs) - 1)
    check_range(tensors, "part", 0, len(source) - 1)
    need(scale.shape == (len(source), channels),
         f"scale has shape {scale.shape} where ({len(source)}, {channels}) is needed")
    check_channels(tensors, ("bias",), channels)
    check_scales(attributes, tensors)
    check_bits(attributes)
    for tap, which in enumerate(source[part]):
        tokens = inputs[which].shape[0]
        need(index[:, tap].max() < tokens, f"index names token {index[:, tap].max()} of input "
                                           f"{which}, which has {tokens}")
    check_sum(int(abs(scale.astype(np.int64))[part].sum(0).max()))
    return _numbers((len(index), channels))


def _with_nothing(x):
    """The tokens with one of zeros behind them, which index -1 names."""
    return np.concatenate([x, np.zeros_like(x[:1])])


def _weighted_sum(inputs, attributes, tensors):
    index, part, source = (tensors[name] for name in ("index", "part", "source"))
    scale, bias = tensors["scale"].astype(np.int64), tensors["bias"].astype(np.int64)
    inputs = [_with_nothing(x) for x in inputs]
    total = np.zeros((len(index), scale.shape[1]), np.int64)
    for number in np.unique(part):
        x = inputs[source[number]]
        gathered = sum(x[index[:, tap]] for tap in np.flatnonzero(part == number))
        total += gathered * scale[number]
    shift = attributes["shift"]
    total += bias << (shift - numeric.BIAS_FRACTION)
    return numeric.saturate(numeric.round_shift(total, shift), attributes["bits"])


def _max_pool_type(inputs, attributes, tensors):
    index, (tokens, channels) = check_index(tensors), inputs[0].shape
    need(index.max() < tokens, f"index names token {index.max()} and there are {tokens}")
    need((index >= 0).any(1).all(), "index gives a token nothing to take the greatest of")
    return _numbers((len(index), channels))


def _max_pool(inputs, attributes, tensors):
    index = tensors["index"]
    x = np.concatenate([inputs[0], np.full_like(inputs[0][:1], -2**15)])
    result = x[index[:, 0]]
    for tap in range(1, index.shape[1]):
        result = np.maximum(result, x[index[:, tap]])
    return result


def _norm_numbers_type(inputs, attributes, tensors):
    check_rescale(attributes, tensors, inputs[0].shape[1])
    check_eps(attributes)
    check_bits(attributes)
    return _numbers(inputs[0].shape)


def _select_type(inputs, attributes, tensors):
    (tokens, channels), images = inputs[0].shape, images_of(attributes)
    need(tokens % images == 0, f"{tokens} tokens are not those of {images} images")
    need(0 <= attributes["token"] < tokens // images, f"there is no token {attributes['token']}")
    return _numbers((images, channels))


def _select(inputs, attributes, tensors):
    return inputs[0][attributes["token"]::len(inputs[0]) // images_of(attributes)]


NUMBERS = {
    "rescale": Op(("dot", "numbers?"), ("scale", "bias"), ("shift", "bits"),
                  _rescale_type, _rescale),
    "embed": Op(("dot",), ("scale", "bias", "table"), ("shift", "bits", "prefix", "images"),
                _embed_type, _embed),
    "bend": Op(("numbers", "numbers?"),
               ("knee", "scale_above", "bias_above", "scale_below", "bias_below"),
               ("shift", "bits"), _bend_type, _bend),
    "add_table": Op(("numbers",), ("table",), ("bits", "images"), _add_table_type, _add_table),
    "tile_channels": Op(("numbers",), (), ("copies",), _tile_channels_type,
                        lambda x, a, t: np.tile(x[0], (1, a["copies"]))),
    "fold_channels": Op(("numbers",), ("scale", "bias"), ("group", "shift", "bits"),
                        _fold_channels_type, _fold_channels),
    "weighted_sum": Op(("numbers", "numbers?", "numbers?", "numbers?"),
                       ("index", "part", "source", "scale", "bias"), ("shift", "bits"),
                       _weighted_sum_type, _weighted_sum),
    "max_pool": Op(("numbers",), ("index",), (), _max_pool_type, _max_pool),
    "gelu": Op(("numbers",), (), (), lambda x, a, t: x[0], lambda x, a, t: numeric.gelu(x[0])),
    "norm_numbers": Op(("numbers",), ("scale", "bias"), ("shift", "eps", "bits"),
                       _norm_numbers_type, lambda x, a, t: numeric.normalise_to_numbers(
                           x[0], t["scale"], t["bias"], a["shift"], a["eps"], a["bits"])),
    "select": Op(("numbers",), (), ("token", "images"), _select_type, _select),
}
"""Operations by name."""
