"""Agreement finds the operands of every product of every family, in the same order."""

import pytest
import torch

from bivit.models import GraphModel, convert, settle, to_graph
from bivit.models.comparison import agreement
from bivit.models.random_networks import random_network


@pytest.mark.parametrize("name, operands, first", [
    ("bivit_deit_micro", 17, "blocks.0.attn.q_sign"),
    ("bivit_w1a8_deit_micro", 17, "blocks.0.norm2"),
    ("bi_vit_deit_micro", 18, "blocks.0.norm2"),
    ("bivit_swin_micro", 51, "layers.0.blocks.1.attn.out_sign"),
    ("bivit_nest_micro", 35, "levels.0.transformer_encoder.0.attn.out_sign"),
    ("some_fp_binaryvit_micro", 46, "vit.encoder.layer.0.attention.attention.q_bits"),
])
def test_every_family(name, operands, first):
    model = random_network(name, 0)
    shape = model.config.image_shape
    images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    settle(model, images)
    graph_model = GraphModel(to_graph(convert(model, images), shape))
    compared = agreement(model, graph_model, images)
    assert len(compared["layers"]) == operands and compared["images"] == 2
    # Early layers, before differences spread: an order that is not the same would give a half.
    assert compared["layers"][first] >= 0.95
    others = agreement(model, graph_model, images, batch=1)
    assert others["layers"] == pytest.approx(compared["layers"])
