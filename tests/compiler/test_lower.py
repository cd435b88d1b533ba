"""Lowering: unusual networks compute what the graph computes, and impossible ones are refused."""

import dataclasses
import re

import numpy as np
import pytest

from bivit.compiler.ir.graph import Graph, GraphError, Node
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.memories import memories
from bivit.hw.targets import TARGETS
from graphs import GraphBuilder, random_vit_graph
from lowering import SQUARE, verify

TINY, ODD = TARGETS["tiny"], TARGETS["odd"]


def start(seed, *, width, prefix=0, image=(1, 4, 6), patch=2):
    """A network up to its first numbers."""
    net = GraphBuilder(seed, image)
    x = net.plane_linear("proj", net.add("patches", "patchify", "input", patch_size=patch), width)
    return net, net.embed("embed", x, prefix)


def finish(net, x, token=0, classes=3):
    """Select a token, and put the head behind it."""
    x = net.norm_codes("norm", net.add("select", "select", x, token=token))
    net.rescale("logits", net.plane_linear("head", x, classes), bits=16)
    return net.graph()


def renamed(graph, old, new):
    """The same graph with another name for one layer."""
    names = {old: new}
    return dataclasses.replace(graph, nodes=tuple(
        dataclasses.replace(node, name=names.get(node.name, node.name),
                            inputs=tuple(names.get(name, name) for name in node.inputs))
        for node in graph.nodes))


def attention(net, name, q, k, v, heads):
    """Bits of the weighted values."""
    scores = net.add(f"{name}.scores", "scores", q, k, num_heads=heads)
    weights = net.add(f"{name}.softmax", "softmax_threshold", scores, delta=5)
    return net.threshold(f"{name}.sign", net.add(f"{name}.attend", "attend", weights, v))


@pytest.mark.parametrize("arch", TARGETS.values(), ids=TARGETS)
def test_transformer_on_every_target(arch):
    verify(random_vit_graph(3, depth=2, embed_dim=21, num_heads=3, mlp_dim=37,
                            image_shape=(2, 6, 9), patch_size=3), arch)


@pytest.mark.parametrize("arch", (TINY, ODD, SQUARE), ids=lambda arch: arch.name)
def test_everything_has_several_readers(arch):
    net, x = start(1, width=24)
    bits = net.norm_bits("norm1", x)
    dot = net.binary_linear("wide", bits, 24)
    a, b = net.threshold("a", dot), net.threshold("b", dot)  # one dot product, three readers
    x = net.rescale("add1", dot, x)
    heads = attention(net, "first", a, a, b, 3)  # queries and keys are the same bits
    again = attention(net, "second", heads, heads, b, 3)  # attention output as queries and keys
    more = attention(net, "third", bits, a, a, 1)  # queries straight from the LayerNorm
    early = x
    for index, value in enumerate((a, heads, again, more)):
        x = net.rescale(f"back{index}", net.binary_linear(f"linear{index}", value, 24), x)
    x = net.rescale("late", net.binary_linear("linear4", bits, 24), early)
    y = net.norm_bits("norm2", x)
    x = net.rescale("last", net.binary_linear("linear5", y, 24), x)
    verify(finish(net, x), arch)


@pytest.mark.parametrize("arch", (TINY, ODD, SQUARE), ids=lambda arch: arch.name)
@pytest.mark.parametrize("prefix, token", ((0, 5), (1, 4), (7, 12), (9, 0)))
def test_prefix_and_selected_token(arch, prefix, token):
    net, x = start(2, width=11, prefix=prefix)
    first = net.add("early", "select", x, token=token)
    bits = net.norm_bits("bits", first)
    small = net.threshold("small", net.binary_linear("reduce", bits, 7))
    first = net.rescale("one", net.binary_linear("widen", small, 11), first)
    x = net.rescale("all", net.binary_linear("mix", net.norm_bits("bits2", x), 11), x)
    last = net.add("late", "select", x, token=token)
    y = net.norm_bits("bits3", last)
    last = net.rescale("sum", net.binary_linear("join", y, 11), first)
    verify(finish(net, last), arch)


