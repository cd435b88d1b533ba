"""Parameters of a trained float model rounded to what the integers hold."""

import torch

from bivit.compiler.ir.numeric import BIAS_FRACTION, NORM_FRACTION, THRESHOLD_FRACTION
from bivit.models.conversion.blocks import code_constants
from bivit.models.conversion.constants import double, rescale_constants
from bivit.models.layers import BinaryLinear, odd_weight

__all__ = ["rounded", "settle_blocks", "settle_patches", "settle_positions"]


def rounded(parameter, unit):
    """Round a parameter to multiples of ``1 / unit``, in place."""
    parameter.copy_(torch.round(parameter.double() * unit) / unit)


def settle_blocks(blocks, unit):
    """Scales and biases to the residual stream's grid, LayerNorm's thresholds to their own.

    Scales of half a unit do where dot products are even.
    """
    for block in blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            if isinstance(layer, BinaryLinear):
                rounded(layer.scaling_factor, unit * (2 if layer.in_features % 2 == 0 else 1))
                rounded(layer.bias, unit)
        for norm in (block.norm1, block.norm2):
            gamma = norm.weight.double()
            limit = torch.round(norm.bias.double() / gamma * 2**THRESHOLD_FRACTION)
            settled = limit / 2**THRESHOLD_FRACTION * gamma
            norm.bias.copy_(torch.where(gamma == 0, norm.bias.double(), settled))


def settle_patches(patch_embed, unit):
    """The patch embedding's constants, and its result to the residual stream's grid."""
    proj = patch_embed.proj
    odd, scale = odd_weight(proj.weight.double().flatten(1), patch_embed.weight_bits)
    held = rescale_constants(scale[:, 0] / 255 * unit, proj.bias.double() * unit,
                             "patch_embed.proj")
    scale = held["scale"].double()[:, None] / 2.0**held["shift"] / unit * 255
    proj.weight.copy_((odd * scale).reshape(proj.weight.shape))
    rounded(proj.bias, unit * 2**BIAS_FRACTION)
    patch_embed.step.fill_(1 / unit)


def settle_positions(model, unit):
    """Positions and tokens of a vision transformer, and the affine of its last norm."""
    norm = model.norm
    held = code_constants(double(norm.weight) / 2**NORM_FRACTION, double(norm.bias), norm.step,
                          "norm")
    worth = 2 * norm.step
    norm.weight.copy_(held["scale"].double() / 2.0**held["shift"] * (worth * 2**NORM_FRACTION))
    norm.bias.copy_((held["bias"].double() / 2**BIAS_FRACTION - 127.5) * worth)
    rounded(model.pos_embed, unit)
    for token in ("cls_token", "dist_token"):
        if getattr(model, token, None) is not None:
            rounded(getattr(model, token), unit)
