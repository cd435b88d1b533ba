"""How far float models and their integers agree: random micro networks, trained digits networks.

``python benchmarks/run.py agreement`` measures; ``python benchmarks/readme.py`` puts the figures
into ``docs/agreement.md``.
"""

import contextlib
import json
import math
import re
import sys

import torch

from bivit.compiler.ir import checkpoint
from bivit.models.binaryvit import Layer
from bivit.models.comparison import agreement
from bivit.models.conversion import convert, settle
from bivit.models.digits import CHECKPOINT
from bivit.models.photographs import photographs
from bivit.models.random_networks import random_network
from bivit.models.registry import networks
from bivit.models.tracing import GraphModel, to_graph
from bivit.models.vit import Block

__all__ = ["measure"]

KINDS = {
    "into attention": r"\.(norm1|windows|(query|key|value|reduction)_bits)$",
    "queries, keys, values": r"\.[qkv]_(sign|norm|bits)$",
    "attention": r"\.softmax$",
    "context": r"\.(out_sign|attention\.output\.bits)$",
    "into MLP": r"\.(norm2|intermediate\.bits)$",
    "inside MLP": r"\.(fc1_sign|fc2_codes|layer\.\d+\.output\.bits)$",
}
"""Kind of layer to the names of its bits or codes; what is left merges tokens or is the head's."""
REST = "merging, head"
SIDE, IMAGES, SEED = 32, 64, 0


def measure() -> dict:
    """Shares by network and kind of layer."""
    torch.set_num_threads(1)
    micro = [name for name, entry in networks().items() if "_micro" in name
             and name not in ("deit_micro", "distilled_deit_micro", "swin_micro", "nest_micro")
             and "w1a32" not in name]
    return {"images": IMAGES, "seed": SEED, "random": {name: _random(name) for name in micro},
            "digits": {row["network"]: row for row in map(_shipped, sorted(
                CHECKPOINT.parent.glob("*.safetensors")))}}


def _pieces():
    """Pieces of the photographs: some to calibrate with, others to measure on."""
    large = photographs((3, 8 * SIDE, 8 * SIDE)).unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)
    pieces = large.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, SIDE, SIDE)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(SEED))
    return pieces[order[:IMAGES]], pieces[order[IMAGES:2 * IMAGES]]


def _random(name):
    calibration, images = _pieces()
    model = random_network(name, SEED, calibration)
    settle(model, calibration)
    graph_model = GraphModel(to_graph(convert(model, calibration), model.config.image_shape))
    free = agreement(model, graph_model, images)
    with _fed(model, graph_model, images):
        fed = agreement(model, graph_model, images, batch=len(images))
    row = {"top1": free["top1"], "free": _by_kind(free["layers"]), "fed": _by_kind(fed["layers"])}
    print(name, json.dumps(row), file=sys.stderr)
    return row


@contextlib.contextmanager
def _fed(model, graph_model, images):
    """The float model's blocks get the integer model's residual stream as input.

    What is one in the stream follows from what the float model has there itself, after a block that
    was fed: the factor between the two, a power of two where only BinaryViT has others.
    """
    values, hooks = graph_model.values(images), []

    def feed(path):
        first = next(node for node in graph_model.graph.nodes if node.name.startswith(f"{path}."))
        stream = values[first.inputs[0]].float()

        def hook(block, inputs):
            real, whole = inputs[0], stream.reshape(inputs[0].shape)
            unit = float((whole * real).sum() / (real * real).sum())
            return (whole / (2.0 ** round(math.log2(unit)) if isinstance(block, Block) else unit),)
        return hook

    for path, module in model.named_modules():
        if isinstance(module, Block | Layer):
            hooks.append(module.register_forward_pre_hook(feed(path)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _kind(name):
    return next((kind for kind, names in KINDS.items() if re.search(names, name)), REST)


def _by_kind(shares):
    """Mean share of each kind of layer."""
    found = {}
    for name, share in shares.items():
        found.setdefault(_kind(name), []).append(share)
    return {kind: sum(found[kind]) / len(found[kind]) for kind in [*KINDS, REST] if kind in found}


def _shipped(path):
    """What training measured, whose checkpoint tells it."""
    metadata = checkpoint.load(path).metadata
    held_out = metadata["held_out"]
    return {"network": metadata["model"], "images": held_out["images"],
            "top1": 1 - held_out["top1_differing"] / held_out["images"],
            "float_top1": held_out["float_top1"], "integer_top1": held_out["integer_top1"],
            "free": _by_kind(held_out["equal_bits"])}
