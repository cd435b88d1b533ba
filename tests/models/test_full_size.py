"""Every network at full size: float forward, conversion and integer forward, on photographs."""

import pytest
import torch

from bivit.models.conversion import convert, settle
from bivit.models.photographs import photographs
from bivit.models.random_networks import random_network
from bivit.models.tracing import GraphModel, to_graph
from named_networks import FULL

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = "bivit_deit_tiny"


@pytest.mark.parametrize("name", [
    name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FULL])
def test_float_conversion_and_integers(name):
    model = random_network(name, 0)
    images = photographs(model.config.image_shape)
    settle(model, images)
    with torch.no_grad():
        expected = model(images[:1])
    assert expected.shape == (1, 1000) and bool(torch.isfinite(expected).all())
    graph = to_graph(convert(model, images), model.config.image_shape)
    kinds = graph.infer()
    values = GraphModel(graph).values(images[:1])
    logits = values[graph.nodes[-1].name]
    assert logits.shape == (1, 1, 1000) and len(logits.unique()) > 500
    assert not bool((logits.abs() == 2**15 - 1).any())
    for path, value in values.items():
        always = "bi_real" in name and path.endswith("softmax")  # every key that is not masked
        if path in kinds and kinds[path].kind in ("bits", "attention") and not always:
            assert 0.02 < float(value.double().mean()) < 0.98, path
