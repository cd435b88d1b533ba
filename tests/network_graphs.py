"""Random networks with pooling, windows, bends and heads of their own, made with NumPy alone."""

import numpy as np

from graphs import GraphBuilder

__all__ = ["NetworkBuilder", "random_headwise_graph", "random_pyramid_graph",
           "random_window_graph"]

MASKING = -2**13


def neighbours(height, width, kernel):
    """Tokens under an odd kernel (rows, columns) of stride 1, -1 beyond the border."""
    (rows, columns), found = kernel, []
    grid = np.full((height + rows - 1, width + columns - 1), -1)
    grid[rows // 2:rows // 2 + height, columns // 2:columns // 2 + width] = (
        np.arange(height * width).reshape(height, width))
    for y in range(height):
        for x in range(width):
            found.append(grid[y:y + rows, x:x + columns].reshape(-1))
    return np.array(found)


def squares(height, width, ratio):
    """Tokens of squares of ratio * ratio behind each other."""
    grid = np.arange(height * width).reshape(height // ratio, ratio, width // ratio, ratio)
    return grid.transpose(0, 2, 1, 3).reshape(-1, ratio * ratio)


class NetworkBuilder(GraphBuilder):
    """Layers of pyramids, windows and head-wise networks with random constants."""

    def tokens(self, name):
        """Tokens of a value."""
        return self.values[name][0].shape[0]

    def bend(self, name, x, *addend, bits=16):
        """A knee within the numbers, other slopes on either side."""
        width, spread = self.channels(x), int(np.std(np.concatenate(self.values[x]))) + 1
        return self.add(name, "bend", x, *addend, shift=14, bits=bits, tensors={
            "knee": self.random.integers(-spread, spread + 1, width),
            **{f"{what}_{side}": self.random.integers(-high, high, width)
               for what, high in (("scale", 2**14), ("bias", 64 * spread))
               for side in ("above", "below")}})

    def weighted_sum(self, name, sources, parts, bits=None):
        """`parts` are pairs of source number and index (tokens, taps)."""
        taps = [index.shape[1] for _, index in parts]
        width = self.channels(sources[0])
        return self.add(name, "weighted_sum", *sources, shift=14, bits=bits or self.resid_bits,
                        tensors={
            "index": np.concatenate([index for _, index in parts], 1),
            "part": np.repeat(np.arange(len(parts)), taps),
            "source": np.array([source for source, _ in parts]),
            "scale": np.stack([self.random.integers(-2**14, 2**14, width) // count
                               for count in taps]),
            "bias": self.random.integers(-2**11, 2**11, width)})

    def codes(self, name, x):
        """Codes over most of 0..255."""
        spread = max(float(np.std(np.concatenate(self.values[x]))), 1.0)
        scale = self.random.uniform(-60, 60, self.channels(x)) / spread * 2**8
        return self.add(name, "codes", x, shift=8, tensors={
            "scale": np.clip(np.rint(scale), -2**15, 2**15 - 1).astype(np.int64),
            "bias": self.random.integers(100 * 256, 156 * 256, self.channels(x))})

    def gather(self, name, x, index, fill=0):
        """`index` (tokens, parts)."""
        return self.add(name, "gather", x, tensors={"index": index}, fill=fill)

    def tile(self, name, x, copies):
        """Channels again and again."""
        return self.add(name, "tile_channels", x, copies=copies)

    def fold(self, name, x, group, bits=None):
        """Sums of channels."""
        channels = self.channels(x) // group
        return self.add(name, "fold_channels", x, group=group, shift=14,
                        bits=bits or self.resid_bits, tensors={
            "scale": self.random.integers(-2**14, 2**14, channels) // group,
            "bias": self.random.integers(-2**11, 2**11, channels)})

    def add_table(self, name, x, bits=None):
        """Positions."""
        bits = bits or self.resid_bits
        spread = 2**(bits - 5)
        return self.add(name, "add_table", x, bits=bits, tensors={
            "table": self.random.integers(-spread, spread, (self.tokens(x), self.channels(x)))})

    def norm_numbers(self, name, x):
        """LayerNorm to numbers."""
        width = self.channels(x)
        return self.add(name, "norm_numbers", x, shift=14, bits=self.resid_bits,
                        eps=int(self.random.integers(1, 5000)), tensors={
            "scale": self.random.integers(-2000, 2000, width),
            "bias": self.random.integers(-2**12, 2**12, width)})

    def head_norm_bits(self, name, x, heads):
        """LayerNorm and sign of every head."""
        width = self.channels(x)
        return self.add(name, "head_norm_bits", x, num_heads=heads,
                        eps=int(self.random.integers(1, 5000)), tensors={
            "k": self.random.integers(-3000, 3000, width), "kind": self.random.choice(
                4, width, p=(0.48, 0.48, 0.02, 0.02))})

    def absolute(self, name, scores, heads, unit):
        """Attention bits by shares of the sum; `unit` is one of the scores."""
        keys = self.values[scores][0].shape[-1]
        share = self.random.uniform(0.3, 1.6, heads) / keys
        return self.add(name, "softmax_absolute", scores, tensors={
            "multiplier": self.random.integers(200, 2000, heads) * unit,
            "threshold": np.maximum(np.rint(share * 2**20), 1).astype(np.int64),
            "flip": self.random.integers(0, 2, heads)})

    def biased(self, name, scores, heads, windows):
        """Scores with biases and masks, of two kinds of windows."""
        keys = self.values[scores][0].shape[-1]
        bias = self.random.integers(-90, 91, (2, heads, keys, keys))
        bias = np.where(self.random.random(bias.shape) < 0.2, MASKING, bias)
        queries = np.arange(keys)
        bias[:, :, queries, queries] = np.maximum(bias[:, :, queries, queries], -90)
        return self.add(name, "score_bias", scores, tensors={
            "bias": bias, "kind": self.random.integers(0, 2, windows)})

    def signs(self, name, x):
        """Thresholds of a product or of numbers."""
        return self.threshold(name, x)

    def product(self, name, bits, outputs, *addend, width=16):
        """Binary linear layer and rescale."""
        return self.rescale(name, self.binary_linear(f"{name}.linear", bits, outputs), *addend,
                            bits=width)

    def start(self, patch_size, width, prefix=0):
        """Patches to numbers."""
        x = self.plane_linear("proj", self.add("patches", "patchify", "input",
                                               patch_size=patch_size), width)
        return self.embed("embed", x, prefix)

    def finish(self, x, classes=5):
        """Average over the tokens, codes, the head."""
        index = np.arange(self.tokens(x))[None]
        x = self.codes("head.codes", self.weighted_sum("average", [x], [(0, index)]))
        self.rescale("logits", self.plane_linear("head", x, classes), bits=16)
        return self.graph()


def random_pyramid_graph(seed, *, width=8, heads=2, side=4, ratio=2, copies=2, depth=1, merge=True):
    """Like BinaryViT: keys of pooled tokens, bends, four poolings, binary merging of 2x2."""
    net = NetworkBuilder(seed, (1, 2 * side, 2 * side))
    x = net.start(2, width)
    for layer in range(depth):
        x = _pyramid_block(net, f"layers.{layer}", x, heads, side, ratio, copies)
    if merge:
        shifted = net.signs("merge.sign", x)
        y = net.binary_linear("merge.proj", net.gather("merge.gather", shifted,
                                                       squares(side, side, 2)), 2 * width)
        pooled = net.weighted_sum("merge.pool", [x], [(0, squares(side, side, 2))])
        y = net.rescale("merge.norm", y, net.tile("merge.tile", pooled, 2), bits=16)
        x = net.add_table("merge.position", net.bend("merge.bend", y, bits=12))
    return net.finish(x)


def _pyramid_block(net, name, x, heads, side, ratio, copies):
    same = np.arange(side * side)[:, None]
    n = net.weighted_sum(f"{name}.before", [x], [(0, same)])
    kept = n
    if ratio > 1:
        pooled = net.weighted_sum(f"{name}.pool", [n], [(0, squares(side, side, ratio))])
        y = net.product(f"{name}.reduce", net.signs(f"{name}.move", pooled), net.channels(x),
                        pooled)
        kept = net.bend(f"{name}.kept", y)
    numbers = {}
    for part, source in (("q", n), ("k", kept), ("v", kept)):
        y = net.product(f"{name}.{part}.norm", net.signs(f"{name}.{part}.move", source),
                        net.channels(x), source)
        numbers[part] = net.bend(f"{name}.{part}", y)
    bits = {part: net.signs(f"{name}.{part}.sign", y) for part, y in numbers.items()}
    scores = net.add(f"{name}.scores", "scores", bits["q"], bits["k"], num_heads=heads)
    attention = net.absolute(f"{name}.softmax", scores, heads, 16)
    context = net.add(f"{name}.attend", "attend", attention, bits["v"])
    spread = np.arange((side // ratio) ** 2).reshape(side // ratio, -1)
    spread = spread.repeat(ratio, 0).repeat(ratio, 1).reshape(-1, 1)
    rest = net.weighted_sum(f"{name}.residual", [numbers["q"], numbers["k"], numbers["v"]],
                            [(0, same), (1, spread), (2, spread)])
    y = net.bend(f"{name}.context", net.rescale(f"{name}.context.norm", context, rest, bits=16))
    y = net.bend(f"{name}.out", net.product(f"{name}.out.norm", net.signs(f"{name}.out.move", y),
                                            net.channels(x), y), x, bits=12)
    n = net.weighted_sum(f"{name}.after", [y], [(0, same)])
    width = net.channels(x)
    wide = net.product(f"{name}.fc1.norm", net.signs(f"{name}.fc1.move", n), copies * width,
                       net.tile(f"{name}.tile", n, copies))
    wide = net.bend(f"{name}.fc1", wide)
    narrow = net.product(f"{name}.fc2.norm", net.signs(f"{name}.fc2.move", wide), width,
                         net.fold(f"{name}.fold", wide, copies))
    y = net.bend(f"{name}.fc2", narrow, y, bits=12)
    kernels = ((3, 1), (1, 3), (5, 1), (1, 5))
    return net.weighted_sum(f"{name}.pools", [y, n], [(0, same), *(
        (1, neighbours(side, side, kernel)) for kernel in kernels)])


def random_window_graph(seed, *, width=12, heads=3, side=4, window=2, mode="relative",
                        mlp="codes"):
    """Like Swin and NesT: windows with biases and masks, merging, maximum pooling."""
    net = NetworkBuilder(seed, (1, 2 * side, 2 * side))
    x = net.norm_numbers("patch_norm", net.start(2, width))
    order = squares(side, side, window).reshape(-1)
    order = np.roll(order, net.random.integers(0, 3))
    back = np.argsort(order)
    y = net.gather("windows", net.norm_bits("norm1", x), order[:, None])
    q, k, v = (net.signs(f"{part}.sign", net.binary_linear(part, y, width)) for part in "qkv")
    windows = (side // window) ** 2
    scores = net.add("scores", "window_scores", q, k, num_heads=heads, windows=windows)
    biased = net.biased("bias", scores, heads, windows)
    if mode == "relative":
        attention = net.add("softmax", "softmax_threshold", biased, delta=60)
    elif mode == "absolute":
        attention = net.absolute("softmax", biased, heads, 1)
    else:
        attention = net.add("softmax", "score_threshold", biased,
                            limit={"limit": 5, "all": -2**23}[mode])
    y = net.add("attend", "attend", attention, v)
    y = net.product("attn.proj", net.signs("attn.sign", y), width, width=12)
    y = net.gather("unwindow", y, back[:, None])
    same = np.arange(side * side)[:, None]
    x = net.weighted_sum("attn.add", [x, y], [(0, same), (1, same)])
    if mlp == "codes":
        y = net.plane_linear("fc1", net.norm_codes("norm2", x), 2 * width)
        y = net.add("gelu", "gelu", net.rescale("fc1.numbers", y, bits=13))
        y = net.plane_linear("fc2", net.codes("fc2.codes", y), width)
    else:
        y = net.rescale("fc1.numbers", net.plane_linear("fc1", net.norm_bits("norm2", x),
                                                        2 * width), bits=13)
        y = net.add("gelu", "gelu", y)
        y = net.binary_linear("fc2", net.signs("fc2.sign", y), width)
    x = net.rescale("mlp.add", y, x)
    if side % 2 == 0:
        y = net.norm_codes("merge.norm", net.gather("merge", x, squares(side, side, 2)))
        x = net.rescale("merge.numbers", net.plane_linear("merge.linear", y, 2 * width))
        side //= 2
    y = net.gather("conv.gather", net.codes("conv.codes", x), neighbours(side, side, (3, 3)),
                   fill=int(net.random.integers(0, 256)))
    x = net.rescale("conv", net.plane_linear("conv.linear", y, width))
    x = net.add("pool", "max_pool", x, tensors={"index": neighbours(side, side, (3, 3))[::2]})
    return net.finish(x)


def random_headwise_graph(seed, *, width=12, heads=3, side=3, zeros=True, keys="heads"):
    """Like Bi-ViT: LayerNorm of every head, zero points, keys that the vector unit makes."""
    net = NetworkBuilder(seed, (1, 2 * side, 2 * side))
    x = net.start(2, width)
    y = net.norm_bits("norm1", x)
    if keys == "heads":
        q, k = (net.head_norm_bits(f"{part}.norm", net.product(part, y, width), heads)
                for part in "qk")
    else:
        heads = 1
        q = y
        k = net.gather("turn", y, net.random.permutation(side * side)[:, None])
    v = net.signs("v.sign", net.binary_linear("v", y, width))
    scores = net.add("scores", "scores", q, k, num_heads=heads)
    attention = net.absolute("softmax", scores, heads, 16)
    if zeros:
        y = net.add("attend", "attend_levels", attention, v,
                    tensors={"zero": net.random.integers(-1, 2, heads)})
    else:
        y = net.add("attend", "attend", attention, v)
    x = net.product("attn.proj", net.signs("attn.sign", y), width, x, width=12)
    numbers = net.rescale("attend.numbers", net.add("attend2", "attend", attention, v), x)
    net_bits = net.signs("both", net.add_table("table", numbers))
    x = net.product("last", net_bits, width, numbers, width=12)
    return net.finish(x)
