"""Bits of the stem's weights: fewer bit planes on the array, the same bits in every engine."""

import pytest
import torch

from bivit.compiler.build import compile
from bivit.compiler.ir import checkpoint
from bivit.models.config import ViTConfig
from bivit.models.conversion import convert, settle
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random, random_network
from bivit.models.registry import network
from bivit.models.tracing import GraphModel, to_graph
from bivit.sim.report import report
from bivit.sim.simulate import simulate

SHAPE = (3, 32, 32)
NETWORKS = {"bivit_deit_micro": "patch_embed.proj", "bivit_swin_micro": "patch_embed.proj",
            "binaryvit_micro": "vit.embeddings.patch_embeddings.proj"}


@pytest.mark.parametrize("bits", (1, 3, 8))
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_have_as_many_bits(name, bits, tmp_path):
    convert_random(name, 0, tmp_path / "net.safetensors", photographs(SHAPE),
                   own=network(name).with_stem(bits))
    graph = checkpoint.load(tmp_path / "net.safetensors")
    weight = next(node for node in graph.nodes if node.op == "plane_linear").tensors["weight"]
    assert abs(weight).max() == (1 << bits) - 1 and (weight % 2 != 0).all()


@pytest.mark.parametrize("bits", (2, 5))
def test_the_float_network_rounds_to_them(bits):
    images = photographs(SHAPE)
    model = random_network("bivit_deit_micro", 3, images,
                           own=network("bivit_deit_micro").with_stem(bits))
    settle(model, images)
    graph = to_graph(convert(model, images), SHAPE)
    found = GraphModel(graph).values(images)["patch_embed.embed"]
    with torch.no_grad():
        expected = model.patch_embed(images)
    step = model.patch_embed.step
    patches = found[:, -expected.shape[1]:] - graph_table(graph, expected.shape[1])
    assert float((patches * step - expected).abs().max()) <= float(step)


def graph_table(graph, tokens):
    """What the integer embedding adds to the patches."""
    node = next(node for node in graph.nodes if node.op == "embed")
    return torch.from_numpy(node.tensors["table"].astype("int64"))[-tokens:]


def test_cycles_go_with_the_planes(tmp_path):
    words = {}
    for bits in (2, 8):
        convert_random("bivit_deit_micro", 0, tmp_path / f"{bits}.safetensors",
                       photographs(SHAPE), own=network("bivit_deit_micro").with_stem(bits))
        compile(tmp_path / f"{bits}.safetensors", "tiny", tmp_path / f"{bits}")
        found = report(tmp_path / f"{bits}")
        planes = [row for row in found["layers"] if row["planes"] and "patch" in row["name"]]
        assert [row["planes"] for row in planes] == [[8, bits]]
        words[bits] = planes[0]["array_words"]
        run = simulate(tmp_path / f"{bits}", photographs(SHAPE).numpy(), engine="iss", check=True)
        assert run.mismatches == 0, run.first_mismatch
    assert 3.99 < words[8] / words[2] <= 4  # the class token has a product of its own


@pytest.mark.parametrize("bits", (0, 9))
def test_bits_are_one_to_eight(bits):
    with pytest.raises(ValueError, match=f"stem_bits {bits}"):
        ViTConfig(stem_bits=bits)
