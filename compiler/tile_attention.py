"""Instructions of attention: scores, attention bits and weighted values, head by head."""

import itertools

import numpy as np

from bivit.compiler.destinations import Destinations, KeyLayout, ValueLayout
from bivit.compiler.fold import fold_attention, never
from bivit.compiler.ir import numeric
from bivit.compiler.layout import key_form, query_form, runs, value_form
from bivit.compiler.post import Post
from bivit.compiler.structures import Observe, Operation
from bivit.hw.isa import ASource, BSource, Opcode, SoftmaxMode

__all__ = ["attention"]

_SCORE_UNIT = 1 << numeric.SCORE_FRACTION
_LIMITS = -(1 << 23), (1 << 23) - 1
"""What the field of a limit holds; scores are far within."""


def attention(tiler, operation: Operation) -> None:
    """Block by block, head by head; the weighted values become bits or numbers."""
    _Attention(tiler, operation).emit()


class _Attention:
    """One attention layer.

    Keys and values are those of the window in which a block of queries lies.
    """

    def __init__(self, tiler, operation):
        self.tiler, self.operation, self.arch = tiler, operation, tiler.arch
        nodes, inputs = operation.nodes, operation.inputs
        self.scores, self.softmax, self.attend = (
            tiler.nodes[nodes[role]] for role in ("scores", "softmax", "attend"))
        self.bias, self._biases = tiler.nodes.get(nodes.get("bias")), {}
        self.heads, self.queries, self.keys = tiler.types[self.softmax.name].shape
        chunks = tiler.layouts.chunks
        width = tiler.types[inputs["q"]].shape[1]
        channels = tiler.types[inputs["v"]].shape[1]
        self.head_width = width // self.heads
        q, k, v = (inputs[role] for role in "qkv")
        form = query_form(self.arch, self.heads, chunks[self.scores.name])
        self.query = tiler.stored.get((q, form)) or tiler.stored[q]
        form = key_form(self.arch, self.heads, chunks[self.scores.name],
                        self.scores.attributes.get("windows", 1))
        self.key = tiler.stored[k, form]
        self.key_layout = KeyLayout(self.arch, form, self.key.rows)
        zeros = tuple(int(zero) for zero in self.attend.tensors.get("zero", ()))
        form = value_form(self.heads, chunks[self.attend.name],
                          tiler.types[v].shape[0] // self.keys, zeros)
        self.value, self.ones = tiler.stored[v, form], tiler.stored[v, form, "ones"]
        self.value_layout = ValueLayout(self.arch, form, self.value.rows)
        self.groups = -(-self.keys // self.arch.keys_per_group)
        macs = self.heads * self.queries * self.keys
        self.layers = (
            tiler.layer(self.scores.name, self.scores.op, True, macs * self.head_width),
            tiler.layer_of(self.softmax.name),
            tiler.layer(self.attend.name, self.attend.op, True, macs * (channels // self.heads)))

    def emit(self):
        """All instructions."""
        outputs = (_Numbers if "rescale" in self.operation.nodes else _Bits)(self)
        words = max(self.value_layout.stride)
        blocks = list(self.query.rows.blocks(self.arch.rows))
        groups = self.tiler.heads.get(self.operation.name)
        together = groups.together if groups else self.heads
        pieces = min(self.heads * len(blocks), max(self.arch.pmem_depth // words, 1))
        pieces -= pieces % together if pieces > together else 0
        probabilities = self.tiler.region(f"{self.operation.name}/attention", "pmem",
                                          pieces * words, self.softmax.name)
        window_blocks = len(blocks) // self.key_layout.windows
        # Scores of many heads go ahead of the weighted values: SOFTMAX takes its time.
        slots = self.arch.score_slots
        ahead = min(slots, pieces) - 1 if together > slots else 0
        turns = itertools.product(range(0, self.heads, together), blocks)
        for number, (first, (block, low, high, begin, end)) in enumerate(turns):
            self.tiler.iteration = number if groups else self.tiler.turn(self.query.rows, block)
            window = block // window_blocks if self.key_layout.windows > 1 else 0
            bias = self._bias_words(low, begin, end)
            at = [probabilities.plus((number * together + place) % pieces * words)
                  for place in range(together)]
            for place in range(together + ahead):
                if place < together:
                    self._score(block, first + place, place % slots, window, bias)
                    self._attend_to(first + place, place % slots, low, begin, end, at[place])
                if place >= ahead:
                    outputs.emit(block, low, high, begin, end, first + place - ahead, window,
                                       at[place - ahead])
            if first + together == self.heads:
                outputs.finish(block)

    def _bias_words(self, low, begin, end):
        """Fields that name the biases of a block of queries, by head."""
        if self.bias is None:
            return [{}] * self.heads
        node, tokens = self.bias, np.arange(begin, end)
        kinds, rows = node.tensors["kind"][tokens // self.keys], tokens % self.keys
        whole = (kinds == kinds[0]).all() and rows[-1] - rows[0] == len(rows) - 1
        place = (int(kinds[0]), int(rows[0]), low) if whole else (begin,)
        if place not in self._biases:
            self._biases[place] = [
                {"use_bias": 1, "bias_addr": self.tiler.segment(
                    "/".join(map(str, (node.name, "bias", head, *place))), "bias",
                    self.tiler.words.bias(node.tensors["bias"][kinds, head, rows], low),
                    node.name)} for head in range(self.heads)]
        return self._biases[place]

    def _score(self, block, head, slot, window, bias):
        self.tiler.emit(
            Opcode.MM_SCORE, self.layers[0], a_src=self.query.source,
            a_addr=self.query.at(block, head * self.key.k_words), b_src=self.key.source,
            b_addr=self.key.base.plus(self.key_layout.word(head, window)), n_tiles=self.groups,
            k_words=self.key.k_words, slot=slot,
            keys=self.keys, **bias[head])

    def _attend_to(self, head, slot, low, begin, end, bits_at):
        for copy in range(1 + abs(self.value_layout.zeros[head])):
            self.tiler.emit(
                Opcode.SOFTMAX, self.layers[1],
                Observe(self.softmax.name, head, (begin, end), (0, self.keys), low),
                slot=slot, n_tiles=self.groups, keys=self.keys,
                dst_addr=bits_at.plus(copy * self.value_layout.window_words),
                **self._softmax_fields(head))

    def _softmax_fields(self, head):
        """Mode and limits; scores without a bias count sixteenths, too."""
        node, unit = self.softmax, 1 if self.bias is not None else _SCORE_UNIT
        if node.op == "softmax_threshold":
            delta = min(node.attributes["delta"] * unit, _LIMITS[1])
            return {"mode": SoftmaxMode.RELATIVE, "delta": delta}
        if node.op == "score_threshold":
            limit = _SCORE_UNIT * self.head_width - unit * node.attributes["limit"]
            delta = int(np.clip(limit, *_LIMITS))
            return {"mode": SoftmaxMode.LIMIT, "delta": delta & (1 << 24) - 1}
        return {"mode": SoftmaxMode.ABSOLUTE} | {
            name: int(node.tensors[name][head]) for name in ("multiplier", "threshold", "flip")}

    def product(self, head, window, tile, count, bits_at):
        """Operands of the weighted values of some tiles of a head."""
        return {"a_src": ASource.PMEM, "a_addr": bits_at, "b_src": BSource.BMEM,
                "b_addr": self.value.base.plus(self.value_layout.word(tile, window)),
                "n_tiles": count, "k_words": self.value_layout.stride[head]}

    def limit(self, head):
        """Most tiles of a run."""
        return max(1, self.tiler.run_words // self.value_layout.stride[head])

    def head_starts(self):
        """Numbers of the tiles where heads start."""
        return [tiles[0] for tiles in self.value_layout.heads]

    def of_head(self, head, pieces):
        """The runs that lie in a head."""
        tiles = self.value_layout.heads[head]
        return [run for run in pieces if tiles[0] <= run.tile <= tiles[-1]]

    def pv(self, tile, window):
        """PV word of a tile."""
        return self.ones.plus(self.value_layout.ones(tile, window))


class _Bits:
    """Weighted values to bits, once for each form."""

    def __init__(self, parent):
        self.parent, tiler, operation = parent, parent.tiler, parent.operation
        node = tiler.nodes[operation.nodes["threshold"]]
        self.name, never_reached = node.name, never(tiler.arch.count_bits)
        keys = parent.keys * (1 + max(map(abs, parent.value_layout.zeros)))
        threshold, flip = fold_attention(node.tensors["threshold"], node.tensors["descending"],
                                         keys)
        chunks = tiler.layouts.chunks[parent.attend.name]
        self.params = tiler.segment(f"{node.name}/thr", "thr",
                                    tiler.words.thr(threshold, flip, chunks, never_reached),
                                    node.name)
        self.forms = [(form, Destinations(tiler, node.name, form, index, parent.query.rows,
                                          parent.attend.name))
                      for index, form in enumerate(operation.forms)]

    def emit(self, block, low, high, begin, end, head, window, bits_at):
        parent = self.parent
        for form, destinations in self.forms:
            places = [place for place, (_, count) in enumerate(form.chunks) if count]
            breaks = {*destinations.breaks, *(places[tile] for tile in parent.head_starts())}
            for run in parent.of_head(head, runs(parent.arch, form.chunks, parent.limit(head),
                                                 breaks)):
                fields = destinations.fields(run.chunk, block)
                parent.tiler.emit(
                    Opcode.MM_BITS, parent.layers[2],
                    Observe(self.name, None, (begin, end), run.channels, low),
                    param_addr=self.params.plus(run.tile), use_pv=1,
                    rows=parent.arch.rows,
                    dst_addr=fields.pop("bits_addr"), **fields
                    | parent.product(head, window, run.tile, len(run.tiles), bits_at)
                    | {"pv_addr": parent.pv(run.tile, window)})

    def finish(self, block):
        for _, destinations in self.forms:
            destinations.finish(block, self.parent.layers[2])


class _Numbers:
    """Weighted values to numbers, rescaled, added, bent."""

    def __init__(self, parent):
        self.parent = parent
        self.post = Post(parent.tiler, parent.operation, parent.query.rows)

    def emit(self, block, low, high, begin, end, head, window, bits_at):
        parent = self.parent
        for run in parent.of_head(head, self.post.runs(parent.limit(head), parent.head_starts())):
            product = parent.product(head, window, run.tile, len(run.tiles), bits_at)
            product |= {"a_planes": 1, "b_planes": 1, "from_pv": 1,
                        "pv_addr": parent.pv(run.tile, window)}
            self.post.emit(block, low, high, begin, run, parent.layers[2],
                           {name: value for name, value in product.items() if name != "n_tiles"})

    def finish(self, block):
        self.post.finish(block, self.parent.layers[2])
