"""Bi-ViT's layers: learned head-wise scales and zero points, per-head norm of Q and K."""

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.baselines import BiRealLinear, BiRealMlp
from bivit.models.layers import Attention, sign

__all__ = ["HeadAttention", "HeadMerge", "HeadMlp", "HeadNormAttention", "HeadSign"]


class _GradientScale(torch.autograd.Function):
    """The argument, with `scale` times its gradient."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.scale, None


class _Round(torch.autograd.Function):
    """The nearest integer, with the gradient of the argument."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class HeadSign(nn.Module):
    """``(sign(x / alpha + zp) - zp) * alpha`` with the integer ``zp = round(zero_point)``.

    Gradients pass to x where ``|x / alpha + zp| <= 1``: with zero point 0, ``|x| <= alpha``. Those
    of alpha and zero_point are divided by the square root of the number of elements of x.

    Parameters
    ----------
    count : int
        Heads, or channels.
    trailing : int
        Dimensions of x behind that of the heads.
    """

    def __init__(self, count, trailing=2):
        super().__init__()
        self.trailing = trailing
        self.alpha = nn.Parameter(torch.ones(count))
        self.zero_point = nn.Parameter(torch.zeros(count))
        self.register_buffer("init_state", torch.zeros(1))
        self.register_buffer("signed", torch.zeros(1))

    def initialise(self, x):
        """Set the scales from the values of a batch; the first forward in training does so."""
        with torch.no_grad():
            self.signed.fill_(float(x.min() < -1e-5))
            self.alpha.fill_(float(2 * x.abs().mean()))
            self.zero_point.mul_(0.9).add_(0.1 * (x.min() + self.alpha))
            self.init_state.fill_(1)

    def levels(self, x):
        """Integers ``sign(...) - zp``, and the scale that belongs to them."""
        if self.training and not x.is_meta and not bool(self.init_state):
            self.initialise(x)
        factor = x.numel() ** -0.5
        shape = (-1,) + (1,) * self.trailing
        alpha = _GradientScale.apply(self.alpha, factor).view(shape)
        zero_point = _Round.apply(_GradientScale.apply(self.zero_point, factor)).view(shape)
        return sign(x / alpha + zero_point) - zero_point, alpha

    def forward(self, x):
        levels, alpha = self.levels(x)
        return levels * alpha


class HeadAttention(Attention):
    """Attention with one bit, scale and zero point a head for Q, K, V and the softmax."""

    products = "binary"
    linear = BiRealLinear

    def __init__(self, config):
        super().__init__(config)
        for name in ("q_act", "k_act", "v_act", "attn_act"):
            setattr(self, name, HeadSign(config.num_heads))

    def normalise(self, q, k):
        """Queries and keys as they are binarized."""
        return q, k

    def context(self, q, k, v, bias):
        q, k = self.normalise(q, k)
        (q, q_scale), (k, k_scale) = self.q_act.levels(q), self.k_act.levels(k)
        v, v_scale = self.v_act.levels(v)
        scores = (q @ k.transpose(-2, -1)) * (q_scale * k_scale * self.scale)
        scores = scores if bias is None else scores + bias
        attention, scale = self.attn_act.levels(scores.softmax(-1))
        return (attention @ v) * (scale * v_scale)


class HeadNormAttention(HeadAttention):
    """The same with a LayerNorm of every head's queries and keys (DeiT)."""

    def __init__(self, config):
        super().__init__(config)
        self.norm_q, self.norm_k = nn.LayerNorm(config.head_dim), nn.LayerNorm(config.head_dim)

    def normalise(self, q, k):
        return self.norm_q(q), self.norm_k(k)


class HeadMlp(BiRealMlp):
    """Bi-ViT's MLP.

    The code clips to +-10 before fc2; no sign and no gradient changes by that.
    """


class HeadMerge(nn.Linear):
    """Patch merging with a learned scale an output, and scale and zero point an input."""

    products = "binary"

    def __init__(self, in_features, out_features, bias=False):
        super().__init__(in_features, out_features, bias)
        self.alpha = nn.Parameter(torch.ones(out_features))
        self.register_buffer("init_state", torch.zeros(1))
        self.act = HeadSign(in_features, trailing=0)

    def initialise(self):
        """Set the scales from the weight; the first forward in training does so."""
        with torch.no_grad():
            self.alpha.fill_(float(2 * self.weight.abs().mean()))
            self.init_state.fill_(1)

    def forward(self, x):
        if self.training and not x.is_meta and not bool(self.init_state):
            self.initialise()
        alpha = _GradientScale.apply(self.alpha, self.weight.numel() ** -0.5)
        signs = sign(self.weight / alpha[:, None])
        return F.linear(self.act(x), signs, self.bias) * alpha
