"""Swin: float, BiViT, Bi-ViT and the baselines; names of timm 1.0."""

import dataclasses

import torch
from torch import nn

from bivit.models.baselines import BiRealLinear, BiRealMlp, BoolMlp, MeanLinear
from bivit.models.config import PyramidConfig, StageConfig
from bivit.models.headwise import HeadMerge, HeadMlp
from bivit.models.layers import BinaryLinear, BinaryMlp, Mlp, OddPatchEmbed, PatchEmbed
from bivit.models.multibit import BinaryWeightMlp, CodedBinaryMlp, CodedLinear
from bivit.models.vit import Block
from bivit.models.windows import (
    BinaryWindowAttention,
    BoolWindowAttention,
    HeadWindowAttention,
    SignWindowAttention,
    WindowAttention,
    merge,
    partition,
    shift_mask,
)

__all__ = ["CONFIGS", "EIGHT_BITS", "METHODS", "Swin", "SwinConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinConfig(PyramidConfig):
    """Sizes of a Swin transformer.

    Parameters
    ----------
    window_size : int
        Side of a window; a stage that is no larger is one window, without a shift.
    """

    window_size: int = 7
    mlp_ratio: float = 4.0

    def __post_init__(self):
        super().__post_init__()
        for side in self.sides:
            if side > self.window_size and side % self.window_size:
                raise ValueError(f"window_size {self.window_size} does not divide {side} tokens")

    def stage(self, index) -> StageConfig:
        """Sizes of the blocks of one stage."""
        return StageConfig(
            embed_dim=self.embed_dims[index], num_heads=self.num_heads[index],
            mlp_ratio=self.mlp_ratio, norm_eps=self.norm_eps,
            window_size=min(self.window_size, self.sides[index]))


CONFIGS = {
    "swin_tiny": SwinConfig(),
    "swin_small": SwinConfig(depths=(2, 2, 18, 2)),
    "swin_micro": SwinConfig(img_size=32, patch_size=2, num_classes=10, embed_dims=(16, 32, 64),
                             depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=4),
}


class _NormedPatches:
    """Patch embedding and a LayerNorm."""

    def __init__(self, config):
        super().__init__(config)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)

    def forward(self, x):
        return self.norm(super().forward(x))


class SwinPatchEmbed(_NormedPatches, PatchEmbed):
    """Float patch embedding."""


class OddSwinPatchEmbed(_NormedPatches, OddPatchEmbed):
    """8-bit patch embedding."""


class SwinBlock(Block):
    """Block on an image (B, H, W, C), with attention inside windows.

    Parameters
    ----------
    side : int
        Tokens along one side of the image.
    shift : int
        The image is rolled by this before it is cut into windows.
    """

    def __init__(self, config, attention, mlp, *, side, shift):
        super().__init__(config, attention, mlp)
        self.size, self.side, self.shift = config.window_size, side, shift
        mask = shift_mask(side, self.size, shift) if shift else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, x):
        y = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        y = merge(self.attn(partition(y, self.size), self.attn_mask), self.size, self.side)
        x = x + torch.roll(y, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """2x2 tokens (0,0), (1,0), (0,1), (1,1) to one of twice the channels."""

    def __init__(self, dim, out_dim, eps, reduction):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=eps)
        self.reduction = reduction(4 * dim, out_dim, bias=False)

    def forward(self, x):
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Stage(nn.Module):
    """Merging, if it is not the first stage, and blocks; every other block is shifted."""

    def __init__(self, config, index, attention, mlp, reduction):
        super().__init__()
        stage, side = config.stage(index), config.sides[index]
        self.downsample = PatchMerging(
            config.embed_dims[index - 1], stage.embed_dim, config.norm_eps,
            reduction) if index else nn.Identity()
        shift = stage.window_size // 2 if side > stage.window_size else 0
        self.blocks = nn.Sequential(*(
            SwinBlock(stage, attention, mlp, side=side, shift=shift * (block % 2))
            for block in range(config.depths[index])))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Swin(nn.Module):
    """Images (B, C, H, W) uint8 to logits (B, classes).

    Parameters
    ----------
    config : SwinConfig
    patch_embed, attention, mlp, reduction, head : classes
        The layers, see :data:`METHODS`.
    """

    def __init__(self, config: SwinConfig, *, patch_embed=SwinPatchEmbed,
                 attention=WindowAttention, mlp=Mlp, reduction=nn.Linear, head=nn.Linear):
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed(config)
        self.layers = nn.Sequential(*(Stage(config, index, attention, mlp, reduction)
                                      for index in range(len(config.depths))))
        self.norm = nn.LayerNorm(config.embed_dims[-1], eps=config.norm_eps)
        self.head = nn.ModuleDict({"fc": head(config.embed_dims[-1], config.num_classes)})

    def forward(self, x):
        side = self.config.sides[0]
        x = self.layers(self.patch_embed(x).unflatten(1, (side, side)))
        return self.head["fc"](self.norm(x).mean((1, 2)))


METHODS = {
    "float": (Swin, {}),
    "bivit": (Swin, {"attention": BinaryWindowAttention, "mlp": BinaryMlp,
                     "reduction": BinaryLinear}),
    "bivit_fp_merging": (Swin, {"attention": BinaryWindowAttention, "mlp": BinaryMlp}),
    "bivit_w1a32": (Swin, {"attention": BinaryWindowAttention, "mlp": BinaryWeightMlp}),
    "bivit_w1a8": (Swin, {"attention": BinaryWindowAttention, "mlp": CodedBinaryMlp,
                          "reduction": CodedLinear}),
    "bi_vit": (Swin, {"attention": HeadWindowAttention, "mlp": HeadMlp, "reduction": HeadMerge}),
    "bi_real": (Swin, {"attention": SignWindowAttention, "mlp": BiRealMlp,
                       "reduction": BiRealLinear}),
    "bibert": (Swin, {"attention": BoolWindowAttention, "mlp": BoolMlp,
                      "reduction": MeanLinear}),
}
"""Network class and layer classes of every method."""

EIGHT_BITS = {"patch_embed": OddSwinPatchEmbed, "reduction": CodedLinear, "head": CodedLinear}
"""Layer classes in 8 bits where a method has none of its own, for the integer form."""
