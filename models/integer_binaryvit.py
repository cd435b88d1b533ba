"""The integer form of BinaryViT: a composition of integer layers, named like the float network."""

from torch import nn

from bivit.models.integer_vit import Composite

__all__ = ["IntegerBinaryLayer", "IntegerBinaryMerge", "IntegerBinaryViT", "IntegerCodedMerge",
           "IntegerDense", "IntegerMean", "IntegerShiftAttention"]


class IntegerShiftAttention(Composite):
    """Binary attention with residuals around every product, to fewer keys with `pool`.

    Every product has the bits that go in, itself, its norm and its RPReLU; `residual` adds up
    queries, keys and values at every query's place.
    """

    parts = ("query_bits", "query", "normq", "rpreluq",
             "pool", "reduction_bits", "reduction", "norm_r", "rprelur",
             "key_bits", "key", "normk", "rpreluk", "value_bits", "value", "normv", "rpreluv",
             "q_bits", "k_bits", "v_bits", "scores", "softmax", "attend",
             "residual", "norm_context", "rprelu_context")
    optional = ("pool", "reduction_bits", "reduction", "norm_r", "rprelur")

    def _product(self, name, norm, rprelu, x):
        y = getattr(self, name)(getattr(self, f"{name}_bits")(x))
        return getattr(self, rprelu)(getattr(self, norm)(y, x))

    def forward(self, x):
        kept = x
        if hasattr(self, "pool"):
            kept = self._product("reduction", "norm_r", "rprelur", self.pool(x))
        q = self._product("query", "normq", "rpreluq", x)
        k = self._product("key", "normk", "rpreluk", kept)
        v = self._product("value", "normv", "rpreluv", kept)
        attention = self.softmax(self.scores(self.q_bits(q), self.k_bits(k)))
        context = self.attend(attention, self.v_bits(v))
        return self.rprelu_context(self.norm_context(context, self.residual(q, k, v)))


class IntegerDense(Composite):
    """Bits, product, norm with a residual of as many channels, RPReLU with what is added."""

    parts = ("bits", "dense", "residual", "norm", "rprelu")
    optional = ("residual",)

    def forward(self, x, *addend):
        residual = self.residual(x) if hasattr(self, "residual") else x
        return self.rprelu(self.norm(self.dense(self.bits(x)), residual), *addend)


class IntegerBinaryLayer(Composite):
    """One transformer layer; `branches` adds pooled numbers to the residual stream."""

    parts = ("layernorm_before", "attention", "layernorm_after", "intermediate", "branches",
             "output")
    optional = ("branches",)

    def forward(self, x):
        attention, output = self.attention.values()
        x = output(attention(self.layernorm_before(x)), x)
        n = self.layernorm_after(x)
        stream = self.branches(x, n) if hasattr(self, "branches") else x
        return self.output(self.intermediate(n), stream)


class IntegerBinaryMerge(Composite):
    """2x2 tokens to one of twice the channels, in binary, with a residual."""

    parts = ("norm0", "bits", "gather", "proj", "mean", "tile", "norm", "rprelu", "positions")

    def forward(self, x):
        x = self.norm0(x)
        y = self.proj(self.gather(self.bits(x)))
        return self.positions(self.rprelu(self.norm(y, self.tile(self.mean(x)))))


class IntegerCodedMerge(Composite):
    """2x2 tokens to one of twice the channels, with 8-bit weights and codes."""

    parts = ("norm0", "gather", "proj", "norm", "positions")

    def forward(self, x):
        return self.positions(self.norm(self.proj(self.gather(self.norm0(x)))))


class IntegerMean(Composite):
    """The codes of the normalised mean of all tokens, or of the first token."""

    parts = ("mean", "codes")

    def forward(self, x):
        return self.codes(self.mean(x))


class IntegerBinaryViT(nn.Module):
    """Pixels (B, C, H, W) uint8 to integer logits (B, 1, classes).

    Parameters
    ----------
    config : BinaryViTConfig
    embeddings : IntegerPatchEmbed
    encoder : Encoder
    layernorm : IntegerMean
    classifier, logits : integer layers
    """

    def __init__(self, *, config, embeddings, encoder, layernorm, classifier, logits):
        super().__init__()
        self.config = config
        self.vit = nn.ModuleDict({"embeddings": embeddings, "encoder": encoder,
                                  "layernorm": layernorm})
        self.classifier, self.logits = classifier, logits

    def forward(self, x):
        for part in self.vit.values():
            x = part(x)
        return self.logits(self.classifier(x))
