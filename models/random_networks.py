"""Float networks with random parameters in which activations and attention vary.

Papers' networks at full size have no public binary checkpoints of every method; speed, memory and
exactness do not ask for one. What is constant or learned from zero is drawn, scales and statistics
come from images as in a first step of training.
"""

import torch
from torch import nn

from bivit.models.binaryvit import BinaryViT
from bivit.models.conversion import convert, settle
from bivit.models.headwise import HeadSign
from bivit.models.multibit import fit_steps
from bivit.models.photographs import photographs
from bivit.models.registry import Network, network
from bivit.models.shifted import BatchNorm
from bivit.models.tracing import GraphModel, export

__all__ = ["convert_random", "random_network", "shares_of_ones"]

SPREAD = 0.1
"""Standard deviation of what is added to norms, shifts and slopes."""


def random_network(name: str, seed: int, images: torch.Tensor | None = None, *,
                   own: Network | None = None) -> nn.Module:
    """A network of the registry, ready to be settled and converted; equal arguments, equal models.

    Parameters
    ----------
    name : str
    seed : int
    images : uint8 tensor (N, C, H, W), optional
        What scales and statistics come from; two photographs if not given.
    own : Network, optional
        Instead of the one of that name: other sizes, other layers.
    """
    entry = own or network(name)
    images = photographs(entry.config.image_shape) if images is None else images
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(seed)
        model = entry.build(eight_bits=True)
        _draw(model)
        _measure(model, images)
        fit_steps(model, images)
    return model


def _draw(model):
    """Random values for what starts constant; attention that is neither empty nor full."""
    for path, parameter in model.named_parameters():
        last = path.rpartition(".")[2]
        norm = isinstance(model.get_submodule(path.rpartition(".")[0]),
                          nn.LayerNorm | BatchNorm | nn.PReLU)
        if norm or last.startswith("move"):
            parameter.add_(SPREAD * torch.randn_like(parameter))
    for path, layer in model.named_modules():
        if isinstance(layer, HeadSign) and path.endswith("attn_act"):
            layer.zero_point.fill_(-1)
    if isinstance(model, BinaryViT):
        for stage, layer in _stages(model):
            keys = (model.config.sides[stage] // model.config.reductions[stage]) ** 2
            # A bit is 1 above half the clip: above the mean of all keys.
            layer.attention["attention"].att_prob_clip.fill_(2 / keys)


def _stages(model):
    """Layers of BinaryViT with their stages."""
    stages = [stage for stage, depth in enumerate(model.config.depths) for _ in range(depth)]
    return zip(stages, model.vit["encoder"].layer, strict=True)


def _measure(model, images):
    """Head-wise scales and BatchNorm statistics of some images."""
    norms = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for path, layer in model.named_modules():
        if isinstance(layer, HeadSign) and path.endswith("attn_act"):
            layer.zero_point.fill_(-1)
            layer.alpha.mul_(0.5)  # from twice the mean, which few keys reach, to the mean
    model.eval()


def convert_random(name: str, seed: int, out, images: torch.Tensor, *,
                   own: Network | None = None) -> dict:
    """Write the checkpoint of a random network.

    Parameters
    ----------
    name : str
    seed : int
    out : path-like
        The checkpoint to write.
    images : uint8 tensor (N, C, H, W)
        What scales, statistics and binary points come from.
    own : Network, optional
        Instead of the one of that name.

    Returns
    -------
    dict
        ``checkpoint``, ``layers`` (their number) and ``ones``: the share of ones among the bits
        of every layer, on the first two images.
    """
    model = random_network(name, seed, images, own=own)
    settle(model, images)
    graph = export(convert(model, images), images[:1], out,
                   metadata={"model": name, "random": seed})
    return {"checkpoint": str(out), "layers": len(graph.nodes),
            "ones": shares_of_ones(graph, images[:2])}


def shares_of_ones(graph, images: torch.Tensor) -> dict[str, float]:
    """Share of ones among the bits of every layer of an integer network, by name.

    Parameters
    ----------
    graph : Graph
    images : uint8 tensor (N, C, H, W)
    """
    kinds = graph.infer()
    return {name: float(value.double().mean())
            for name, value in GraphModel(graph).observe(images).items()
            if kinds[name].kind in ("bits", "attention")}
