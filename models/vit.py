"""Vision transformers to train: one backbone, its layers passed as classes."""

import torch
from torch import nn

from bivit.models.config import ViTConfig
from bivit.models.layers import (
    Attention,
    BinaryAttention,
    BinaryLinear,
    BinaryMlp,
    Mlp,
    OddLinear,
    OddNorm,
    OddPatchEmbed,
    PatchEmbed,
)

__all__ = ["Block", "STAGES", "VisionTransformer", "build", "inherit"]


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config, attention, mlp):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = mlp(config)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Images (B, C, H, W) uint8 to logits (B, classes); parameters under timm's names.

    Parameters
    ----------
    config : ViTConfig
    patch_embed, attention, mlp, norm, head : classes
        The layers, see :data:`STAGES`.
    """

    def __init__(self, config: ViTConfig, *, patch_embed=PatchEmbed, attention=Attention, mlp=Mlp,
                 norm=nn.LayerNorm, head=nn.Linear):
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed(config)
        if config.class_token:
            self.cls_token = nn.Parameter(torch.randn(1, 1, config.embed_dim) / 2)
        self.pos_embed = nn.Parameter(torch.randn(1, config.num_tokens, config.embed_dim) / 2)
        self.blocks = nn.Sequential(*(Block(config, attention, mlp) for _ in range(config.depth)))
        self.norm = norm(config.embed_dim, eps=config.norm_eps)
        self.head = head(config.embed_dim, config.num_classes)

    def tokens(self, x):
        """The sequence before the first block."""
        x = self.patch_embed(x)
        if self.config.class_token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        return x + self.pos_embed

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.tokens(x))[:, 0]))


_EIGHT_BITS = {"patch_embed": OddPatchEmbed, "norm": OddNorm, "head": OddLinear}
STAGES = {
    "float": {},
    "binary-attention": {**_EIGHT_BITS, "attention": BinaryAttention},
    "binary": {**_EIGHT_BITS, "attention": BinaryAttention, "mlp": BinaryMlp},
}
"""Layer classes of the stages of cross-layer binarization: teacher, first stage, second stage."""


def build(config: ViTConfig, stage: str) -> VisionTransformer:
    """A vision transformer with the layers of one stage."""
    return VisionTransformer(config, **STAGES[stage])


def inherit(model: VisionTransformer, source: dict[str, torch.Tensor]) -> None:
    """Take over the parameters of an earlier stage.

    Scales of layers that become binary are set to the mean magnitude of their weight's rows.
    """
    model.load_state_dict(source, strict=False)
    for name, layer in model.named_modules():
        if isinstance(layer, BinaryLinear) and f"{name}.scaling_factor" not in source:
            layer.reset_scaling_factor()
