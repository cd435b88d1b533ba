"""Pyramids, windows and head-wise networks compute what their graphs compute."""

import dataclasses
import re

import numpy as np
import pytest

from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.targets import TARGETS
from lowering import SQUARE, verify
from network_graphs import (
    NetworkBuilder,
    random_headwise_graph,
    random_pyramid_graph,
    random_window_graph,
)

TINY, ODD, LARGE = (TARGETS[name] for name in ("tiny", "odd", "k26"))
ARCHS = pytest.mark.parametrize("arch", (TINY, ODD, SQUARE, LARGE), ids=lambda arch: arch.name)


@ARCHS
@pytest.mark.parametrize("options", (
    {}, {"ratio": 1, "merge": False}, {"width": 6, "heads": 1}, {"width": 10, "heads": 2},
    {"width": 15, "heads": 3, "copies": 3}, {"width": 12, "side": 8, "ratio": 4}), ids=str)
def test_pyramids(arch, options):
    verify(random_pyramid_graph(1, **options), arch, 1)


@ARCHS
@pytest.mark.parametrize("options", (
    {}, {"mode": "absolute", "mlp": "bits"}, {"mode": "limit", "width": 10, "heads": 2},
    {"mode": "all", "width": 7, "heads": 1}, {"side": 6, "window": 3},
    {"side": 3, "window": 3, "mlp": "bits"}), ids=str)
def test_windows(arch, options):
    verify(random_window_graph(2, **options), arch, 1)


@ARCHS
@pytest.mark.parametrize("options", (
    {}, {"zeros": False}, {"keys": "gathered"}, {"width": 14, "heads": 2, "side": 5},
    {"width": 40, "heads": 2}), ids=str)
def test_heads(arch, options):
    verify(random_headwise_graph(3, **options), arch, 1)


# ---- refusals ----------------------------------------------------------------------------------

def refused(graph, arch, *words):
    with pytest.raises(CompileError) as caught:
        lower(graph, arch)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("field", ("vmem_depth", "kmem_depth", "bend_depth", "bias_depth",
                                   "norm_depth", "sums_depth"))
def test_what_is_asked_for_is_enough(field):
    make = {"kmem_depth": random_headwise_graph, "bias_depth": random_window_graph}.get(
        field, random_pyramid_graph)
    graph, least = make(4, width=24), 2 if field == "sums_depth" else 1
    with pytest.raises(CompileError) as caught:
        lower(graph, dataclasses.replace(SQUARE, **{field: least}))
    needed = int(re.search(rf"raise {field} to (\d+)", str(caught.value))[1])
    if field != "sums_depth":  # the next layer may ask for more
        lower(graph, dataclasses.replace(SQUARE, **{field: needed}))
    refused(graph, dataclasses.replace(SQUARE, **{field: needed - 1}), "layer ", field)


def test_the_same_tokens_in_different_windows():
    net = NetworkBuilder(5, (1, 6, 6))
    bits = net.norm_bits("bits", net.start(1, 8))
    k, v = (net.signs(f"{part}.sign", net.binary_linear(part, bits, 8)) for part in "kv")
    total = []
    for windows in (4, 12):
        scores = net.add(f"scores{windows}", "window_scores", bits, k, num_heads=1,
                         windows=windows)
        attention = net.add(f"softmax{windows}", "softmax_threshold", scores, delta=3)
        total.append(net.rescale(f"sum{windows}", net.add(f"attend{windows}", "attend", attention,
                                                          v), *total[-1:]))
    refused(net.finish(total[-1]), dataclasses.replace(SQUARE, rows=8), "layer scores12",
            "in 12 windows", "put a gather between")


def test_gathered_pixels():
    net = NetworkBuilder(6, (1, 4, 4))
    patches = net.gather("turn", net.add("patches", "patchify", "input", patch_size=2),
                         np.array([[1], [0], [3], [2]]))
    x = net.rescale("numbers", net.plane_linear("proj", patches, 8))
    refused(net.finish(x), TINY, "layer turn", "gather cannot follow patchify")


def test_queries_of_heads_that_do_not_fill_words():
    net = NetworkBuilder(7, (1, 6, 6))
    bits = net.norm_bits("bits", net.start(2, 12))
    v = net.signs("v.sign", net.binary_linear("v", bits, 12))
    attention = net.add("softmax", "score_threshold", net.add(
        "scores", "scores", bits, bits, num_heads=3), limit=0)
    x = net.rescale("numbers", net.add("attend", "attend", attention, v))
    graph = net.finish(x)
    refused(graph, SQUARE, "layer bits", "cannot be queries")
    verify(graph, dataclasses.replace(SQUARE, rows=4, cols=4, lanes=4, tile_rows=4, post_rows=2), 1)
