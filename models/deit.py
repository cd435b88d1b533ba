"""DeiT: float, BiViT, Bi-ViT and the baselines; names of timm and of the papers' code."""

import torch
from torch import nn

from bivit.models.baselines import BiRealMlp, BoolAttention, BoolMlp, SignAttention
from bivit.models.config import ViTConfig
from bivit.models.headwise import HeadMlp, HeadNormAttention
from bivit.models.layers import (
    BinaryAttention,
    BinaryMlp,
    OddLinear,
    OddNorm,
    OddPatchEmbed,
)
from bivit.models.multibit import BinaryWeightMlp, CodedBinaryMlp
from bivit.models.vit import VisionTransformer

__all__ = ["CONFIGS", "DistilledVisionTransformer", "EIGHT_BITS", "METHODS"]

CONFIGS = {
    "deit_tiny": ViTConfig(embed_dim=192, num_heads=3, norm_eps=1e-6),
    "deit_small": ViTConfig(embed_dim=384, num_heads=6, norm_eps=1e-6),
    "deit_base": ViTConfig(embed_dim=768, num_heads=12, norm_eps=1e-6),
    "deit_micro": ViTConfig(img_size=32, patch_size=4, num_classes=10, embed_dim=64, depth=2,
                            num_heads=2, norm_eps=1e-6),
}


class DistilledVisionTransformer(VisionTransformer):
    """DeiT with a distillation token; its logits are the mean of two heads'."""

    def __init__(self, config: ViTConfig, *, head=nn.Linear, **layers):
        super().__init__(config, head=head, **layers)
        self.dist_token = nn.Parameter(torch.randn(1, 1, config.embed_dim) / 2)
        self.pos_embed = nn.Parameter(torch.randn(1, config.num_tokens + 1, config.embed_dim) / 2)
        self.head_dist = head(config.embed_dim, config.num_classes)

    def tokens(self, x):
        x = self.patch_embed(x)
        prefix = torch.cat([self.cls_token, self.dist_token], 1).expand(len(x), -1, -1)
        return torch.cat([prefix, x], 1) + self.pos_embed

    def heads(self, x):
        """Logits of the class token and of the distillation token."""
        x = self.norm(self.blocks(self.tokens(x))[:, :2])
        return self.head(x[:, 0]), self.head_dist(x[:, 1])

    def forward(self, x):
        class_logits, distilled_logits = self.heads(x)
        return (class_logits + distilled_logits) / 2


METHODS = {
    "float": (VisionTransformer, {}),
    "distilled": (DistilledVisionTransformer, {}),
    "bivit": (VisionTransformer, {"attention": BinaryAttention, "mlp": BinaryMlp}),
    "bivit_w1a32": (VisionTransformer, {"attention": BinaryAttention, "mlp": BinaryWeightMlp}),
    "bivit_w1a8": (VisionTransformer, {"attention": BinaryAttention, "mlp": CodedBinaryMlp}),
    "bi_vit": (DistilledVisionTransformer, {"attention": HeadNormAttention, "mlp": HeadMlp}),
    "bi_real": (VisionTransformer, {"attention": SignAttention, "mlp": BiRealMlp}),
    "bibert": (VisionTransformer, {"attention": BoolAttention, "mlp": BoolMlp}),
}
"""Network class and layer classes of every method."""

EIGHT_BITS = {"patch_embed": OddPatchEmbed, "norm": OddNorm, "head": OddLinear}
"""Layer classes of the first and the last layer in 8 bits, for the integer form."""
