"""The graph of several images at once, from that of one (``docs/memory.md``, section 7).

Values are those of the images behind each other along their tokens; names stay what they are.
"""

import dataclasses

import numpy as np

from bivit.compiler.ir.graph import Graph, Node
from bivit.compiler.structures import CompileError

__all__ = ["LARGEST_BATCH", "batched", "one_by_one"]

LARGEST_BATCH = 64
"""Most images of a program."""


def batched(graph: Graph, images: int) -> Graph:
    """The network for `images` images, which lie in the input one below the other.

    Raises
    ------
    CompileError
        If there cannot be so many.
    """
    if not 1 <= images <= LARGEST_BATCH:
        raise CompileError(f"a batch of {images} images cannot be: take 1 to {LARGEST_BATCH}")
    if images == 1:
        return graph
    types = graph.infer()
    channels, height, width = graph.input_shape
    nodes = [_CHANGES.get(node.op, _unchanged)(node, types, images) for node in graph.nodes]
    return dataclasses.replace(
        graph, images=images, input_shape=(channels, images * height, width),
        nodes=tuple(_together(nodes, images)))


def one_by_one(value: np.ndarray, images: int) -> np.ndarray:
    """Values (n, ..., tokens, channels) of batches as those of single images, (n * images, ...)."""
    *outer, tokens, last = value.shape
    parts = np.moveaxis(value.reshape(*outer, images, tokens // images, last), -3, 1)
    return parts.reshape(-1, *parts.shape[2:])


def _together(nodes, images):
    """Codes of a token of each image are moved behind each other: one product takes them all."""
    selected = {node.name for node in nodes if node.op == "select"}
    names = {node.name for node in nodes}
    moved = {}
    for node in nodes:
        yield dataclasses.replace(node, inputs=tuple(moved.get(name, name)
                                                     for name in node.inputs))
        if node.op == "norm_codes" and node.inputs[0] in selected:
            name = f"{node.name}.together"
            while name in names:
                name += "_"
            moved[node.name] = name
            yield Node(name, "gather", (node.name,), {"fill": 0},
                       {"index": np.arange(images)[:, None]})


def _unchanged(node, types, images):
    return node


def _of_images(node, types, images):
    """An operation that knows images."""
    return dataclasses.replace(node, attributes=node.attributes | {"images": images})


def _scores(node, types, images):
    """Every image has windows of its own."""
    windows = images * node.attributes.get("windows", 1)
    return dataclasses.replace(node, op="window_scores",
                               attributes=node.attributes | {"windows": windows})


def _score_bias(node, types, images):
    return _with_tensor(node, "kind", np.tile(node.tensors["kind"], images))


def _index(node: Node, types, images):
    """Tokens of the same image; -1 stays what it is."""
    index, parts = node.tensors["index"].astype(np.int64), node.tensors.get("part")
    sources = np.zeros(index.shape[1], int) if parts is None else node.tensors["source"][parts]
    tokens = np.array([types[node.inputs[source]].shape[0] for source in sources])
    return _with_tensor(node, "index", np.concatenate(
        [np.where(index < 0, index, index + image * tokens) for image in range(images)]))


def _with_tensor(node, name, tensor):
    return dataclasses.replace(node, tensors=node.tensors | {name: tensor})


_CHANGES = {
    **dict.fromkeys(("embed", "add_table", "select"), _of_images),
    **dict.fromkeys(("scores", "window_scores"), _scores), "score_bias": _score_bias,
    **dict.fromkeys(("gather", "weighted_sum", "max_pool"), _index),
}
"""What becomes of a node, by operation; all others work on each token for itself."""
