"""The integer vision transformer: a composition of integer layers."""

from torch import nn

__all__ = ["IntegerAttention", "IntegerBlock", "IntegerMlp", "IntegerPatchEmbed", "IntegerViT"]


class _Composite(nn.Module):
    """A module whose layers, named in `parts`, are given by keyword."""

    parts: tuple[str, ...] = ()

    def __init__(self, **layers):
        super().__init__()
        if set(layers) != set(self.parts):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.parts)}, "
                            f"not {', '.join(layers)}")
        for name in self.parts:
            self.add_module(name, layers[name])


class IntegerPatchEmbed(_Composite):
    """Pixels to the residual stream."""

    parts = ("patches", "proj", "embed")

    def forward(self, x):
        return self.embed(self.proj(self.patches(x)))


class IntegerAttention(_Composite):
    """Binary self-attention on normalised bits, added to the residual stream."""

    parts = ("q", "q_sign", "k", "k_sign", "v", "v_sign", "scores", "softmax", "attend",
             "out_sign", "proj", "residual")

    def forward(self, x, stream):
        q, k = self.q_sign(self.q(x)), self.k_sign(self.k(x))
        attention = self.softmax(self.scores(q, k))
        out = self.out_sign(self.attend(attention, self.v_sign(self.v(x))))
        return self.residual(self.proj(out), stream)


class IntegerMlp(_Composite):
    """Binary MLP on normalised bits, added to the residual stream."""

    parts = ("fc1", "fc1_sign", "fc2", "residual")

    def forward(self, x, stream):
        return self.residual(self.fc2(self.fc1_sign(self.fc1(x))), stream)


class IntegerBlock(_Composite):
    """Pre-norm transformer block."""

    parts = ("norm1", "attn", "norm2", "mlp")

    def forward(self, x):
        x = self.attn(self.norm1(x), x)
        return self.mlp(self.norm2(x), x)


class IntegerViT(nn.Module):
    """Pixels (B, C, H, W) uint8 to integer logits (B, 1, classes).

    Parameters
    ----------
    config : ViTConfig
    patch_embed : IntegerPatchEmbed
    blocks : list of IntegerBlock
    select, norm, head, logits : integer layers
    """

    def __init__(self, *, config, patch_embed, blocks, select, norm, head, logits):
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed
        self.blocks = nn.Sequential(*blocks)
        self.select, self.norm, self.head, self.logits = select, norm, head, logits

    def forward(self, x):
        x = self.blocks(self.patch_embed(x))
        return self.logits(self.head(self.norm(self.select(x))))
