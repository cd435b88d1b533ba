"""A trained float model to integers: every real number is rounded here, once, in float64."""

import math

import torch

from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.numeric import (
    BIAS_FRACTION,
    NORM_FRACTION,
    RESCALE_SHIFTS,
    THRESHOLD_FRACTION,
)
from bivit.models import integer
from bivit.models.integer_vit import (
    IntegerAttention,
    IntegerBlock,
    IntegerMlp,
    IntegerPatchEmbed,
    IntegerViT,
)
from bivit.models.layers import (
    SOFTMAX_THRESHOLD,
    BinaryAttention,
    BinaryMlp,
    OddLinear,
    OddNorm,
    OddPatchEmbed,
    odd_weight,
)

__all__ = ["ConvertError", "convert", "rescale_constants", "settle", "sign_constants",
           "softmax_delta"]

RESIDUAL_BITS = 16
HEADROOM = 1.5
"""The residual stream holds this times the greatest magnitude of the calibration images."""


class ConvertError(UserError):
    """A float model that has no integer form; the message names the layer and the remedy."""


def rescale_constants(scale, bias, name):
    """Integers for ``y = scale * dot + bias``, in units of the least significant bit of y.

    Parameters
    ----------
    scale, bias : float64 tensor (C,)
    name : str
        Layer that a refusal names.

    Returns
    -------
    dict
        ``scale`` (16 bits), ``bias`` (24 bits) and the largest ``shift`` with which they fit.
    """
    bias = torch.round(bias * 2**BIAS_FRACTION)
    if bias.abs().max() >= 2**23:
        raise ConvertError(f"layer {name}: a bias is beyond the range of its result; train with "
                           "smaller biases")
    for shift in reversed(RESCALE_SHIFTS):
        scaled = torch.round(scale * 2**shift)
        if scaled.abs().max() < 2**15:
            return {"scale": scaled.to(torch.int64), "bias": bias.to(torch.int64), "shift": shift}
    raise ConvertError(f"layer {name}: a scale is beyond 16 bits at the smallest shift; train "
                       "with smaller scales")


def sign_constants(scale, bias, fan_in):
    """Threshold and direction of ``sign(scale * dot + bias)`` for integers ``|dot| <= fan_in``.

    Ascending where ``scale > 0``, descending where ``scale < 0``; a threshold out of reach where
    the sign is constant.
    """
    descending = scale < 0
    ratio = -bias / torch.where(scale == 0, 1.0, scale)
    always = torch.where(bias >= 0, -fan_in, fan_in + 1).to(scale.dtype)
    threshold = torch.where(descending, torch.floor(ratio), torch.ceil(ratio))
    inward = torch.where(descending, -1, 1)
    threshold = threshold + inward
    for _ in range(2):  # the quotient was rounded: the chain itself decides
        nearer = threshold - inward
        threshold = torch.where(scale * nearer + bias >= 0, nearer, threshold)
    threshold = torch.where(scale == 0, always, threshold)
    low = torch.where(descending, -fan_in - 1, -fan_in).to(scale.dtype)
    threshold = torch.minimum(torch.maximum(threshold, low), low + 2 * fan_in + 1)
    return {"threshold": threshold.to(torch.int64), "descending": descending.to(torch.int64)}


def softmax_delta(head_dim):
    """Greatest distance from the row's maximal score at which the attention is still 1."""
    return math.floor(-math.log(SOFTMAX_THRESHOLD) * math.sqrt(head_dim))


def _double(tensor):
    return tensor.detach().double()


def _norm_constants(norm):
    """Integers that make codes of a normalised number, and what one of their steps is worth."""
    worth = 2 * norm.step * 2**NORM_FRACTION, 2 * norm.step
    scale, bias = _double(norm.weight) / worth[0], (_double(norm.bias) / norm.step + 255) / 2
    return rescale_constants(scale, bias, "norm"), worth


