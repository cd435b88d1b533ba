"""The graph of integer operations: nodes in order, checked, and evaluated by NumPy."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from bivit.compiler.ir.operation import accepts, images_of
from bivit.compiler.ir.ops import OPS, OpError, TensorType

__all__ = ["Graph", "GraphError", "Node", "OBSERVED_KINDS"]

OBSERVED_KINDS = ("bits", "attention", "codes", "numbers")
"""Kinds whose values are observation points, under the node's name."""


class GraphError(ValueError):
    """A graph that is not legal; the message names the layer."""


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation of the graph.

    Parameters
    ----------
    name : str
        Path of the layer in the model, unique, without ``/``, such as ``blocks.0.attn.q_sign``.
    op : str
        Key of :data:`bivit.compiler.ir.ops.OPS`.
    inputs : tuple of str
        Names of earlier nodes, or ``"input"``.
    attributes : dict of str to int
    tensors : dict of str to integer array
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, int] = dataclasses.field(default_factory=dict)
    tensors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A network: an image of ``input_shape`` (C, H, W, uint8) through `nodes` to the last one.

    Parameters
    ----------
    images : int
        Images that the input holds, one below the other.
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    metadata: dict = dataclasses.field(default_factory=dict)
    images: int = 1

    def node(self, name: str) -> Node:
        """The node called `name`."""
        return next(node for node in self.nodes if node.name == name)

    def infer(self) -> Mapping[str, TensorType]:
        """Check every node; give the type of every value, ``"input"`` included.

        Raises
        ------
        GraphError
            Naming the layer and what is wrong with it.
        """
        return self._types

    @functools.cached_property
    def _types(self):
        if len(self.input_shape) != 3 or not all(
                isinstance(size, int) and not isinstance(size, bool) and size >= 1
                for size in self.input_shape):
            raise GraphError(f"the input shape {self.input_shape} is not (channels, height, width)")
        types = {"input": TensorType("pixels", tuple(self.input_shape))}
        if not self.nodes:
            raise GraphError("the graph has no layers")
        for node in self.nodes:
            if not isinstance(node.name, str) or not node.name or "/" in node.name:
                raise GraphError(f"layer {node.name!r}: a name is a text without /, and not empty")
            if node.name in types:
                raise GraphError(f"layer {node.name}: the name is used twice")
            try:
                types[node.name] = self._infer_node(node, types)
                _check_images(node, self.images)
            except OpError as error:
                raise GraphError(f"layer {node.name} ({node.op}): {error}") from None
        return types

    @staticmethod
    def _infer_node(node, types):
        if node.op not in OPS:
            raise OpError(f"unknown operation; known are {', '.join(OPS)}")
        op = OPS[node.op]
        required = sum(not kind.endswith("?") for kind in op.inputs)
        if not required <= len(node.inputs) <= len(op.inputs):
            raise OpError(f"takes {required} to {len(op.inputs)} inputs, not {len(node.inputs)}")
        for name, kind in zip(node.inputs, op.inputs, strict=False):
            if name not in types:
                raise OpError(f"its input {name} does not come before it")
            if types[name].kind not in accepts(kind):
                raise OpError(f"needs {' or '.join(accepts(kind))} and {name} gives "
                              f"{types[name].kind}")
        for what, given, wanted in (("attribute", node.attributes, op.attributes),
                                    ("tensor", node.tensors, op.tensors)):
            if set(given) - {"images"} != set(wanted) - {"images"} or set(given) - set(wanted):
                raise OpError(f"has {what}s {sorted(given)} where {sorted(wanted)} are needed")
        for name, value in node.attributes.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise OpError(f"attribute {name} is not an integer")
        for name, value in node.tensors.items():
            if not np.issubdtype(value.dtype, np.integer):
                raise OpError(f"tensor {name} is {value.dtype}, not integer")
        return op.infer([types[name] for name in node.inputs], node.attributes, node.tensors)

    def evaluate(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Value of every node for one image (C, H, W) uint8."""
        values, types = {"input": image}, self.infer()
        for node in self.nodes:
            evaluate = OPS[node.op].evaluation(types[node.inputs[0]].kind)
            values[node.name] = evaluate([values[name] for name in node.inputs],
                                         node.attributes, node.tensors)
        return values


def _check_images(node, images):
    """Operations that know images know all of them."""
    if "images" in OPS[node.op].attributes and images_of(node.attributes) != images:
        raise OpError(f"is for {images_of(node.attributes)} images, and the input holds {images}")
