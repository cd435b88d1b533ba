"""Conversion of DeiT, Swin and NesT of every method: what each layer of the integer model computes.

Binary networks of random weights amplify every difference from layer to layer, so a layer is
compared where the float model was fed what the integer model had.
"""

import functools

import numpy as np
import pytest
import torch

from bivit.models.conversion import ConvertError, convert, settle
from bivit.models.headwise import HeadSign
from bivit.models.registry import create
from bivit.models.tracing import GraphModel, to_graph
from named_networks import MICRO

CONVERTED = [name for name in MICRO if "binaryvit" not in name]

pytestmark = pytest.mark.usefixtures("one_thread")


def _images(count=4):
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(3))


def _float(name, change=None):
    torch.manual_seed(1)
    model, images = create(name, eight_bits=True), _images()
    model.train()
    with torch.no_grad():
        model(images)
    for path, layer in model.named_modules():
        if isinstance(layer, HeadSign) and path.endswith("attn_act"):
            layer.zero_point.data.fill_(-1)
    if change:
        change(model)
    return model.eval(), images


def _blocks(model):
    for name in ("blocks", "layers", "levels"):
        if hasattr(model, name):
            parts = getattr(model, name)
            return [(f"{name}.{index}", part) for index, part in enumerate(parts)] if (
                name == "blocks") else [
                (f"{name}.{index}.{inner}.{number}", block) for index, part in enumerate(parts)
                for inner in ("blocks", "transformer_encoder") if hasattr(part, inner)
                for number, block in enumerate(getattr(part, inner))]
    raise AssertionError("a network without blocks")


@functools.cache
def _settled(name):
    """A settled float network, its images, the integer model and its graph."""
    model, images = _float(name)
    settle(model, images)
    integer = convert(model, images)
    return model, images, integer, to_graph(integer, (3, 32, 32))


def _compare_blocks(model, images, graph):
    """Correlation of what each block adds, the float block fed with the integer block's input."""
    values = GraphModel(graph).values(images)
    nodes = {node.name: node for node in graph.nodes}
    shapes, found = {}, {}
    hooks = [block.register_forward_pre_hook(functools.partial(
        lambda path, _, inputs: shapes.update({path: inputs[0].shape}), path))
        for path, block in _blocks(model)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    for path, block in _blocks(model):
        first = values[nodes[f"{path}.norm1"].inputs[0]]
        after = values[f"{path}.mlp.residual"]
        unit = _unit(block, values, path, nodes)
        with torch.no_grad():
            expected = block((first.float() / unit).reshape(shapes[path])).reshape(after.shape)
        added = (after - first).double().flatten() / unit
        wanted = (expected - first.float() / unit).double().flatten()
        found[path] = float(torch.corrcoef(torch.stack([added, wanted]))[0, 1])
    return found


def _unit(block, values, path, nodes):
    """One in the residual stream: from the constants of the last product."""
    layer = block.mlp.fc2
    scale = nodes[f"{path}.mlp.residual"].tensors["scale"].astype(float) / 2.0 ** (
        nodes[f"{path}.mlp.residual"].attributes["shift"])
    real = (layer.scaling_factor[:, 0] if hasattr(layer, "scaling_factor")
            else layer.weight.abs().mean(1)).detach().double().numpy() * float(
                getattr(layer, "step", 1.0))
    return 2.0 ** round(np.log2(np.median(scale / real)))


@pytest.mark.parametrize("name", CONVERTED)
def test_every_block_adds_what_the_float_block_adds(name):
    model, images, _, graph = _settled(name)
    for path, correlation in _compare_blocks(model, images, graph).items():
        assert correlation > 0.97, (path, correlation)


@pytest.mark.parametrize("name", CONVERTED)
def test_torch_and_numpy_agree(name):
    _, images, integer, graph = _settled(name)
    value = graph.evaluate(images[0].numpy())[graph.nodes[-1].name]
    assert np.array_equal(value, integer(images[:1])[0].numpy())


@pytest.mark.parametrize("name", ["bi_vit_deit_micro", "bi_vit_swin_micro"])
def test_zero_points_and_negative_scales(name):
    def change(model):
        for path, layer in model.named_modules():
            if path.endswith("v_act"):
                layer.zero_point.data = torch.arange(len(layer.alpha)).float() % 3 - 1
                layer.alpha.data[0] *= -1
            if path.endswith(("q_act", "k_act")):
                layer.alpha.data[-1] *= -1 if path.endswith("q_act") else 1
            if path.endswith("q_act") and "swin" in name:
                layer.zero_point.data = 1.0 - torch.arange(len(layer.alpha)).float() % 3

    model, images = _float(name, change)
    graph = to_graph(convert(model, images), (3, 32, 32))
    for path, correlation in _compare_blocks(model, images, graph).items():
        assert correlation > 0.97, (path, correlation)


def test_levels_without_an_integer_form_are_refused():
    def change(model):
        model.blocks[1].attn.attn_act.zero_point.data[0] = -2

    model, images = _float("bi_vit_deit_micro", change)
    with pytest.raises(ConvertError, match="blocks.1.attn.attn_act: the zero point -2 of head 0"):
        convert(model, images)


def test_float_activations_are_refused():
    model, images = _float("bivit_w1a32_swin_micro")
    with pytest.raises(ConvertError, match="layers.0.blocks.0.mlp: BinaryWeightMlp has no integer"):
        convert(model, images)
