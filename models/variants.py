"""Variants of the layers, to find out what each part of a method is worth."""

import functools

import torch.nn.functional as F
from torch import nn

from bivit.models.baselines import bool_bits, sign_bits
from bivit.models.layers import BinaryAttention, BinaryLinear, BinaryMlp, sign, softmax_bits
from bivit.models.vit import VisionTransformer

__all__ = [
    "ActivationLinear", "BoolBitsAttention", "FixedScaleLinear", "SignBitsAttention",
    "TwoStepTransformer", "threshold_attention", "with_linear",
]


class SignBitsAttention(BinaryAttention):
    """BiViT's attention, but with the sign of the softmax: every key counts."""

    bits = staticmethod(sign_bits)


class BoolBitsAttention(BinaryAttention):
    """BiViT's attention, but with BiBERT's bits: scores that are not negative."""

    bits = staticmethod(bool_bits)


@functools.cache
def threshold_attention(share: float) -> type:
    """BiViT's attention with another share of the row's maximum as threshold."""
    return type(f"ThresholdAttention[{share:.4g}]", (BinaryAttention,), {
        "bits": staticmethod(functools.partial(softmax_bits, share=share))})


class FixedScaleLinear(nn.Linear):
    """``mean|W| * (sign(x) . sign(W - mean of the row)) + bias``: scales follow the weight."""

    products = "binary"
    signs = BinaryLinear.signs

    def forward(self, x):
        y = F.linear(sign(x), self.signs()) * self.weight.detach().abs().mean(1)
        return y if self.bias is None else y + self.bias


class ActivationLinear(nn.Linear):
    """``sign(x) . W + bias``: only the activations are binary."""

    products = "binary_activations"

    def forward(self, x):
        return F.linear(sign(x), self.weight, self.bias)


@functools.cache
def with_linear(layer: type, linear: type) -> type:
    """An attention or MLP class with other linear layers."""
    return type(f"{layer.__name__}[{linear.__name__}]", (layer,), {"linear": linear})


class TwoStepTransformer(VisionTransformer):
    """Binary activations everywhere; weights are binary too with ``linear=BinaryLinear``.

    A stage without layers trains the activations, one with all layers the weights: the
    conventional way to binarize, with which BiViT compares its own.
    """

    def __init__(self, config, *, linear=ActivationLinear):
        super().__init__(config, attention=with_linear(BinaryAttention, linear),
                         mlp=with_linear(BinaryMlp, linear))
