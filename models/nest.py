"""NesT: float and BiViT; names of timm 1.0."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from bivit.models.baselines import BoolAttention, BoolMlp
from bivit.models.config import PyramidConfig, StageConfig
from bivit.models.layers import (
    Attention,
    BinaryAttention,
    BinaryMlp,
    Mlp,
    OddPatchEmbed,
    PatchEmbed,
)
from bivit.models.multibit import BinaryWeightMlp, CodedBinaryMlp, CodedConv, CodedLinear
from bivit.models.vit import Block
from bivit.models.windows import merge, partition

__all__ = ["CONFIGS", "EIGHT_BITS", "METHODS", "Nest", "NestConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NestConfig(PyramidConfig):
    """Sizes of a nested transformer: all levels have blocks of one size, the last level one."""

    embed_dims: tuple[int, ...] = (96, 192, 384)
    depths: tuple[int, ...] = (2, 2, 8)
    num_heads: tuple[int, ...] = (3, 6, 12)
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6

    @property
    def block_size(self) -> int:
        """Side of a block of tokens that attend to themselves."""
        return self.sides[-1]

    def level(self, index) -> StageConfig:
        """Sizes of the blocks of one level."""
        return StageConfig(embed_dim=self.embed_dims[index], num_heads=self.num_heads[index],
                           mlp_ratio=self.mlp_ratio, norm_eps=self.norm_eps)


CONFIGS = {
    "nest_tiny": NestConfig(),
    "nest_micro": NestConfig(img_size=32, patch_size=2, num_classes=10, embed_dims=(16, 32, 64),
                             depths=(1, 1, 2), num_heads=(1, 2, 4)),
}


class _Interleaved:
    """Attention whose heads alternate from channel to channel of the projection's input."""

    interleaved = True

    def join(self, context):
        return context.movedim(-3, -1).flatten(-2)


class NestAttention(_Interleaved, Attention):
    """Float."""


class BinaryNestAttention(_Interleaved, BinaryAttention):
    """BiViT."""


class BoolNestAttention(_Interleaved, BoolAttention):
    """BiBERT."""


class ConvPool(nn.Module):
    """3x3 convolution, LayerNorm over channels and 3x3 maximum, on images (B, H, W, C)."""

    def __init__(self, dim, out_dim, eps, conv):
        super().__init__()
        self.conv = conv(dim, out_dim, 3, padding=1)
        self.norm = nn.LayerNorm(out_dim, eps=eps)

    def forward(self, x):
        x = self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return F.max_pool2d(x.permute(0, 3, 1, 2), 3, 2, 1).permute(0, 2, 3, 1)


class Level(nn.Module):
    """Pooling, if it is not the first level, and transformer blocks inside blocks of tokens."""

    def __init__(self, config, index, attention, mlp, conv):
        super().__init__()
        stage = config.level(index)
        self.side, self.size = config.sides[index], config.block_size
        self.pos_embed = nn.Parameter(0.02 * torch.randn(
            1, (self.side // self.size) ** 2, self.size ** 2, stage.embed_dim))
        self.pool = ConvPool(config.embed_dims[index - 1], stage.embed_dim,
                             config.norm_eps, conv) if index else nn.Identity()
        self.transformer_encoder = nn.Sequential(*(
            Block(stage, attention, mlp) for _ in range(config.depths[index])))

    def forward(self, x):
        x = partition(self.pool(x), self.size) + self.pos_embed
        return merge(self.transformer_encoder(x), self.size, self.side)


class Nest(nn.Module):
    """Images (B, C, H, W) uint8 to logits (B, classes).

    Parameters
    ----------
    config : NestConfig
    patch_embed, attention, mlp, conv, head : classes
        The layers, see :data:`METHODS`.
    """

    def __init__(self, config: NestConfig, *, patch_embed=PatchEmbed, attention=NestAttention,
                 mlp=Mlp, conv=nn.Conv2d, head=nn.Linear):
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed(config)
        self.levels = nn.Sequential(*(Level(config, index, attention, mlp, conv)
                                      for index in range(len(config.depths))))
        self.norm = nn.LayerNorm(config.embed_dims[-1], eps=config.norm_eps)
        self.head = head(config.embed_dims[-1], config.num_classes)

    def forward(self, x):
        side = self.config.sides[0]
        x = self.levels(self.patch_embed(x).unflatten(1, (side, side)))
        return self.head(self.norm(x).mean((1, 2)))


METHODS = {
    "float": (Nest, {}),
    "bivit": (Nest, {"attention": BinaryNestAttention, "mlp": BinaryMlp}),
    "bivit_w1a32": (Nest, {"attention": BinaryNestAttention, "mlp": BinaryWeightMlp}),
    "bivit_w1a8": (Nest, {"attention": BinaryNestAttention, "mlp": CodedBinaryMlp}),
    "bibert": (Nest, {"attention": BoolNestAttention, "mlp": BoolMlp}),
}
"""Network class and layer classes of every method."""

EIGHT_BITS = {"patch_embed": OddPatchEmbed, "conv": CodedConv, "head": CodedLinear}
"""Layer classes of what is not binary in 8 bits, for the integer form."""
