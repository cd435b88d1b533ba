"""Pyramids, windows and head-wise networks compute what their graphs compute."""


import pytest

from bivit.hw.targets import TARGETS
from lowering import verify
from network_graphs import random_headwise_graph, random_pyramid_graph, random_window_graph

TINY, ODD, SMALL, LARGE = (TARGETS[name] for name in ("tiny", "odd", "ecp5-85f", "k26"))
ARCHS = pytest.mark.parametrize("arch", (TINY, ODD, SMALL, LARGE), ids=lambda arch: arch.name)


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
