"""Random networks as graphs of integer operations, made with NumPy alone."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.graph import Graph, Node
from bivit.compiler.ir.ops import OPS, TensorType

__all__ = ["GraphBuilder", "random_image", "random_vit_graph"]


def random_image(seed, shape):
    """A uint8 image (C, H, W)."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class GraphBuilder:
    """Adds nodes one by one and evaluates them on two images, so that constants can fit values.

    Parameters
    ----------
    seed : int
    input_shape : tuple of int
        (C, H, W).
    resid_bits : int
        Width of the numbers.
    """

    def __init__(self, seed, input_shape, resid_bits=12):
        self.random = np.random.default_rng(seed)
        self.input_shape, self.resid_bits, self.nodes = tuple(input_shape), resid_bits, []
        self.values = {"input": [random_image((seed, i), input_shape) for i in range(2)]}
        self.types = {"input": TensorType("pixels", self.input_shape)}

    def add(self, name, op, *inputs, tensors=None, **attributes):
        """Append a node and give its name."""
        node = Node(name, op, inputs, attributes, tensors or {})
        self.nodes.append(node)
        types = [self.types[x] for x in inputs]
        self.types[name] = OPS[op].infer(types, attributes, node.tensors)
        evaluate = OPS[op].evaluation(types[0].kind)
        self.values[name] = [
            evaluate([self.values[x][i] for x in inputs], attributes, node.tensors)
            for i in range(2)]
        return name

    def graph(self):
        """The graph so far, checked."""
        graph = Graph(self.input_shape, tuple(self.nodes), {"made_by": "tests"})
        graph.infer()
        return graph

    def channels(self, name):
        """Width of a value."""
        return self.values[name][0].shape[-1]

    def binary_linear(self, name, x, outputs):
        """Random binary weights."""
        weight = self.random.integers(0, 2, (outputs, self.channels(x)), dtype=np.uint8)
        return self.add(name, "binary_linear", x, tensors={"weight": weight})

    def plane_linear(self, name, x, outputs):
        """Random odd weights of 8 bits."""
        weight = 2 * self.random.integers(0, 256, (outputs, self.channels(x))) - 255
        return self.add(name, "plane_linear", x, tensors={"weight": weight})

    def threshold(self, name, x):
        """Per-channel thresholds near the median, some ascending, some descending, few extreme."""
        values = np.concatenate(self.values[x])
        threshold = np.median(values, axis=0).astype(np.int64)
        threshold += self.random.integers(-2, 3, threshold.shape)
        extreme = self.random.random(threshold.shape)
        threshold = np.where(extreme < 0.03, -100_000, threshold)
        threshold = np.where(extreme > 0.97, 100_000, threshold)
        descending = self.random.integers(0, 2, threshold.shape, dtype=np.uint8)
        return self.add(name, "threshold", x,
                        tensors={"threshold": threshold, "descending": descending})

    def _rescale_constants(self, values, spread):
        """Scale, bias and shift that give numbers of about `spread`."""
        deviation = max(float(np.std(np.concatenate(values))), 1.0)
        wanted = self.random.uniform(0.5, 1.5, values[0].shape[-1]) * spread / deviation
        wanted *= self.random.choice([-1, 1], wanted.shape)
        shift = next((s for s in reversed(numeric.RESCALE_SHIFTS)
                      if np.abs(wanted).max() * 2**s < 2**15), numeric.RESCALE_SHIFTS[0])
        scale = np.clip(np.rint(wanted * 2**shift), -2**15, 2**15 - 1).astype(np.int64)
        bias = self.random.integers(-256 * spread // 4, 256 * spread // 4 + 1, scale.shape)
        return scale, bias, shift

    def rescale(self, name, x, *addend, bits=None):
        """Numbers of about a sixteenth of the range, plus an addend."""
        bits = bits or self.resid_bits
        scale, bias, shift = self._rescale_constants(self.values[x], 2**(bits - 5))
        return self.add(name, "rescale", x, *addend, tensors={"scale": scale, "bias": bias},
                        shift=shift, bits=bits)

    def embed(self, name, x, prefix):
        """Patches to numbers with a random table behind `prefix` tokens."""
        spread = 2**(self.resid_bits - 5)
        scale, bias, shift = self._rescale_constants(self.values[x], spread)
        tokens = self.values[x][0].shape[0] + prefix
        table = self.random.integers(-spread, spread + 1, (tokens, len(scale)))
        return self.add(name, "embed", x, tensors={"scale": scale, "bias": bias, "table": table},
                        shift=shift, bits=self.resid_bits, prefix=prefix)

    def norm_bits(self, name, x):
        """Per-channel thresholds of all four kinds."""
        width = self.channels(x)
        k = np.clip(np.rint(self.random.normal(0, 2048, width)), -2**15, 2**15 - 1)
        kind = self.random.choice(4, width, p=(0.48, 0.48, 0.02, 0.02))
        return self.add(name, "norm_bits", x, tensors={"k": k.astype(np.int64), "kind": kind},
                        eps=int(self.random.integers(1, 5000)))

    def norm_codes(self, name, x):
        """Codes over most of 0..255."""
        width = self.channels(x)
        scale = self.random.integers(-900, 900, width)
        bias = self.random.integers(90 * 256, 165 * 256, width)
        return self.add(name, "norm_codes", x, tensors={"scale": scale, "bias": bias}, shift=14,
                        eps=int(self.random.integers(1, 5000)))


def random_vit_graph(seed, *, depth=1, embed_dim=16, num_heads=2, image_shape=(1, 8, 8),
                     patch_size=2, mlp_dim=32, num_classes=10, class_token=True, head_dim=None):
    """A binary vision transformer with random constants and lively activations.

    Parameters
    ----------
    seed : int
    depth, embed_dim, num_heads, mlp_dim, num_classes : int
        Any positive numbers; `embed_dim` need not be a multiple of `num_heads`.
    image_shape : tuple of int
        (C, H, W); there is one token for each patch of `patch_size` squared.
    class_token : bool
        Whether a token comes before the patches.
    head_dim : int, optional
        Channels of one head; ``ceil(embed_dim / num_heads)`` by default.
    """
    head_dim = head_dim or -(-embed_dim // num_heads)
    net = GraphBuilder(seed, image_shape)
    x = net.plane_linear("patch_embed.proj", net.add("patches", "patchify", "input",
                                                     patch_size=patch_size), embed_dim)
    x = net.embed("embed", x, int(class_token))
    for block in range(depth):
        x = _block(net, f"blocks.{block}", x, num_heads, head_dim, mlp_dim)
    x = net.norm_codes("norm", net.add("select", "select", x, token=0))
    net.rescale("logits", net.plane_linear("head", x, num_classes), bits=16)
    return net.graph()


def _block(net, name, x, heads, head_dim, mlp_dim):
    width = net.channels(x)
    y = net.norm_bits(f"{name}.norm1", x)
    q, k, v = (net.threshold(f"{name}.attn.{part}_sign",
                             net.binary_linear(f"{name}.attn.{part}", y, heads * head_dim))
               for part in "qkv")
    scores = net.add(f"{name}.attn.scores", "scores", q, k, num_heads=heads)
    attention = net.add(f"{name}.attn.softmax", "softmax_threshold", scores,
                        delta=int(1.4 * head_dim**0.5))
    y = net.add(f"{name}.attn.attend", "attend", attention, v)
    y = net.threshold(f"{name}.attn.out_sign", y)
    x = net.rescale(f"{name}.attn.add", net.binary_linear(f"{name}.attn.proj", y, width), x)
    y = net.norm_bits(f"{name}.norm2", x)
    y = net.threshold(f"{name}.mlp.fc1_sign", net.binary_linear(f"{name}.mlp.fc1", y, mlp_dim))
    return net.rescale(f"{name}.mlp.add", net.binary_linear(f"{name}.mlp.fc2", y, width), x)