def test_dead_layers_are_dropped():
    net, x = start(3, width=8)
    net.threshold("unused", net.binary_linear("nowhere", net.norm_bits("dead", x), 9))
    program = verify(finish(net, x), TINY)
    assert "nowhere" not in {layer.name for layer in program.layers}
    assert "unused" not in {entry["name"] for entry in program.observations}


def test_equal_graphs_give_equal_programs():
    programs = [lower(random_vit_graph(4, depth=2), ODD) for _ in range(2)]
    assert programs[0].words == programs[1].words
    assert programs[0].constants == programs[1].constants


def test_macs_are_the_useful_ones():
    program = lower(random_vit_graph(5, embed_dim=10, num_heads=2, mlp_dim=20), SQUARE)
    macs = {layer.name: layer.macs for layer in program.layers if layer.binary}
    assert macs == {"blocks.0.attn.q": 1700, "blocks.0.attn.k": 1700, "blocks.0.attn.v": 1700,
                    "blocks.0.attn.scores": 17 * 17 * 10, "blocks.0.attn.attend": 17 * 17 * 10,
                    "blocks.0.attn.proj": 1700, "blocks.0.mlp.fc1": 3400, "blocks.0.mlp.fc2": 3400}


# ---- refusals ----------------------------------------------------------------------------------

def refused(graph, arch, *words):
    with pytest.raises(CompileError) as caught:
        lower(graph, arch)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("field, value, words", (
    ("weight_depth", 59, ("WEIGHT", "raise weight_depth to")),
    ("hmem_depth", 4, ("HMEM", "raise hmem_depth to")),
    ("resid_depth", 17, ("RESID", "raise resid_depth to")),
    ("bmem_depth", 3, ("BMEM", "raise bmem_depth to")),
    ("xmem_depth", 2, ("XMEM", "raise xmem_depth to")),
    ("imem_depth", 7, ("IMEM", "raise imem_depth to")),
    ("pv_depth", 1, ("PV", "raise pv_depth to")),
    ("program_depth", 9, ("instructions", "raise program_depth to")),
    ("count_bits", 4, ("blocks.0.attn.q", "raise count_bits to 5")),
    ("acc_bits", 17, ("patch_embed.proj", "raise acc_bits to 18")),
    ("resid_bits", 11, ("embed", "raise resid_bits to 12")),
    ("score_tiles", 2, ("blocks.0.attn.scores", "raise score_tiles to 3")),
))
def test_too_small_a_target(field, value, words):
    arch = dataclasses.replace(SQUARE, name="small", **{field: value})
    refused(random_vit_graph(6, embed_dim=16, depth=2), arch, "layer ", "target small", *words)


def test_memory_that_is_asked_for_is_enough():
    graph = random_vit_graph(6, embed_dim=16, depth=2)
    for field in ("hmem_depth", "resid_depth", "bmem_depth", "weight_depth", "program_depth"):
        memory = field.removesuffix("_depth")
        with pytest.raises(CompileError) as caught:
            lower(graph, dataclasses.replace(SQUARE, **{field: 1}))
        needed = int(re.search(f"raise {field} to ([0-9]*)", str(caught.value))[1])
        bits = (needed - 1) * memories(SQUARE)[memory].width
        assert re.search(rf"{memory.upper()}.* {bits} bits more than ", str(caught.value)) or \
            f" {bits} bits more than {memory.upper()} of target" in str(caught.value)
        lower(graph, dataclasses.replace(SQUARE, **{field: needed}))
        with pytest.raises(CompileError):
            lower(graph, dataclasses.replace(SQUARE, **{field: needed - 1}))


def test_output_of_several_tokens():
    net, _ = start(7, width=8)
    refused(net.graph(), TINY, "layer embed", "output", "select a token")


def test_output_of_bits():
    net, x = start(7, width=8)
    net.norm_bits("bits", net.add("select", "select", x, token=0))
    refused(net.graph(), TINY, "layer bits", "output is bits")


def test_rescaled_attention():
    net, x = start(8, width=8)
    bits = net.threshold("bits", net.binary_linear("linear", net.norm_bits("norm1", x), 8))
    scores = net.add("scores", "scores", bits, bits, num_heads=1)
    weights = net.add("softmax", "softmax_threshold", scores, delta=3)
    x = net.rescale("numbers", net.add("attend", "attend", weights, bits))
    verify(finish(net, x), TINY)


