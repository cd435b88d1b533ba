"""DeiT and plain vision transformers of every method to integer layers."""

import math

import torch

from bivit.models import integer
from bivit.models.conversion.attention import product_constants
from bivit.models.conversion.blocks import (
    block,
    check_block,
    norm_codes,
    odd_linear,
    patch_projection,
)
from bivit.models.conversion.calibration import units_of
from bivit.models.conversion.constants import ConvertError, double
from bivit.models.conversion.settling import settle_blocks, settle_patches, settle_positions
from bivit.models.deit import DistilledVisionTransformer
from bivit.models.integer_vit import IntegerClassifier, IntegerDistilledViT, IntegerViT
from bivit.models.layers import OddLinear, OddNorm, OddPatchEmbed

__all__ = ["block_scales", "convert_vit", "require", "settle_vit", "stream_places"]

ONE = 1 << 14
"""A scale of 1 at the shift 14."""


def stream_places(blocks):
    """Where the residual stream of some blocks can be seen."""
    return [place for layer in blocks for place in (
        (layer, "input"), (layer, "output"), (layer.norm2, "input"))]


def block_scales(blocks, name):
    """Greatest scales of the products that are added to the residual stream."""
    scales = []
    for index, layer in enumerate(blocks):
        check_block(layer, f"{name}.{index}")
        for path in ("attn.proj", "mlp.fc2"):
            product = layer.get_submodule(path)
            _, scale, _ = product_constants(product, f"{name}.{index}.{path}")
            scales.append(float(scale.abs().max()) * float(getattr(product, "step", 1.0)))
    return scales


def require(model, wanted):
    """Refuse layers of classes that have no integer form.

    Parameters
    ----------
    wanted : dict of str to class
        By path.
    """
    for name, kind in wanted.items():
        if not isinstance(model.get_submodule(name), kind):
            raise ConvertError(f"layer {name}: {type(model.get_submodule(name)).__name__} has no "
                               f"integer form; train it as {kind.__name__}")


def _heads(model):
    return ["head", "head_dist"] if isinstance(model, DistilledVisionTransformer) else ["head"]


def _units(model, calibration):
    """One in the residual stream and in the logits."""
    heads = _heads(model)
    require(model, {"patch_embed": OddPatchEmbed, "norm": OddNorm,
                    **dict.fromkeys(heads, OddLinear)})
    scales = block_scales(model.blocks, "blocks")
    found = units_of(model, calibration, {
        "stream": stream_places(model.blocks),
        "logits": [(model.get_submodule(head), "output") for head in heads]}, {"stream": scales})
    unit = found["stream"]
    if model.patch_embed.step > 0:  # settled
        unit = 2.0 ** round(-math.log2(float(model.patch_embed.step)))
    return unit, found["logits"]


def settle_vit(model, calibration):
    """Round the parameters to the grid of the integers, see :func:`bivit.models.settle`."""
    unit, _ = _units(model, calibration)
    settle_blocks(model.blocks, unit)
    settle_patches(model.patch_embed, unit)
    settle_positions(model, unit)


def convert_vit(model, calibration):
    """The integer model of a vision transformer, distilled or not."""
    unit, logit_unit = _units(model, calibration)
    table = double(model.pos_embed)[0].clone()
    prefix = 0
    for token in ("cls_token", "dist_token"):
        if getattr(model, token, None) is not None:
            table[prefix] += double(getattr(model, token))[0, 0]
            prefix += 1
    parts = {
        "config": model.config,
        "patch_embed": patch_projection(model.patch_embed, unit, "patch_embed.proj", table=table,
                                        prefix=prefix),
        "blocks": [block(layer, f"blocks.{index}", unit)
                   for index, layer in enumerate(model.blocks)]}

    def classifier(token, name):
        head = model.get_submodule(name)
        step = float(model.norm.step)
        linear, logits = odd_linear(head.weight, head.bias, step, logit_unit, name)
        return {"select": integer.Select(token=token), "head": linear, "logits": logits,
                "norm": norm_codes(model.norm, unit, step, "norm")}

    heads = _heads(model)
    if len(heads) == 1:
        return IntegerViT(**parts, **classifier(0, "head"))
    classes = model.config.num_classes
    average = integer.WeightedSum(
        index=torch.zeros(1, 2, dtype=torch.int64), part=torch.tensor([0, 1]),
        source=torch.tensor([0, 1]), scale=torch.full((2, classes), ONE // 2),
        bias=torch.zeros(classes, dtype=torch.int64), shift=14, bits=16)
    return IntegerDistilledViT(**parts, average=average, classifiers=[
        IntegerClassifier(**classifier(token, name)) for token, name in enumerate(heads)])
