"""NesT to integer layers."""

import torch

from bivit.models import indices, integer
from bivit.models.conversion.attention import Windows
from bivit.models.conversion.blocks import (
    block,
    code_constants,
    norm_numbers,
    odd_linear,
    patch_projection,
)
from bivit.models.conversion.calibration import units_of
from bivit.models.conversion.constants import double
from bivit.models.conversion.deit import block_scales, require, stream_places
from bivit.models.conversion.pooling import average_head
from bivit.models.conversion.settling import settle_blocks
from bivit.models.integer_vit import IntegerLevel, IntegerNest, IntegerPool
from bivit.models.layers import OddPatchEmbed
from bivit.models.multibit import CodedConv, CodedLinear

__all__ = ["convert_nest", "settle_nest"]

CODE_OF_ONE = 128
"""The code of one step, which lies beyond the border."""


def _pool(level, side, size, unit, conv_unit, result_unit, name) -> IntegerPool:
    """Convolution, LayerNorm, maximum and positions, from one level's blocks to the next's.

    `side` and `size` are those of the level before and of its blocks.
    """
    conv, norm = level.pool.conv, level.pool.norm
    order = indices.windows(side, size)
    place = torch.cat([indices.inverse(order), torch.tensor([-1])])
    under = place[indices.neighbours(side, (3, 3))]
    step, channels = float(conv.step), conv.in_channels
    ones = torch.ones(channels, dtype=torch.float64)
    weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)  # kernel first, channels inside
    product, numbers = odd_linear(weight, conv.bias, step, conv_unit, f"{name}.conv")
    taken = indices.neighbours(side, (3, 3), 2)[indices.windows(side // 2, size)]
    table = torch.round(double(level.pos_embed)[0].flatten(0, 1) * result_unit)
    return IntegerPool(
        codes=integer.Codes(**code_constants(ones / unit, 0 * ones, step, name)),
        gather=integer.Gather(index=under, fill=CODE_OF_ONE), conv=product, numbers=numbers,
        norm=norm_numbers(norm, conv_unit, result_unit, f"{name}.norm"),
        pool=integer.MaxPool(index=taken),
        positions=integer.AddTable(table=table.to(torch.int64), bits=16))


def _units(model, calibration):
    """One in each level, its convolution, the last norm and the logits, by name."""
    require(model, {"patch_embed": OddPatchEmbed, "head": CodedLinear,
                    **{f"levels.{index}.pool.conv": CodedConv
                       for index in range(1, len(model.levels))}})
    places = {"last": [(model.norm, "output")], "logits": [(model.head, "output")]}
    scales = {}
    for index, level in enumerate(model.levels):
        blocks = level.transformer_encoder
        places[index] = stream_places(blocks)
        scales[index] = block_scales(blocks, f"levels.{index}.transformer_encoder")
        if index:
            places[f"conv {index}"] = [(level.pool.conv, "output")]
            places[index].append((level.pool.norm, "output"))
        else:
            places[index].append((model.patch_embed, "output"))
    return units_of(model, calibration, places, scales)


def settle_nest(model, calibration):
    """Round the blocks' parameters to the grid of the integers."""
    units = _units(model, calibration)
    for index, level in enumerate(model.levels):
        settle_blocks(level.transformer_encoder, units[index])


def convert_nest(model, calibration) -> IntegerNest:
    """The integer model of a nested transformer.

    Tokens lie block by block within a level; the convolution finds its neighbours by index.
    """
    units, config = _units(model, calibration), model.config
    stages = []
    for index, level in enumerate(model.levels):
        name, side, size, unit = f"levels.{index}", level.side, level.size, units[index]
        if index:
            first = _pool(level, 2 * side, size, units[index - 1], units[f"conv {index}"], unit,
                          f"{name}.pool")
        else:
            first = integer.Gather(index=indices.windows(side, size)[:, None], fill=0)
        options = {"windows": Windows(count=(side // size) ** 2), "interleaved": True}
        stages.append(IntegerLevel(pool=first, transformer_encoder=torch.nn.Sequential(*(
            block(layer, f"{name}.transformer_encoder.{number}", unit, **options)
            for number, layer in enumerate(level.transformer_encoder)))))
    positions = double(model.levels[0].pos_embed)[0].flatten(0, 1)
    table = positions[indices.inverse(indices.windows(config.sides[0], config.block_size))]
    return IntegerNest(
        patch_embed=patch_projection(model.patch_embed, units[0], "patch_embed.proj", table=table),
        levels=torch.nn.Sequential(*stages),
        norm=norm_numbers(model.norm, units[len(stages) - 1], units["last"], "norm"),
        **average_head(model.head, config.sides[-1] ** 2, units["last"], units["logits"], "head"))
