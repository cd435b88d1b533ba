"""The layers that are trained: binary and 8-bit, with straight-through gradients (BiViT).

Signs are +1 at zero. Forward values are exactly those of the integers they stand for, so that
sums of signs have no rounding and ties fall as in hardware.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "Attention", "BinaryAttention", "BinaryLinear", "BinaryMlp", "Mlp", "OddLinear", "OddNorm",
    "OddPatchEmbed", "PatchEmbed", "SOFTMAX_THRESHOLD", "odd_weight", "sign",
    "softmax_bits", "straight_through",
]

SOFTMAX_THRESHOLD = 0.25
"""An attention weight is 1 where the softmax is at least this share of its row's maximum."""


class _Sign(torch.autograd.Function):
    """+1 where ``x >= 0``, else -1; the gradient passes where ``|x| <= 1``."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.abs() <= 1)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        (inside,) = ctx.saved_tensors
        return gradient * inside


class _StraightThrough(torch.autograd.Function):
    """The value of the second argument with the gradient of the first."""

    @staticmethod
    def forward(ctx, x, value):
        return value

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def sign(x):
    """+1 where ``x >= 0``, else -1; straight-through gradient where ``|x| <= 1``."""
    return _Sign.apply(x)


def straight_through(x, value):
    """`value` with the gradient of `x`."""
    return _StraightThrough.apply(x, value)


def softmax_bits(scores, share=SOFTMAX_THRESHOLD):
    """Softmax-aware binarization: {0, 1}, with the true gradient of the softmax."""
    attention = scores.softmax(-1)
    bits = attention >= share * attention.detach().amax(-1, keepdim=True)
    return straight_through(attention, bits.to(attention.dtype))


def odd_weight(weight, bits=8):
    """Round each row of a weight to odd numbers of `bits` bits: ``scale * {-255, -253, ..., 255}``.

    Returns
    -------
    odd : tensor like `weight`
        The odd integers.
    scale : tensor (rows, 1)
    """
    limit = (1 << bits) - 1
    scale = weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-12) / limit
    return (2 * torch.floor(weight.detach() / (2 * scale)) + 1).clamp(-limit, limit), scale


class BinaryLinear(nn.Linear):
    """``scaling_factor * (sign(x) . sign(W - mean of the row)) + bias``."""

    products = "binary"

    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.scaling_factor = nn.Parameter(torch.empty(out_features, 1))
        self.reset_scaling_factor()

    def reset_scaling_factor(self):
        """Set the scales to the mean magnitude of the rows of the weight."""
        with torch.no_grad():
            self.scaling_factor.copy_(self.weight.abs().mean(1, keepdim=True))

    def signs(self):
        """Signs of the centred weight."""
        return sign(self.weight - self.weight.mean(1, keepdim=True))

    def forward(self, x):
        y = F.linear(sign(x), self.signs()) * self.scaling_factor[:, 0]
        return y if self.bias is None else y + self.bias


class OddLinear(nn.Linear):
    """A linear layer whose weight is rounded to 8-bit odd numbers, one scale a row."""

    def forward(self, x):
        odd, scale = odd_weight(self.weight)
        return F.linear(x, straight_through(self.weight, odd * scale), self.bias)


class OddNorm(nn.LayerNorm):
    """LayerNorm whose result is rounded to 8-bit codes: ``(2 p - 255) * step``."""

    step = 4 / 255

    def forward(self, x):
        y = super().forward(x)
        limit = 255 * self.step
        codes = torch.floor((y.detach() / self.step + 255) / 2 + 0.5).clamp(0, 255)
        return straight_through(y.clamp(-limit, limit), (2 * codes - 255) * self.step)


class PatchEmbed(nn.Module):
    """Patches of uint8 images (B, C, H, W) times a weight: (B, N, D)."""

    def __init__(self, config):
        super().__init__()
        self.patch_size, self.weight_bits = config.patch_size, config.stem_bits
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, config.patch_size,
                              config.patch_size)

    def patches(self, x):
        """Odd numbers ``2 p - 255`` of every patch, in the order of the weight."""
        return F.pixel_unshuffle(2 * x.float() - 255, self.patch_size).flatten(2).transpose(1, 2)

    def forward(self, x):
        return F.linear(self.patches(x) / 255, self.proj.weight.flatten(1), self.proj.bias)


class OddPatchEmbed(PatchEmbed):
    """Patch embedding whose weight is rounded to odd numbers of `stem_bits`, one scale a row.

    The result is rounded to multiples of `step`, if it is not zero.
    """

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("step", torch.tensor(0.0))

    def forward(self, x):
        weight = self.proj.weight.flatten(1)
        odd, scale = odd_weight(weight, self.weight_bits)
        y = F.linear(self.patches(x), straight_through(weight / scale, odd))
        y = y * (scale[:, 0] / 255) + self.proj.bias
        if self.step > 0:
            y = straight_through(y, torch.floor(y.detach() / self.step + 0.5) * self.step)
        return y


class Attention(nn.Module):
    """Multi-head self-attention."""

    linear = nn.Linear

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.scale = config.num_heads, config.head_dim ** -0.5
        self.qkv = self.linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = self.linear(config.embed_dim, config.embed_dim)

    def heads(self, x):
        """Queries, keys and values, each (..., num_heads, N, head_dim)."""
        return self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).movedim(-3, 0).transpose(-2, -3)

    def scores(self, q, k, bias):
        """Scores before the softmax (..., num_heads, N, N)."""
        scores = (q @ k.transpose(-2, -1)) * self.scale
        return scores if bias is None else scores + bias

    def context(self, q, k, v, bias):
        """What every query gathers (..., num_heads, N, head_dim)."""
        return self.scores(q, k, bias).softmax(-1) @ v

    def join(self, context):
        """All heads' channels side by side (..., N, embed_dim)."""
        return context.transpose(-2, -3).flatten(-2)

    def forward(self, x, bias=None):
        return self.proj(self.join(self.context(*self.heads(x), bias)))


class BinaryAttention(Attention):
    """Self-attention with one bit for weights, queries, keys, values and attention."""

    products = "binary"
    linear = BinaryLinear
    bits = staticmethod(softmax_bits)

    def context(self, q, k, v, bias):
        return self.bits(self.scores(sign(q), sign(k), bias)) @ sign(v)


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.hidden_dim, config.embed_dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class BinaryMlp(nn.Module):
    """Two binary linear layers; ``sign(GELU(x)) = sign(x)``, so there is no GELU."""

    linear = BinaryLinear

    def __init__(self, config):
        super().__init__()
        self.fc1 = self.linear(config.embed_dim, config.hidden_dim)
        self.fc2 = self.linear(config.hidden_dim, config.embed_dim)

    def forward(self, x):
        return self.fc2(self.fc1(x))
