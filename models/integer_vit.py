"""Integer transformers: compositions of integer layers."""

from torch import nn

__all__ = ["Composite", "IntegerAttention", "IntegerBlock", "IntegerClassifier", "IntegerCodedMlp",
           "IntegerDistilledViT", "IntegerLevel", "IntegerMerge", "IntegerMlp", "IntegerNest",
           "IntegerPatchEmbed", "IntegerPool", "IntegerStage", "IntegerSwin", "IntegerViT"]


class Composite(nn.Module):
    """A module whose layers, named in `parts`, are given by keyword; `optional` ones may lack."""

    parts: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __init__(self, **layers):
        super().__init__()
        if not set(self.parts) - set(self.optional) <= set(layers) <= set(self.parts):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.parts)}, "
                            f"not {', '.join(layers)}")
        for name in self.parts:
            if name in layers:
                self.add_module(name, layers[name])


class _Chain(Composite):
    """Parts one after another."""

    def forward(self, x):
        for name in self.parts:
            x = getattr(self, name)(x)
        return x


class IntegerPatchEmbed(_Chain):
    """Pixels to the residual stream."""

    parts = ("patches", "proj", "embed")


class IntegerMerge(_Chain):
    """2x2 tokens to one, from one residual stream to the next (Swin)."""

    parts = ("gather", "norm", "reduction", "numbers")


class IntegerPool(_Chain):
    """Convolution, LayerNorm, maximum, positions: from one residual stream to the next (NesT)."""

    parts = ("codes", "gather", "conv", "numbers", "norm", "pool", "positions")


class IntegerClassifier(_Chain):
    """One token to logits."""

    parts = ("select", "norm", "head", "logits")


class IntegerStage(_Chain):
    """What comes before the blocks of a stage, and the blocks."""

    parts = ("downsample", "blocks")


class IntegerLevel(_Chain):
    """The same for a level of NesT."""

    parts = ("pool", "transformer_encoder")


class IntegerNest(_Chain):
    """Pixels (B, C, H, W) uint8 to integer logits (B, 1, classes), level by level."""

    parts = ("patch_embed", "levels", "norm", "mean", "codes", "head", "logits")


class IntegerSwin(_Chain):
    """Pixels (B, C, H, W) uint8 to integer logits (B, 1, classes), stage by stage."""

    parts = ("patch_embed", "embed_norm", "layers", "norm", "mean", "codes", "head", "logits")


class IntegerAttention(Composite):
    """Binary self-attention on normalised bits, added to the residual stream.

    `windows` and `back` put tokens of a window behind each other and back; queries and keys with
    `numbers` and `norm` are normalised head by head.
    """

    parts = ("windows", "q", "q_sign", "q_numbers", "q_norm", "k", "k_sign", "k_numbers", "k_norm",
             "v", "v_sign", "scores", "bias", "softmax", "attend", "out_sign", "back", "proj",
             "residual")
    optional = ("windows", "q_sign", "q_numbers", "q_norm", "k_sign", "k_numbers", "k_norm", "bias",
                "back")

    def _bits(self, part, x):
        y = getattr(self, part)(x)
        for name in ("sign", "numbers", "norm"):
            if hasattr(self, f"{part}_{name}"):
                y = getattr(self, f"{part}_{name}")(y)
        return y

    def forward(self, x, stream):
        if hasattr(self, "windows"):
            x = self.windows(x)
        scores = self.scores(self._bits("q", x), self._bits("k", x))
        if hasattr(self, "bias"):
            scores = self.bias(scores)
        attention = self.softmax(scores)
        out = self.out_sign(self.attend(attention, self._bits("v", x)))
        if hasattr(self, "back"):
            out = self.back(out)
        return self.residual(self.proj(out), stream)


class IntegerMlp(Composite):
    """Binary MLP on normalised bits, added to the residual stream."""

    parts = ("fc1", "fc1_sign", "fc2", "residual")

    def forward(self, x, stream):
        return self.residual(self.fc2(self.fc1_sign(self.fc1(x))), stream)


class IntegerCodedMlp(Composite):
    """MLP with 1-bit weights on 8-bit codes and a GELU, added to the residual stream (W1A8)."""

    parts = ("fc1", "fc1_numbers", "act", "fc2_codes", "fc2", "residual")

    def forward(self, x, stream):
        hidden = self.fc2_codes(self.act(self.fc1_numbers(self.fc1(x))))
        return self.residual(self.fc2(hidden), stream)


class IntegerBlock(Composite):
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


class IntegerDistilledViT(nn.Module):
    """The same with two tokens, each with a head of its own, and the mean of their logits.

    Parameters
    ----------
    classifiers : list of IntegerClassifier
    average : WeightedSum
        Of the logits.
    """

    def __init__(self, *, config, patch_embed, blocks, classifiers, average):
        super().__init__()
        self.config = config
        self.patch_embed = patch_embed
        self.blocks = nn.Sequential(*blocks)
        self.classifiers = nn.ModuleList(classifiers)
        self.average = average

    def forward(self, x):
        x = self.blocks(self.patch_embed(x))
        return self.average(*[classifier(x) for classifier in self.classifiers])
