"""From an integer model to a graph and a checkpoint, and back to an executable model."""

from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import OBSERVED_KINDS, Graph, GraphError, Node
from bivit.compiler.ir.ops import OPS
from bivit.models.integer import LAYERS, IntegerLayer

__all__ = ["ExportError", "GraphModel", "export", "load", "to_graph"]


class ExportError(UserError):
    """A model that cannot be exported; the message names the layer, the reason and the remedy."""


class _Tracer(fx.Tracer):
    """Traces a composition with every integer layer, and every layer of PyTorch, as a leaf."""

    def is_leaf_module(self, module, path):
        return isinstance(module, IntegerLayer) or super().is_leaf_module(module, path)


def _array(value, path, name):
    if value.is_floating_point() or value.is_complex():
        detail = "" if bool(torch.isfinite(value).all()) else " with NaN or infinite values"
        raise ExportError(f"layer {path}: {name} is {value.dtype}{detail}, not integer; convert "
                          "the model with bivit.models.convert before exporting it")
    array = value.detach().cpu().numpy()
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for dtype in (np.int8, np.int16, np.int32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise ExportError(f"layer {path}: {name} does not fit 64 bits; scale it down")


def _leaf(module, path):
    if isinstance(module, IntegerLayer):
        if LAYERS.get(module.op) is None:
            raise ExportError(f"layer {path}: the hardware has no operation {module.op!r}; "
                              f"use one of {', '.join(LAYERS)}")
        return module
    raise ExportError(
        f"layer {path}: {type(module).__name__} is not an integer layer; replace it by layers of "
        "bivit.models.integer, or convert a float model with bivit.models.convert")


def _trace(model):
    for path, parameter in model.named_parameters():
        owner = path.rpartition(".")[0] or "the model itself"
        raise ExportError(
            f"layer {owner}: {path.rpartition('.')[2]} is a {parameter.dtype} parameter"
            f"{'' if bool(torch.isfinite(parameter).all()) else ' with NaN or infinite values'}, "
            "not an integer buffer; convert the model with bivit.models.convert before exporting")
    try:
        return _Tracer().trace(model)
    except ExportError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"the model {type(model).__name__} cannot be traced ({reason}); let its "
                          "forward only call layers, without branches on values") from None


def to_graph(model: nn.Module, image_shape: tuple[int, int, int], metadata=None) -> Graph:
    """Trace an integer model to a checked graph.

    Parameters
    ----------
    model : nn.Module
        Any composition of the layers of :mod:`bivit.models.integer`.
    image_shape : (channels, height, width)
    metadata : dict, optional
        Kept in the checkpoint.

    Raises
    ------
    ExportError
        In one sentence: the layer, the reason and what to change.
    """
    names, nodes, layers, counts, result = {}, [], {}, {}, None
    for step in _trace(model).nodes:
        if step.op == "placeholder":
            if names:
                raise ExportError(f"input {step.target}: a network has one input, the image; make "
                                  "other inputs constants of a layer")
            names[step] = "input"
        elif step.op == "call_module":
            module = model.get_submodule(step.target)
            if isinstance(module, nn.Identity):
                names[step] = names[step.args[0]]
                continue
            layer = _leaf(module, step.target)
            counts[step.target] = counts.get(step.target, 0) + 1
            name = step.target + (f"@{counts[step.target]}" if counts[step.target] > 1 else "")
            if step.kwargs or not all(isinstance(argument, fx.Node) for argument in step.args):
                raise ExportError(f"layer {name}: is called with something else than results of "
                                  "layers by position; make constants buffers of the layer")
            layers[name] = layer
            nodes.append(Node(
                name, layer.op, tuple(names[argument] for argument in step.args),
                layer.attributes(),
                {key: _array(value, name, key) for key, value in layer.tensors().items()}))
            names[step] = name
        elif step.op == "output":
            result = step.args[0]
        else:
            where = step.meta.get("nn_module_stack") or {}
            owner = [path for path, _ in where.values() if path]
            called = getattr(step.target, "__name__", step.target)
            raise ExportError(f"layer {owner[-1] if owner else 'the model itself'}: its forward "
                              f"uses {called}, which is not a layer; use layers of "
                              "bivit.models.integer only")
    nodes = _until(nodes, names.get(result) if isinstance(result, fx.Node) else None)
    graph = Graph(tuple(image_shape), tuple(nodes), dict(metadata or {}))
    try:
        types = graph.infer()
    except GraphError as error:
        raise ExportError(str(error)) from None
    for node in graph.nodes:
        made, given = layers[node.name].input_kind, types[node.inputs[0]].kind
        if made not in (None, given):
            raise ExportError(f"layer {node.name}: is made for {made} and gets {given}; make it "
                              f"with input_kind={given!r}")
    return graph