def test_thresholded_planes():
    net = GraphBuilder(9, (1, 4, 4))
    x = net.threshold("early", net.plane_linear("proj", net.add(
        "patches", "patchify", "input", patch_size=2), 8))
    x = net.rescale("numbers", net.binary_linear("linear", x, 8))
    refused(finish(net, x), TINY, "layer early", "threshold cannot follow plane_linear")


def test_keys_from_a_layer_norm():
    net, x = start(10, width=16)
    bits = net.norm_bits("bits", x)
    values = net.threshold("values", net.binary_linear("v", bits, 16))
    out = attention(net, "head", bits, bits, values, 1)
    x = net.rescale("numbers", net.binary_linear("linear", out, 16))
    verify(finish(net, x), TINY)


def test_values_from_a_layer_norm():
    net, x = start(10, width=16)
    bits = net.norm_bits("bits", x)
    out = attention(net, "head", bits, bits, bits, 1)
    x = net.rescale("numbers", net.binary_linear("linear", out, 16))
    refused(finish(net, x), TINY, "layer bits", "bits cannot be values")


def test_addend_in_other_rows():
    net, x = start(11, width=8)
    one, two = (net.add(f"token{i}", "select", x, token=i) for i in range(2))
    y = net.norm_bits("bits", one)
    refused(finish(net, net.rescale("sum", net.binary_linear("linear", y, 8), two)), TINY,
            "layer sum", "other rows")


def test_illegal_graph():
    graph = Graph((1, 4, 4), (Node("patches", "patchify", ("input",), {"patch_size": 3}),))
    refused(graph, TINY, "layer patches", "does not divide")


def test_no_layer_reads_the_image_twice():
    net = GraphBuilder(12, (1, 4, 4))
    first = net.plane_linear("proj", net.add("p1", "patchify", "input", patch_size=2), 8)
    second = net.plane_linear("other", net.add("p2", "patchify", "input", patch_size=2), 8)
    x = net.rescale("sum", second, net.rescale("numbers", first))
    refused(finish(net, x), TINY, "2 layers cut the image")


def test_never_more_than_planes_needed():
    net, x = start(13, width=8)
    graph = finish(net, x)
    weight = graph.node("head").tensors["weight"]
    weight[:] = np.where(weight > 0, 1, -1)
    program = verify(graph, TINY)
    planes = {i.fields["b_planes"] for i in program.instructions
              if program.layers[i.layer].name == "head"}
    assert planes == {1}


@pytest.mark.parametrize("old", ("logits", "head", "select", "embed"))
def test_a_layer_may_be_called_output(old):
    verify(renamed(random_vit_graph(1), old, "output"), TINY)


@pytest.mark.parametrize("name", ("", "zero/scale/4", 5))
def test_names_that_cannot_be_kept_apart(name):
    with pytest.raises(GraphError, match="name"):
        renamed(random_vit_graph(1), "embed", name).infer()


def test_names_like_those_of_the_compiler():
    graph = random_vit_graph(1, num_heads=1)
    for old, new in (("embed", "blocks.0.attn.v_sign:values:0"), ("logits", "zero"),
                     ("norm", "blocks.0.attn.v_sign:values:0:ones"),
                     ("patches", "blocks.0.attn.out_sign:attention")):
        graph = renamed(graph, old, new)
    verify(graph, TINY)


def test_a_layer_without_outputs_is_refused():
    net, x = start(1, width=8)
    y = net.norm_bits("norm1", x)
    weight = np.zeros((0, 8), np.uint8)
    net.nodes.append(Node("empty", "binary_linear", (y,), {}, {"weight": weight}))
    with pytest.raises(GraphError, match="layer empty .*no outputs"):
        net.graph()


@pytest.mark.parametrize("kind", (np.int8, np.int16, np.int32))
def test_narrow_weights(kind):
    graph = random_vit_graph(2)
    nodes = [dataclasses.replace(node, tensors={
        "weight": np.clip(node.tensors["weight"], -127, 127).astype(kind)})
        if node.op == "plane_linear" else node for node in graph.nodes]
    verify(dataclasses.replace(graph, nodes=tuple(nodes)), TINY)
