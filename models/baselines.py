"""Binary layers of the methods that the papers compare with: Bi-Real Net and BiBERT.

Their scales are not learned: every output channel is scaled by the mean magnitude of its latent
weights, which stays constant for the gradient. The gradient of a latent weight is that of its
sign, without the scale, where the weight is inside [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.layers import BinaryAttention, sign

__all__ = [
    "BiRealLinear", "BiRealMlp", "BoolAttention", "BoolMlp", "MeanLinear", "SignAttention",
    "SignedGELU", "bool_bits", "polynomial_sign", "scaled_signs_product", "sign_bits",
]


class _PolynomialSign(torch.autograd.Function):
    """+1 where ``x >= 0``, else -1; gradient ``2 - 2 |x|`` inside [-1, 1]."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (2 - 2 * x.abs()).clamp(min=0)


class _BoolBits(torch.autograd.Function):
    """1 where the score is not negative, else 0; gradient of the clipped score."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.abs() <= 1)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside


class _SignBits(torch.autograd.Function):
    """1 where positive, 0 at zero (a masked key, whatever its exponential leaves); gradient of the
    clipped argument."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.abs() <= 1)
        return (x > torch.finfo(x.dtype).tiny).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside


class _ScaledSignsProduct(torch.autograd.Function):
    """Integer product of signs, scaled; the scale is no part of the weight's gradient."""

    @staticmethod
    def forward(ctx, x, weight, scale):
        signs = torch.where(weight >= 0, 1.0, -1.0)
        ctx.save_for_backward(x, weight, scale)
        return F.linear(x, signs) * scale

    @staticmethod
    def backward(ctx, gradient):
        x, weight, scale = ctx.saved_tensors
        signs = torch.where(weight >= 0, 1.0, -1.0)
        dweight = gradient.flatten(0, -2).T @ x.flatten(0, -2)
        return (gradient * scale) @ signs, dweight * (weight.abs() <= 1), None


def polynomial_sign(x):
    """+1 where ``x >= 0``, else -1; Bi-Real Net's piecewise polynomial gradient."""
    return _PolynomialSign.apply(x)


def bool_bits(scores):
    """BiBERT's attention: 1 where the score is at least 0, without a softmax."""
    return _BoolBits.apply(scores)


def sign_bits(scores):
    """Sign of the softmax: 1 for every key that is not masked."""
    return _SignBits.apply(scores.softmax(-1))


def scaled_signs_product(x, weight, scale):
    """``scale * (x . sign(weight))`` for x in {-1, 1}, with the gradients of this module."""
    return _ScaledSignsProduct.apply(x, weight, scale)


class SignedGELU(nn.Module):
    """GELU that stays negative where float32 would round it to -0."""

    def forward(self, x):
        y = F.gelu(x)
        return torch.where(x < 0, y.clamp(max=-torch.finfo(y.dtype).tiny), y)


class MeanLinear(nn.Linear):
    """``mean|W| * (sign(x) . sign(W - mean of the row)) + bias`` (BiBERT, BinaryViT).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    """

    products = "binary"
    input_sign = staticmethod(sign)

    def latent(self):
        """What the signs are taken of."""
        return self.weight - self.weight.mean(1, keepdim=True)

    def scale(self):
        """Mean magnitude of every row, without gradient."""
        return self.weight.detach().abs().mean(1)

    def forward(self, x):
        y = scaled_signs_product(self.input_sign(x), self.latent(), self.scale())
        return y if self.bias is None else y + self.bias


class BiRealLinear(MeanLinear):
    """``mean|W| * (sign(x) . sign(W))``; the bias has a name but is never added (Bi-ViT)."""

    input_sign = staticmethod(polynomial_sign)

    def latent(self):
        return self.weight

    def forward(self, x):
        return scaled_signs_product(self.input_sign(x), self.latent(), self.scale())


class BoolAttention(BinaryAttention):
    """BiBERT's attention."""

    linear = MeanLinear
    bits = staticmethod(bool_bits)


class SignAttention(BinaryAttention):
    """Attention in the way of Bi-Real Net: the sign of everything."""

    linear = BiRealLinear
    bits = staticmethod(sign_bits)


class BoolMlp(nn.Module):
    """Two linear layers of one class; GELU changes gradients, no signs."""

    linear = MeanLinear

    def __init__(self, config):
        super().__init__()
        self.fc1 = self.linear(config.embed_dim, config.hidden_dim)
        self.act = SignedGELU()
        self.fc2 = self.linear(config.hidden_dim, config.embed_dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class BiRealMlp(BoolMlp):
    """The MLP of Bi-ViT and of the baseline with Bi-Real Net's gradients."""

    linear = BiRealLinear