def _until(nodes, result):
    """Nodes that `result` needs, it being the last."""
    if result is None or result == "input":
        raise ExportError("the model itself: its forward does not return the result of a layer; "
                          "return the logits only")
    needed = {result}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return [node for node in nodes if node.name in needed]


def export(model: nn.Module, example: torch.Tensor, path, *, metadata=None) -> Graph:
    """Write an integer model as a checkpoint.

    Parameters
    ----------
    model : nn.Module
        Any composition of the layers of :mod:`bivit.models.integer`.
    example : uint8 tensor (B, C, H, W)
        Images; the traced graph must compute for the first what the model computes.
    path : path-like
        The safetensors file to write.
    metadata : dict, optional
        Information on training, kept in the file.

    Raises
    ------
    ExportError
        In one sentence: the layer, the reason and what to change.
    """
    from bivit.compiler.ir import checkpoint

    if example.dtype != torch.uint8 or example.ndim != 4 or not len(example):
        raise ExportError(f"the example is {example.dtype} of shape {tuple(example.shape)}; give "
                          "images as torch.uint8 of shape (images, channels, height, width)")
    graph = to_graph(model, tuple(example.shape[1:]), metadata)
    expected = graph.evaluate(example[0].numpy())[graph.nodes[-1].name]
    if not np.array_equal(model(example[:1])[0].numpy(), expected):
        raise ExportError(f"layer {graph.nodes[-1].name}: the model computes something else than "
                          "its layers do; let no class override the forward of an integer layer")
    checkpoint.save(graph, Path(path))
    return graph


class GraphModel(nn.Module):
    """A graph as an executable integer model, its layers under the names of the nodes.

    Parameters
    ----------
    graph : Graph
        Kept under the same name.
    """

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph, self._kinds = graph, graph.infer()
        self._layers = nn.ModuleList()
        for node in graph.nodes:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)).to(torch.int64)
                       for name, value in node.tensors.items()}
            layer = LAYERS[node.op]
            kind = ({"input_kind": self._kinds[node.inputs[0]].kind} if OPS[node.op].variants
                    else {})
            self._layers.append(layer(**node.attributes, **tensors, **kind))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.graph.input_shape

    def values(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Result of every layer, batch first."""
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != tuple(self.image_shape):
            raise ValueError(f"images must be torch.uint8 of shape (images, "
                             f"{', '.join(map(str, self.image_shape))}), not {pixels.dtype} of "
                             f"shape {tuple(pixels.shape)}")
        values = {"input": pixels}
        for node, layer in zip(self.graph.nodes, self._layers, strict=True):
            values[node.name] = layer(*(values[name] for name in node.inputs))
        return values

    def forward(self, pixels):
        return self.values(pixels)[self.graph.nodes[-1].name].flatten(1)

    def observe(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Values at the observation points, by name, batch first."""
        return {name: value for name, value in self.values(pixels).items()
                if self._kinds[name].kind in OBSERVED_KINDS}


def load(path) -> GraphModel:
    """An executable PyTorch integer model from a checkpoint."""
    from bivit.compiler.ir import checkpoint

    return GraphModel(checkpoint.load(Path(path)))
