"""BinaryViT: a pyramid of binary transformer layers; names of its repository."""

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.baselines import polynomial_sign
from bivit.models.config import BinaryViTConfig
from bivit.models.layers import OddPatchEmbed, PatchEmbed
from bivit.models.multibit import CodedConv, CodedLinear
from bivit.models.shifted import (
    Affine,
    BatchNorm,
    BinaryConv,
    RPReLU,
    ShiftLinear,
    clip_bits,
    from_image,
    to_image,
    zeros,
)

__all__ = ["BinaryViT", "BinaryViTConfig", "CONFIGS", "EIGHT_BITS", "METHODS"]

POOLINGS = {"h3": (3, 1), "w3": (1, 3), "h5": (5, 1), "w5": (1, 5)}


CONFIGS = {
    "binaryvit": BinaryViTConfig(),
    "binaryvit_micro": BinaryViTConfig(
        img_size=32, patch_size=2, num_classes=10, embed_dims=(16, 32, 64, 128),
        depths=(1, 1, 1, 1), mlp_ratios=(4, 4, 2, 2), reductions=(4, 2, 1, 1)),
}


class SelfAttention(nn.Module):
    """Binary attention with residuals around every product, to fewer keys if `reduction` > 1."""

    products = "binary"

    def __init__(self, config, reduction, linear):
        super().__init__()
        dim, eps = config.embed_dim, config.norm_eps
        self.num_heads, self.scale, self.ratio = config.num_heads, config.head_dim**-0.5, reduction
        for letter, name in zip("qkv", ("query", "key", "value"), strict=True):
            setattr(self, f"move{letter}", zeros(dim))
            setattr(self, f"move{letter}2", zeros(dim))
            setattr(self, name, linear(dim, dim))
            setattr(self, f"norm{letter}", BatchNorm(dim, eps))
            setattr(self, f"rprelu{letter}", RPReLU(dim))
        if reduction > 1:
            self.mover, self.reduction = zeros(dim), linear(dim, dim)
            self.norm_r, self.rprelur = BatchNorm(dim, eps), RPReLU(dim)
        self.att_prob_clip = nn.Parameter(torch.tensor(0.005))
        self.norm_context, self.rprelu_context = BatchNorm(dim, eps), RPReLU(dim)

    def heads(self, x):
        """Signs (B, num_heads, N, head_dim)."""
        return polynomial_sign(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def keep(self, x):
        """What keys and values are made of."""
        if self.ratio == 1:
            return x
        x = from_image(F.avg_pool2d(to_image(x), self.ratio))
        return self.rprelur(self.norm_r(self.reduction(x + self.mover)) + x)

    def spread(self, x):
        """Keys or values back at every query's place."""
        return x if self.ratio == 1 else from_image(
            F.interpolate(to_image(x), scale_factor=self.ratio, mode="nearest"))

    def forward(self, x):
        kept = self.keep(x)
        q = self.rpreluq(self.normq(self.query(x + self.moveq)) + x)
        k = self.rpreluk(self.normk(self.key(kept + self.movek)) + kept)
        v = self.rpreluv(self.normv(self.value(kept + self.movev)) + kept)
        keys, values = self.heads(k + self.movek2), self.heads(v + self.movev2)
        scores = (self.heads(q + self.moveq2) @ keys.transpose(-2, -1)) * self.scale
        bits = clip_bits(scores.softmax(-1), self.att_prob_clip)
        context = ((bits @ values) * self.att_prob_clip).transpose(1, 2).flatten(2)
        context = self.norm_context(context) + q + self.spread(k) + self.spread(v)
        return self.rprelu_context(context)


class Dense(nn.Module):
    """``RPReLU(BN(linear(x + move)) + x)`` with x tiled or averaged to the result's channels."""

    def __init__(self, dim, out_dim, eps, linear, *, affine=False):
        super().__init__()
        self.dims = dim, out_dim
        self.move, self.dense = zeros(dim), linear(dim, out_dim)
        self.norm, self.rprelu = BatchNorm(out_dim, eps), RPReLU(out_dim)
        if affine:
            self.layerscale = Affine(out_dim)

    def residual(self, x):
        """The input with as many channels as the result."""
        dim, out_dim = self.dims
        if out_dim >= dim:
            return torch.cat([x] * (out_dim // dim), -1)
        return x.unflatten(-1, (out_dim, -1)).mean(-1)

    def forward(self, x):
        y = self.rprelu(self.norm(self.dense(x + self.move)) + self.residual(x))
        return self.layerscale(y) if hasattr(self, "layerscale") else y


class Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, config, stage, linear):
        super().__init__()
        sizes = config.stage(stage)
        dim, hidden, eps = sizes.embed_dim, sizes.hidden_dim, sizes.norm_eps
        self.layernorm_before, self.layernorm_after = BatchNorm(dim, eps), BatchNorm(dim, eps)
        self.attention = nn.ModuleDict({
            "attention": SelfAttention(sizes, config.reductions[stage], linear),
            "output": Dense(dim, dim, eps, linear, affine=config.affine)})
        self.intermediate = Dense(dim, hidden, eps, linear)
        self.output = Dense(hidden, dim, eps, linear, affine=config.affine)
        self.branches = config.branches
        if config.branches:
            for name in POOLINGS:
                setattr(self, f"layerscale_{name}", Affine(dim, 0.0))

    def forward(self, x):
        attention, output = self.attention.values()
        x = output(attention(self.layernorm_before(x))) + x
        n = self.layernorm_after(x)
        y = self.output(self.intermediate(n)) + x
        if self.branches:
            image = to_image(n)
            for name, (height, width) in POOLINGS.items():
                pooled = F.avg_pool2d(image, (height, width), 1, (height // 2, width // 2))
                y = y + getattr(self, f"layerscale_{name}")(from_image(pooled))
        return y


class BinaryMerge(nn.Module):
    """2x2 tokens to one of twice the channels, in binary, with a residual."""

    def __init__(self, dim, out_dim, tokens, eps):
        super().__init__()
        self.norm0, self.norm = BatchNorm(dim, eps), BatchNorm(out_dim, eps)
        self.move = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.proj, self.rprelu = BinaryConv(dim, out_dim), RPReLU(out_dim)
        self.position_embeddings = nn.Parameter(torch.randn(1, tokens, out_dim) * 0.02)

    def forward(self, x):
        x = to_image(self.norm0(x))
        residual = from_image(F.avg_pool2d(x, 2))
        y = self.norm(from_image(self.proj(x + self.move))) + torch.cat([residual, residual], -1)
        return self.rprelu(y) + self.position_embeddings


class FloatMerge(nn.Module):
    """2x2 tokens to one of twice the channels, in float (the repository's ``--some-fp``)."""

    conv = nn.Conv2d

    def __init__(self, dim, out_dim, tokens, eps):
        super().__init__()
        self.norm0, self.norm = BatchNorm(dim, eps), BatchNorm(out_dim, eps)
        self.proj = self.conv(dim, out_dim, 2, 2, bias=False)
        self.position_embeddings = nn.Parameter(torch.randn(1, tokens, out_dim) * 0.02)

    def forward(self, x):
        x = self.proj(to_image(self.norm0(x)))
        return self.norm(from_image(x)) + self.position_embeddings


class CodedMerge(FloatMerge):
    """The same with 8-bit weights and 8-bit inputs."""

    conv = CodedConv


class _Projection:
    """A patch embedding whose convolution is called `projection`."""

    def __init__(self, config):
        super().__init__(config)
        self.projection = self._modules.pop("proj")

    @property
    def proj(self):
        return self.projection


class PatchProjection(_Projection, PatchEmbed):
    """Float patch embedding."""


class OddPatchProjection(_Projection, OddPatchEmbed):
    """8-bit patch embedding."""


class Embeddings(nn.Module):
    """Patches, BatchNorm, positions."""

    def __init__(self, config, patch_embed):
        super().__init__()
        self.patch_embeddings = patch_embed(config)
        self.norm = BatchNorm(config.embed_dim, config.norm_eps)
        self.position_embeddings = nn.Parameter(
            torch.randn(1, config.sides[0] ** 2, config.embed_dim) * 0.02)

    def forward(self, x):
        return self.norm(self.patch_embeddings(x)) + self.position_embeddings


class Encoder(nn.Module):
    """All layers, numbered through all stages, and the mergings between stages.

    Parameters
    ----------
    depths : tuple of int
    layers : iterable of modules
    merges : iterable of modules
    """

    def __init__(self, depths, layers, merges):
        super().__init__()
        self.depths, self.layer = depths, nn.ModuleList(layers)
        for stage, merge in enumerate(merges, 1):
            self.add_module(f"patch_embed{stage}", merge)

    def forward(self, x):
        layers = iter(self.layer)
        for stage, depth in enumerate(self.depths):
            if stage:
                x = getattr(self, f"patch_embed{stage}")(x)
            for _ in range(depth):
                x = next(layers)(x)
        return x


class BinaryViT(nn.Module):
    """Images (B, C, H, W) uint8 to logits (B, classes).

    Parameters
    ----------
    config : BinaryViTConfig
    patch_embed, linear, merge, head : classes
        The layers, see :data:`METHODS`.
    """

    def __init__(self, config: BinaryViTConfig, *, patch_embed=PatchProjection,
                 linear=ShiftLinear, merge=FloatMerge, head=nn.Linear):
        super().__init__()
        self.config = config
        self.vit = nn.ModuleDict({
            "embeddings": Embeddings(config, patch_embed),
            "encoder": Encoder(
                config.depths,
                (Layer(config, stage, linear)
                 for stage, depth in enumerate(config.depths) for _ in range(depth)),
                (merge(*config.embed_dims[stage - 1:stage + 1], config.sides[stage] ** 2,
                       config.norm_eps) for stage in range(1, len(config.depths)))),
            "layernorm": BatchNorm(config.embed_dims[-1], config.norm_eps)})
        self.classifier = head(config.embed_dims[-1], config.num_classes)

    def forward(self, x):
        for part in self.vit.values():
            x = part(x)
        return self.classifier(x.mean(1) if self.config.average_head else x[:, 0])


METHODS = {"binaryvit": (BinaryViT, {"merge": BinaryMerge}), "some_fp": (BinaryViT, {})}
"""Network class and layer classes of every method."""

EIGHT_BITS = {"patch_embed": OddPatchProjection, "merge": CodedMerge, "head": CodedLinear}
"""Layer classes in 8 bits where a method has none of its own, for the integer form."""
