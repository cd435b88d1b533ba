"""Swin to integer layers."""

import torch

from bivit.models import indices, integer
from bivit.models.baselines import MeanLinear
from bivit.models.conversion.attention import Windows, product_constants
from bivit.models.conversion.blocks import (
    block,
    norm_bits,
    norm_codes,
    norm_numbers,
    odd_linear,
    patch_projection,
)
from bivit.models.conversion.calibration import units_of
from bivit.models.conversion.constants import ConvertError, double, rescale_constants
from bivit.models.conversion.deit import block_scales, require, stream_places
from bivit.models.conversion.pooling import average_head
from bivit.models.conversion.settling import settle_blocks
from bivit.models.headwise import HeadMerge
from bivit.models.integer_vit import IntegerMerge, IntegerStage, IntegerSwin
from bivit.models.layers import BinaryLinear, odd_weight
from bivit.models.multibit import CodedLinear
from bivit.models.swin import OddSwinPatchEmbed

__all__ = ["convert_swin", "settle_swin"]


def _windows(layer) -> Windows:
    """The windows of a block."""
    if layer.size == layer.side:
        return Windows(count=1)
    mask = None if layer.attn_mask is None else layer.attn_mask != 0
    return Windows(count=(layer.side // layer.size) ** 2, mask=mask,
                   index=indices.windows(layer.side, layer.size, layer.shift))


def _head_merge(reduction, norm, unit, result_unit, name):
    """Bi-ViT's merging: bits with a scale and a zero point for each, so weights of 8 bits."""
    alpha, zero = double(reduction.act.alpha), torch.round(double(reduction.act.zero_point))
    scale = double(reduction.alpha)
    if not bool((alpha != 0).all() and (scale != 0).all()):
        raise ConvertError(f"layer {name}: a scale is 0; train it again")
    signs = torch.where(double(reduction.weight) / scale[:, None] >= 0, 1.0, -1.0)
    weight = signs * alpha
    odd, step = odd_weight(weight)
    constants = rescale_constants(step[:, 0] * scale * result_unit,
                                  -(weight @ zero) * scale * result_unit, name)
    return (norm_bits(norm, unit, alpha, zero),
            integer.PlaneLinear(weight=odd.to(torch.int64), input_kind="bits"),
            integer.Rescale(**constants, bits=16))


def _merge(layer, side, unit, result_unit, name) -> IntegerMerge:
    """2x2 merging of an image of `side` tokens."""
    reduction, path = layer.reduction, f"{name}.reduction"
    if isinstance(reduction, HeadMerge):
        parts = _head_merge(reduction, layer.norm, unit, result_unit, path)
    elif isinstance(reduction, BinaryLinear | MeanLinear):
        bits, scale, bias = product_constants(reduction, path)
        constants = rescale_constants(scale * result_unit, bias * result_unit, path)
        parts = (norm_bits(layer.norm, unit), integer.BinaryLinear(weight=bits),
                 integer.Rescale(**constants, bits=16))
    elif isinstance(reduction, CodedLinear):
        step = float(reduction.step)
        parts = (norm_codes(layer.norm, unit, step, f"{name}.norm"),
                 *odd_linear(reduction.weight, reduction.bias, step, result_unit, path))
    else:
        raise ConvertError(f"layer {path}: {type(reduction).__name__} has no integer form; train "
                           "it as BinaryLinear or CodedLinear")
    gather = integer.Gather(index=indices.merging(side), fill=0)
    return IntegerMerge(gather=gather, **dict(zip(("norm", "reduction", "numbers"), parts,
                                                  strict=True)))


def _merge_scales(stage, name):
    """Greatest scale of the product of a merging, the first part of a stage's stream."""
    if isinstance(stage.downsample, torch.nn.Identity):
        return []
    reduction = stage.downsample.reduction
    if isinstance(reduction, BinaryLinear | MeanLinear):
        return [float(product_constants(reduction, name)[1].abs().max())]
    return []


def _units(model, calibration):
    """One in the patches, each stage, the last norm and the logits, by name."""
    require(model, {"patch_embed": OddSwinPatchEmbed, "head.fc": CodedLinear})
    places = {"patches": [(model.patch_embed.norm, "input")], "last": [(model.norm, "output")],
              "logits": [(model.head["fc"], "output")]}
    scales = {}
    for index, stage in enumerate(model.layers):
        places[index] = stream_places(stage.blocks)
        scales[index] = block_scales(stage.blocks, f"layers.{index}.blocks") + _merge_scales(
            stage, f"layers.{index}.downsample.reduction")
    return units_of(model, calibration, places, scales)


def settle_swin(model, calibration):
    """Round the blocks' parameters to the grid of the integers."""
    units = _units(model, calibration)
    for index, stage in enumerate(model.layers):
        settle_blocks(stage.blocks, units[index])


def convert_swin(model, calibration) -> IntegerSwin:
    """The integer model of a Swin transformer."""
    units, config = _units(model, calibration), model.config
    stages = []
    for index, stage in enumerate(model.layers):
        name, unit = f"layers.{index}", units[index]
        merge = torch.nn.Identity() if index == 0 else _merge(
            stage.downsample, config.sides[index - 1], units[index - 1], unit,
            f"{name}.downsample")
        stages.append(IntegerStage(downsample=merge, blocks=torch.nn.Sequential(*(
            block(layer, f"{name}.blocks.{number}", unit, windows=_windows(layer))
            for number, layer in enumerate(stage.blocks)))))
    return IntegerSwin(
        patch_embed=patch_projection(model.patch_embed, units["patches"], "patch_embed.proj"),
        embed_norm=norm_numbers(model.patch_embed.norm, units["patches"], units[0],
                                "patch_embed.norm"),
        layers=torch.nn.Sequential(*stages),
        norm=norm_numbers(model.norm, units[len(stages) - 1], units["last"], "norm"),
        **average_head(model.head["fc"], config.sides[-1] ** 2, units["last"], units["logits"],
                       "head.fc"))
