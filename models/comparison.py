"""How far a float model and its integer model are apart: bits by layer, and predictions.

What the two have in common are the operands of their products: the bits and codes that go into a
matrix product of the integer model are the signs and codes that go into one of the float model, in
the module of the same path.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from bivit.models.indices import windows
from bivit.models.layers import OddNorm
from bivit.models.shifted import BinaryConv

__all__ = ["agreement", "observe"]

_PRODUCTS = {F.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__,
             torch.Tensor.__rmatmul__, F.conv2d}
_HEADS = {"head": "head.fc", "classifiers.0.head": "head", "classifiers.1.head": "head_dist"}
"""Heads that the integer model has elsewhere: that of Swin, those of a distilled network."""
_LINEAR = ("binary_linear", "plane_linear")
_SCORES = ("scores", "window_scores")
_ATTEND = ("attend", "attend_levels")


class _Products(TorchFunctionMode):
    """The operands of every product, by the path of the module that computes it."""

    def __init__(self):
        super().__init__()
        self.path, self.found = [], {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _PRODUCTS:
            self.found.setdefault(self.path[-1], []).append(args[:2])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _watched(model):
    """The products of `model` while it runs."""
    products, hooks = _Products(), []

    def enter(path):
        def hook(_, inputs):
            products.path.append(path)
        return hook

    def leave(_, inputs, output):
        products.path.pop()

    for path, module in model.named_modules():
        hooks += [module.register_forward_pre_hook(enter(path)),
                  module.register_forward_hook(leave)]
    try:
        with torch.no_grad(), products:
            yield products
    finally:
        for hook in hooks:
            hook.remove()


def _origin(path, modules):
    """Module of the float model that an integer product comes from, if there is one."""
    parent, _, name = path.rpartition(".")
    others = [_HEADS.get(path, ""), f"{parent}.qkv" if name in ("q", "k", "v") else ""]
    return next((other for other in others if other and other in modules), path)


def _placed(graph):
    """What to compare: ``(value, float module, operand of its n-th product, n)`` of operands.

    Gathers that put windows back, or that make patches of a convolution out of codes, are looked
    through: the float model has the product before, or has no such value.
    """
    nodes = {node.name: node for node in graph.nodes}
    kinds = graph.infer()
    for node in graph.nodes:
        owner = node.name.rpartition(".")[0]
        if node.op in _LINEAR:
            value = node.inputs[0]
            maker = nodes.get(value)
            if maker is None or maker.op == "patchify":
                continue
            codes = kinds[value].kind == "codes"
            if maker.op == "gather" and (codes or value.endswith(".back")):
                value = maker.inputs[0]
            yield value, node.name, 0, 0
        elif node.op in _SCORES:
            yield node.inputs[0], owner, 0, 0
            yield node.inputs[1], owner, 1, 0
        elif node.op in _ATTEND:
            yield node.inputs[0], owner, 0, 1
            yield node.inputs[1], owner, 1, 1


def _as_tokens(value, module, shape, transposed):
    """An operand of the float model in the order of the integer value of that shape."""
    batch = shape[0]
    if isinstance(module, nn.Conv2d):
        if isinstance(module, BinaryConv):  # patches: channel, row, column inside
            return value.unflatten(-1, (-1, 4)).transpose(-2, -1).reshape(shape)
        side = round(shape[1] ** 0.5)
        border = (value.shape[-1] - side) // 2
        value = value[..., border:border + side, border:border + side]
        return value.flatten(2).transpose(1, 2)
    if len(shape) == 4:  # attention (B, windows, heads, n, n) to (B, heads, tokens, n)
        value = value.reshape(batch, -1, *value.shape[-3:])
        return value.transpose(1, 2).flatten(2, 3)
    if transposed:
        value = value.transpose(-2, -1)
    if not isinstance(module, nn.Linear):  # (..., heads, n, head_dim)
        value = value.transpose(-3, -2).flatten(-2)
    return value.reshape(batch, -1, value.shape[-1])


def _held(value, module, kind):
    """Real operands as the bits or codes that they stand for."""
    if kind == "codes":
        step = float(getattr(module, "step", OddNorm.step))
        return torch.round((value / step + 255) / 2).clamp(0, 255).to(torch.uint8)
    return (value > 0).to(torch.uint8)


def observe(model, graph_model, pixels) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Bits and codes of the float model, under the names of the integer model's layers.

    Left out are values that the integer model holds in another form: with further channels for
    zero points (Bi-ViT).

    Returns
    -------
    tuple of dict of str to uint8 tensor, and logits (B, classes) in float
    """
    graph, modules = graph_model.graph, dict(model.named_modules())
    kinds, result = graph.infer(), {}
    with _watched(model) as products:
        logits = model(pixels)
    for name, path, operand, number in _placed(graph):
        owner = _origin(path, modules)
        found = products.found.get(owner, [])
        if name in result or number >= len(found):
            continue
        shape, module = (len(pixels), *kinds[name].shape), modules[owner]
        value = found[number][operand]
        if value.numel() == torch.Size(shape).numel() or isinstance(module, nn.Conv2d):
            value = _as_tokens(value, module, shape, operand == 1 and number == 0)
            attention = modules[owner.rpartition(".")[0]] if owner.endswith(".proj") else None
            size = getattr(model.config, "block_size", None)
            if size and isinstance(module, nn.Conv2d):  # block by block in the integer model
                value = value[:, windows(round(shape[1] ** 0.5), size)]
            if getattr(attention, "interleaved", False):  # the integer model permutes the weight
                heads = (-1, attention.num_heads)
                value = value.unflatten(-1, heads).transpose(-2, -1).flatten(-2)
            result[name] = _held(value, module, kinds[name].kind)
    return result, logits


def agreement(model, graph_model, pixels, *, batch=64) -> dict:
    """How far the float model and the integer model are apart on some images.

    Parameters
    ----------
    model : nn.Module
        A float network that :func:`bivit.models.convert` converts.
    graph_model : GraphModel
        The integer model, exported or loaded.
    batch : int
        Images at once.

    Returns
    -------
    dict
        ``layers``: share of equal bits (or codes) by name; ``top1``: share of equal predictions;
        ``top1_differing``: images whose predictions differ; ``images``.
    """
    equal, differing = {}, 0
    for part in pixels.split(batch):
        ours, logits = observe(model, graph_model, part)
        theirs = graph_model.values(part)
        for name, value in ours.items():
            share = float((value == theirs[name]).double().mean())
            equal[name] = equal.get(name, 0.0) + share * len(part)
        result = theirs[graph_model.graph.nodes[-1].name].flatten(1)
        differing += int((logits.argmax(-1) != result.argmax(-1)).sum())
    return {"layers": {name: total / len(pixels) for name, total in equal.items()},
            "top1": 1 - differing / len(pixels), "top1_differing": differing,
            "images": len(pixels)}
