"""BiViT's Algorithm 1 against brute force, and the table of errors."""

import itertools

import pytest
import torch

from bivit.models.attention_threshold import (
    Rows,
    attention_rows,
    coordinate_descent,
    errors,
    fit_share,
    optimum,
)
from bivit.models.binaryvit import CONFIGS, BinaryViT
from bivit.models.config import ViTConfig
from bivit.models.vit import build


def rows(count, keys, spread, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(count, keys, generator=generator, dtype=torch.float64)
    return Rows(scores.softmax(-1), scores)


def squared_error(attention, bits, scale):
    return ((attention - scale * bits) ** 2).sum(-1)


def brute_force(row):
    """Least squared error over all bit vectors that are not 0, each with its best scale."""
    bits = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(row))),
                        dtype=torch.float64)[1:]
    scale = (bits @ row) / bits.sum(-1)
    return float(squared_error(row, bits, scale[:, None]).min())


@pytest.mark.parametrize("keys", [1, 2, 3, 5, 8, 10])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_optimum_is_the_least_of_all_bit_vectors(keys, spread):
    attention = rows(40, keys, spread).attention
    found = squared_error(attention, *optimum(attention))
    least = torch.tensor([brute_force(row) for row in attention], dtype=torch.float64)
    assert torch.allclose(found, least, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_every_round_lowers_the_error_to_a_fixed_point(spread):
    attention = rows(200, 10, spread).attention
    before = squared_error(attention, torch.ones_like(attention), 0)
    for rounds in range(1, 12):
        bits, scale = coordinate_descent(attention, rounds=rounds)
        after = squared_error(attention, bits, scale)
        assert (after <= before * (1 + 1e-12)).all()
        assert torch.equal(bits, (attention >= scale / 2).double())
        before = after
    again, _ = coordinate_descent(attention, rounds=12)
    assert torch.equal(again, bits)
    least = squared_error(attention, *optimum(attention))
    assert (before >= least * (1 - 1e-9)).all()


def test_the_algorithm_by_hand():
    attention = torch.tensor([[0.60, 0.28, 0.07, 0.05]], dtype=torch.float64)
    bits, scale = coordinate_descent(attention, rounds=1)
    assert bits.tolist() == [[1, 1, 0, 0]] and scale.item() == pytest.approx(0.25)
    bits, scale = coordinate_descent(attention, rounds=2)
    assert bits.tolist() == [[1, 1, 0, 0]] and scale.item() == pytest.approx(0.44)
    bits, scale = optimum(attention)
    assert bits.tolist() == [[1, 1, 0, 0]] and scale.item() == pytest.approx(0.44)


def test_the_line_goes_through_the_origin():
    attention = torch.tensor([[0.5, 0.25], [0.25, 1.0]], dtype=torch.float64)
    thresholds = torch.tensor([[0.1], [0.4]], dtype=torch.float64)
    assert fit_share(attention, thresholds) == pytest.approx(
        (0.1 * 0.5 + 0.4 * 1.0) / (0.5**2 + 1.0**2))


def test_errors_are_means_over_the_elements():
    scores = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
    attention = scores.softmax(-1)
    table = errors(Rows(attention, scores))
    a, b, c = attention[0].tolist()
    found = table["errors"]
    assert found["bool"] == pytest.approx(((a - 1) ** 2 + (b - 1) ** 2 + c**2) / 3)
    assert found["given share"] == pytest.approx(((a - 1) ** 2 + b**2 + c**2) / 3)
    assert found["given share, scale"] == pytest.approx((b**2 + c**2) / 3)
    assert found["optimum"] == found["algorithm 1"] == found["given share, scale"]
    assert table["optimal"] == table["converged"] == 1


def test_errors_are_ordered():
    found = errors(rows(500, 17, 1.0))["errors"]
    assert found["optimum"] <= found["algorithm 1"] <= found["given share"]
    assert found["optimum"] <= found["fitted share, scale"]


def test_rows_are_those_of_the_softmax():
    torch.manual_seed(0)
    config = ViTConfig(img_size=4, in_chans=1, patch_size=2, num_classes=3, embed_dim=8, depth=2,
                       num_heads=2)
    model = build(config, "float").eval()
    images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    found = attention_rows(model, images)
    assert found.attention.shape == (2 * 3 * 2 * 5, 5)
    layer = model.blocks[0].attn
    with torch.no_grad():
        q, k, _ = layer.heads(model.blocks[0].norm1(model.tokens(images)))
    expected = (q @ k.transpose(-2, -1) * 4**-0.5).softmax(-1).reshape(-1, 5).double()
    assert torch.allclose(found.attention[:30], expected, atol=1e-6)
    drawn = attention_rows(model, images, count=7)
    assert len(drawn.attention) == 7 and not model.blocks[0].attn._forward_pre_hooks


def test_a_network_without_known_rows_is_refused():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match="BinaryViT has no attention layer"):
        attention_rows(BinaryViT(CONFIGS["binaryvit_micro"]), images)