class _Converter:
    """Converts the layers of one model at `fraction` fractional bits of the residual stream."""

    def __init__(self, config, fraction, logit_fraction):
        self.config, self.unit = config, 2.0**fraction
        self.logit_unit = 2.0**logit_fraction

    def rescale(self, scale, bias, name, unit=None):
        unit = unit or self.unit
        return rescale_constants(scale * unit, bias * unit, name)

    def eps(self, norm):
        return max(1, round(self.config.embed_dim**2 * norm.eps * self.unit**2))

    def norm_bits(self, norm):
        gamma, beta = _double(norm.weight), _double(norm.bias)
        limit = -beta / torch.where(gamma == 0, 1.0, gamma)
        kind = torch.where(gamma == 0, 2 + (beta >= 0).to(torch.int64), (gamma < 0).to(torch.int64))
        k = torch.round(limit * 2**THRESHOLD_FRACTION).clamp(-2**15, 2**15 - 1)
        return integer.NormBits(k=torch.where(gamma == 0, 0, k).to(torch.int64), kind=kind,
                                eps=self.eps(norm))

    def binary(self, layer, rows=slice(None)):
        weight = _double(layer.weight)
        bits = (weight - weight.mean(1, keepdim=True) >= 0)[rows]
        return (integer.BinaryLinear(weight=bits.to(torch.int64)),
                _double(layer.scaling_factor)[rows, 0], _double(layer.bias)[rows])

    def binary_sign(self, layer, rows=slice(None)):
        linear, scale, bias = self.binary(layer, rows)
        return linear, integer.Threshold(**sign_constants(scale, bias, layer.in_features))

    def binary_residual(self, layer, name):
        linear, scale, bias = self.binary(layer)
        return linear, integer.Rescale(**self.rescale(scale, bias, name), bits=RESIDUAL_BITS)

    def attention(self, layer, name):
        dim = self.config.embed_dim
        parts = {}
        for index, part in enumerate("qkv"):
            rows = slice(index * dim, (index + 1) * dim)
            parts[part], parts[f"{part}_sign"] = self.binary_sign(layer.qkv, rows)
        proj, residual = self.binary_residual(layer.proj, f"{name}.proj")
        zero = torch.zeros(dim, dtype=torch.int64)
        return IntegerAttention(
            **parts, scores=integer.Scores(num_heads=self.config.num_heads),
            softmax=integer.SoftmaxThreshold(delta=softmax_delta(self.config.head_dim)),
            attend=integer.Attend(), out_sign=integer.Threshold(threshold=zero, descending=zero),
            proj=proj, residual=residual)

    def mlp(self, layer, name):
        fc1, fc1_sign = self.binary_sign(layer.fc1)
        fc2, residual = self.binary_residual(layer.fc2, f"{name}.fc2")
        return IntegerMlp(fc1=fc1, fc1_sign=fc1_sign, fc2=fc2, residual=residual)

    def block(self, block, name):
        return IntegerBlock(
            norm1=self.norm_bits(block.norm1), attn=self.attention(block.attn, f"{name}.attn"),
            norm2=self.norm_bits(block.norm2), mlp=self.mlp(block.mlp, f"{name}.mlp"))

    def patch_embed(self, model):
        proj, table = model.patch_embed.proj, _double(model.pos_embed)[0]
        if self.config.class_token:
            table[0] += _double(model.cls_token)[0, 0]
        odd, scale = odd_weight(_double(proj.weight).flatten(1))
        constants = self.rescale(scale[:, 0] / 255, _double(proj.bias), "patch_embed.proj")
        return IntegerPatchEmbed(
            patches=integer.Patchify(patch_size=self.config.patch_size),
            proj=integer.PlaneLinear(weight=odd.to(torch.int64)),
            embed=integer.Embed(**constants, table=torch.round(table * self.unit).to(torch.int64),
                                prefix=int(self.config.class_token), bits=RESIDUAL_BITS))

    def norm_codes(self, norm):
        return integer.NormCodes(**_norm_constants(norm)[0], eps=self.eps(norm))

    def head(self, head, step):
        odd, scale = odd_weight(_double(head.weight))
        constants = self.rescale(scale[:, 0] * step, _double(head.bias), "head", self.logit_unit)
        return (integer.PlaneLinear(weight=odd.to(torch.int64)),
                integer.Rescale(**constants, bits=16))


def _check(model):
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            layer, _, parameter = name.rpartition(".")
            raise ConvertError(f"layer {layer or 'the model itself'}: {parameter} holds NaN or "
                               "infinite values; train it again or mend the checkpoint")
    wanted = {"patch_embed": OddPatchEmbed, "norm": OddNorm, "head": OddLinear}
    for index in range(len(model.blocks)):
        wanted[f"blocks.{index}.attn"] = BinaryAttention
        wanted[f"blocks.{index}.mlp"] = BinaryMlp
    for name, kind in wanted.items():
        if not isinstance(model.get_submodule(name), kind):
            raise ConvertError(f"layer {name}: {type(model.get_submodule(name)).__name__} has no "
                               f"integer form; train it as {kind.__name__}")


