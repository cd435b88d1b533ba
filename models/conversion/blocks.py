"""Norms, MLPs, embeddings and heads of transformers to integer layers."""


import torch

from bivit.compiler.ir.numeric import GELU_FRACTION, NORM_FRACTION
from bivit.models import integer
from bivit.models.baselines import BoolMlp
from bivit.models.conversion.attention import attention, product_constants
from bivit.models.conversion.constants import (
    ConvertError,
    double,
    norm_bit_constants,
    rescale_constants,
    sign_constants,
)
from bivit.models.headwise import HeadAttention
from bivit.models.integer_vit import IntegerBlock, IntegerCodedMlp, IntegerMlp, IntegerPatchEmbed
from bivit.models.layers import BinaryAttention, BinaryMlp, odd_weight
from bivit.models.multibit import CodedBinaryMlp

__all__ = ["block", "check_block", "code_constants", "norm_bits", "norm_codes", "norm_epsilon",
           "norm_numbers", "odd_linear", "patch_projection"]

RESIDUAL_BITS = 16


def norm_epsilon(norm, unit):
    """LayerNorm's epsilon for numbers of which `unit` are one."""
    channels = norm.normalized_shape[0]
    return min(max(1, round(channels**2 * norm.eps * unit**2)), 2**32 - 1)


def norm_bits(norm, unit, divisor=1.0, offset=0.0):
    """``sign(norm / divisor + offset)``, one of each for every channel."""
    constants = norm_bit_constants(double(norm.weight) / divisor,
                                   double(norm.bias) / divisor + offset)
    return integer.NormBits(**constants, eps=norm_epsilon(norm, unit))


def norm_numbers(norm, unit, result_unit, name):
    """LayerNorm to numbers of which `result_unit` are one."""
    constants = rescale_constants(double(norm.weight) * (result_unit / 2**NORM_FRACTION),
                                  double(norm.bias) * result_unit, name)
    return integer.NormNumbers(**constants, eps=norm_epsilon(norm, unit), bits=RESIDUAL_BITS)


def code_constants(scale, bias, step, name):
    """Codes ``p`` of ``scale * x + bias = (2 p - 255) * step``."""
    return rescale_constants(scale / (2 * step), (bias / step + 255) / 2, name)


def norm_codes(norm, unit, step, name):
    """LayerNorm to 8-bit codes."""
    constants = code_constants(double(norm.weight) / 2**NORM_FRACTION, double(norm.bias), step,
                               name)
    return integer.NormCodes(**constants, eps=norm_epsilon(norm, unit))


def odd_linear(weight, bias, step, unit, name):
    """Product of codes with 8-bit weights, and its rescale to numbers of which `unit` are one."""
    odd, scale = odd_weight(double(weight).flatten(1))
    bias = torch.zeros(len(odd), dtype=torch.float64) if bias is None else double(bias)
    constants = rescale_constants(scale[:, 0] * step * unit, bias * unit, name)
    return (integer.PlaneLinear(weight=odd.to(torch.int64)),
            integer.Rescale(**constants, bits=RESIDUAL_BITS))


def patch_projection(layer, unit, name, *, table=None, prefix=0):
    """Pixels to numbers of which `unit` are one, with a table of positions or without."""
    proj = layer.proj
    odd, scale = odd_weight(double(proj.weight).flatten(1), layer.weight_bits)
    constants = rescale_constants(scale[:, 0] / 255 * unit, double(proj.bias) * unit, name)
    if table is None:
        embed = integer.Rescale(**constants, bits=RESIDUAL_BITS)
    else:
        embed = integer.Embed(**constants, table=torch.round(table * unit).to(torch.int64),
                              prefix=prefix, bits=RESIDUAL_BITS)
    return IntegerPatchEmbed(patches=integer.Patchify(patch_size=layer.patch_size),
                             proj=integer.PlaneLinear(weight=odd.to(torch.int64)), embed=embed)


def _residual(layer, unit, name, step=1.0):
    bits, scale, bias = product_constants(layer, name)
    return bits, integer.Rescale(**rescale_constants(scale * step * unit, bias * unit, name),
                                 bits=RESIDUAL_BITS)


def _binary_mlp(mlp, name, unit):
    bits, scale, bias = product_constants(mlp.fc1, f"{name}.fc1")
    sign = integer.Threshold(**sign_constants(scale, bias, mlp.fc1.in_features))
    fc2, residual = _residual(mlp.fc2, unit, f"{name}.fc2")
    return IntegerMlp(fc1=integer.BinaryLinear(weight=bits), fc1_sign=sign,
                      fc2=integer.BinaryLinear(weight=fc2), residual=residual)


def _coded_mlp(mlp, name, unit):
    """W1A8: codes, GELU in between."""
    first, second = float(mlp.fc1.step), float(mlp.fc2.step)
    bits, scale, bias = product_constants(mlp.fc1, f"{name}.fc1")
    one = 2.0**GELU_FRACTION
    numbers = integer.Rescale(**rescale_constants(scale * first * one, bias * one, f"{name}.fc1"),
                              bits=16)
    hidden = len(bits)
    codes = code_constants(torch.full((hidden,), 1 / one, dtype=torch.float64),
                           torch.zeros(hidden, dtype=torch.float64), second, f"{name}.fc2")
    signs, residual = _residual(mlp.fc2, unit, f"{name}.fc2", second)
    return IntegerCodedMlp(
        fc1=integer.PlaneLinear(weight=2 * bits - 1), fc1_numbers=numbers, act=integer.Gelu(),
        fc2_codes=integer.Codes(**codes), fc2=integer.PlaneLinear(weight=2 * signs - 1),
        residual=residual)


def check_block(layer, name):
    """Refuse a block whose attention or MLP has no integer form."""
    for path, kinds, wanted in (
            ("attn", (BinaryAttention, HeadAttention), "BinaryAttention"),
            ("mlp", (BinaryMlp, BoolMlp, CodedBinaryMlp), "BinaryMlp or CodedBinaryMlp")):
        part = layer.get_submodule(path)
        if not isinstance(part, kinds):
            raise ConvertError(f"layer {name}.{path}: {type(part).__name__} has no integer form; "
                               f"train it as {wanted}")


def block(layer, name, unit, *, windows=None, interleaved=False) -> IntegerBlock:
    """A pre-norm transformer block, once checked."""
    mlp = layer.mlp
    if isinstance(mlp, CodedBinaryMlp):
        norm2 = norm_codes(layer.norm2, unit, float(mlp.fc1.step), f"{name}.norm2")
        mlp = _coded_mlp(mlp, f"{name}.mlp", unit)
    else:
        norm2 = norm_bits(layer.norm2, unit)
        mlp = _binary_mlp(mlp, f"{name}.mlp", unit)
    return IntegerBlock(
        norm1=norm_bits(layer.norm1, unit),
        attn=attention(layer.attn, f"{name}.attn", unit=unit, windows=windows,
                       interleaved=interleaved),
        norm2=norm2, mlp=mlp)
