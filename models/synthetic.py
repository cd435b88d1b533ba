"""Integer vision transformers with random weights: test networks of any shape."""

import math

import torch

from bivit.compiler.ir.graph import Graph
from bivit.models.config import ViTConfig
from bivit.models.integer import (
    Attend,
    BinaryLinear,
    Embed,
    NormBits,
    NormCodes,
    Patchify,
    PlaneLinear,
    Rescale,
    Scores,
    Select,
    SoftmaxThreshold,
    Threshold,
)
from bivit.models.integer_vit import (
    IntegerAttention,
    IntegerBlock,
    IntegerMlp,
    IntegerPatchEmbed,
    IntegerViT,
)
from bivit.models.tracing import to_graph

__all__ = ["random_graph", "random_model"]


class _Random:
    """Random layers whose outputs vary: nothing is constant except where it is drawn so."""

    def __init__(self, config, seed):
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)

    def integers(self, low, high, *shape):
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def rescale(self, channels, fan_in, spread, **attributes):
        """A rescale (or embed) whose output has a standard deviation near `spread`."""
        unit = spread / math.sqrt(fan_in)
        shift = next(s for s in (26, 20, 14, 8) if unit * 2 ** s < 2**14 or s == 8)
        limit = min(2**15 - 1, max(1, round(unit * 2 ** shift * 1.5)))
        scale = self.integers(-limit, limit, channels)
        bias = self.integers(-round(spread * 64), round(spread * 64), channels)
        return {"scale": scale, "bias": bias, "shift": shift, **attributes}

    def sign(self, channels, fan_in):
        reach = max(1, round(math.sqrt(fan_in)))
        return Threshold(threshold=self.integers(-reach, reach, channels),
                         descending=self.integers(0, 3, channels) == 0)

    def binary(self, channels, fan_in):
        return BinaryLinear(weight=self.integers(0, 1, channels, fan_in))

    def norm(self):
        channels = self.config.embed_dim
        draw = self.integers(0, 15, channels)
        kind = torch.where(draw >= 14, draw - 12, (draw >= 9).to(torch.int64))
        return NormBits(k=self.integers(-3000, 3000, channels), kind=kind,
                        eps=int(self.integers(1, 1000, 1)))

    def attention(self):
        dim, heads = self.config.embed_dim, self.config.num_heads
        signs = {f"{name}_sign": self.sign(dim, dim) for name in "qkv"}
        most = max(1, round(2 * math.sqrt(self.config.head_dim)))
        return IntegerAttention(
            **{name: self.binary(dim, dim) for name in ("q", "k", "v", "proj")}, **signs,
            scores=Scores(num_heads=heads),
            softmax=SoftmaxThreshold(delta=int(self.integers(0, most, 1))), attend=Attend(),
            out_sign=self.sign(dim, self.config.num_tokens / 2),
            residual=Rescale(**self.rescale(dim, dim, 800), bits=16))

    def mlp(self):
        dim, hidden = self.config.embed_dim, self.config.hidden_dim
        return IntegerMlp(fc1=self.binary(hidden, dim), fc1_sign=self.sign(hidden, dim),
                          fc2=self.binary(dim, hidden),
                          residual=Rescale(**self.rescale(dim, hidden, 800), bits=16))

    def patch_embed(self):
        config = self.config
        pixels, dim, prefix = config.patch_pixels, config.embed_dim, int(config.class_token)
        return IntegerPatchEmbed(
            patches=Patchify(patch_size=config.patch_size),
            proj=PlaneLinear(weight=2 * self.integers(-128, 127, dim, pixels) + 1),
            embed=Embed(**self.rescale(dim, pixels * 148**4, 1500), bits=16, prefix=prefix,
                        table=self.integers(-1000, 1000, config.num_tokens, dim)))

    def model(self):
        config = self.config
        dim, classes = config.embed_dim, config.num_classes
        return IntegerViT(
            config=config, patch_embed=self.patch_embed(),
            blocks=[IntegerBlock(norm1=self.norm(), attn=self.attention(), norm2=self.norm(),
                                 mlp=self.mlp()) for _ in range(config.depth)],
            select=Select(token=0),
            norm=NormCodes(scale=self.integers(-1200, 1200, dim),
                           bias=self.integers(64 * 256, 192 * 256, dim), shift=14,
                           eps=int(self.integers(1, 1000, 1))),
            head=PlaneLinear(weight=2 * self.integers(-128, 127, classes, dim) + 1),
            logits=Rescale(**self.rescale(classes, dim * 148**4, 4000), bits=16))


def random_model(config: ViTConfig, seed: int) -> IntegerViT:
    """An integer vision transformer with random constants; equal arguments, equal models."""
    return _Random(config, seed).model()


def random_graph(config: ViTConfig, seed: int) -> Graph:
    """The graph of :func:`random_model`."""
    return to_graph(random_model(config, seed), config.image_shape)