def _range(model, images):
    """Greatest magnitudes of the residual stream and of the logits."""
    greatest = []
    hooks = [layer.register_forward_hook(
        lambda _, inputs, output: greatest.append(max(inputs[0].abs().max(), output.abs().max())))
        for layer in model.blocks]
    for block in model.blocks:
        hooks.append(block.norm2.register_forward_hook(
            lambda _, inputs, output: greatest.append(inputs[0].abs().max())))
    try:
        with torch.no_grad():
            logits = [model(part).abs().max() for part in images.split(256)]
    finally:
        for hook in hooks:
            hook.remove()
    return float(max(greatest)), float(max(logits))


def _fractions(model, calibration):
    """Fractional bits of the residual stream (kept once settled) and of the logits."""
    stream, logits = _range(model, calibration)
    scale = max(float(layer.scaling_factor.detach().abs().max()) for block in model.blocks
                for layer in (block.attn.proj, block.mlp.fc2))
    room = [(2**15 - 1) / (HEADROOM * value + 1e-9) for value in (stream, logits)]
    largest_scale = (2**15 - 1) / 2**min(RESCALE_SHIFTS)
    room[0] = min(room[0], largest_scale / (scale + 1e-9))
    fractions = [max(-8, min(12, math.floor(math.log2(value)))) for value in room]
    if model.patch_embed.step > 0:
        fractions[0] = round(-math.log2(float(model.patch_embed.step)))
    return fractions


@torch.no_grad()
def settle(model, calibration) -> None:
    """Round the parameters of a trained model to what the integers hold, in place.

    Scales, biases and positions become multiples of the residual stream's least significant bit
    (scales of half of it where dot products are even), the thresholds that LayerNorm and sign
    make become multiples of their own, and the patch embedding rounds its result. The float model
    then adds the same numbers as the integer model, and few of their bits differ.
    """
    _check(model)
    fraction = _fractions(model, calibration)[0]
    unit = 2.0**fraction

    def rounded(parameter, unit):
        parameter.copy_(torch.round(parameter.double() * unit) / unit)

    for block in model.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            rounded(layer.scaling_factor, unit * (2 if layer.in_features % 2 == 0 else 1))
            rounded(layer.bias, unit)
        for norm in (block.norm1, block.norm2):
            gamma = norm.weight.double()
            limit = torch.round(norm.bias.double() / gamma * 2**THRESHOLD_FRACTION)
            settled = limit / 2**THRESHOLD_FRACTION * gamma
            norm.bias.copy_(torch.where(gamma == 0, norm.bias.double(), settled))
    proj = model.patch_embed.proj
    odd, scale = odd_weight(proj.weight.double().flatten(1))
    held = rescale_constants(scale[:, 0] / 255 * unit, proj.bias.double() * unit,
                             "patch_embed.proj")
    scale = held["scale"].double()[:, None] / 2.0**held["shift"] / unit * 255
    proj.weight.copy_((odd * scale).reshape(proj.weight.shape))
    rounded(proj.bias, unit * 2**BIAS_FRACTION)
    model.patch_embed.step.fill_(1 / unit)
    held, worth = _norm_constants(model.norm)
    model.norm.weight.copy_(held["scale"].double() / 2.0**held["shift"] * worth[0])
    model.norm.bias.copy_((held["bias"].double() / 2**BIAS_FRACTION - 127.5) * worth[1])
    rounded(model.pos_embed, unit)
    if model.config.class_token:
        rounded(model.cls_token, unit)


def convert(model, calibration) -> IntegerViT:
    """The integer model of a trained binary vision transformer.

    Parameters
    ----------
    model : VisionTransformer
        With the layers of the stage ``binary``.
    calibration : uint8 tensor (N, C, H, W)
        Training images, which decide where the binary point of the residual stream lies.

    Raises
    ------
    ConvertError
        In one sentence: the layer, the reason and what to change.
    """
    _check(model)
    converter = _Converter(model.config, *_fractions(model, calibration))
    head, result = converter.head(model.head, model.norm.step)
    return IntegerViT(
        config=model.config, patch_embed=converter.patch_embed(model),
        blocks=[converter.block(block, f"blocks.{index}")
                for index, block in enumerate(model.blocks)],
        select=integer.Select(token=0), norm=converter.norm_codes(model.norm), head=head,
        logits=result)
