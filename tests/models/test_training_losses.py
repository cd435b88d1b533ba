"""Losses and optimiser against direct formulas; attention seen from outside."""

import pytest
import torch

from bivit.models.registry import create
from bivit.models.training.losses import attention_seen, distribution_loss, ranking_loss
from bivit.models.training.optimisers import Lamb
from bivit.models.training.recipe import TrainError


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distribution_loss_is_cross_entropy_less_the_teachers_entropy(temperature):
    student, teacher = _random(5, 7), _random(5, 7, seed=1)
    wanted = torch.softmax(teacher / temperature, -1)
    found = torch.softmax(student / temperature, -1)
    cross = -(wanted * found.log()).sum(-1).mean()
    entropy = -(wanted * wanted.log()).sum(-1).mean()
    loss = distribution_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(loss, (cross - entropy) * temperature**2)
    assert float(distribution_loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_ranking_loss_by_its_formula():
    teacher, student = ([_random(2, 3, 4, 4, seed=seed + layer).softmax(-1) for layer in (0, 1)]
                        for seed in (0, 10))
    wanted = 0.0
    for one, other in zip(teacher, student, strict=True):
        for image in range(2):
            squares = 0.0
            for head in range(3):
                for query in range(4):
                    before = query - 1 if query else 3
                    rows = ((a[image, head, query] - a[image, head, before])
                            for a in (one, other))
                    squares += float(((next(rows) - next(rows)) ** 2).sum())
            wanted += squares**0.5 / 2
    assert float(ranking_loss(teacher, student)) == pytest.approx(wanted, rel=1e-5)
    assert float(ranking_loss(teacher, teacher)) == 0
    shifted = [attention + 1 for attention in teacher]
    assert float(ranking_loss(teacher, shifted)) == pytest.approx(0, abs=1e-5)


def test_ranking_loss_refuses_other_shapes():
    attention = _random(2, 3, 4, 4)
    with pytest.raises(TrainError, match="layer 0 is .3, 4, 4. in the teacher and .3, 5, 5."):
        ranking_loss([attention], [_random(2, 3, 5, 5)])
    with pytest.raises(TrainError, match="1 and the student 0 layers"):
        ranking_loss([attention], [])


SEEN = {  # name: attention of the first layer, layers
    "deit_micro": ((2, 65, 65), 2), "bivit_deit_micro": ((2, 65, 65), 2),
    "bi_vit_deit_micro": ((2, 66, 66), 2), "swin_micro": ((16, 1, 16, 16), 6),
    "bi_vit_swin_micro": ((16, 1, 16, 16), 6), "binaryvit_micro": ((1, 256, 16), 4),
    "bibert_deit_micro": (None, 0)}


@pytest.mark.parametrize("name", SEEN)
def test_attention_is_seen_and_changes_nothing(name):
    torch.manual_seed(0)
    model = create(name).eval()
    shape = model.config.image_shape
    pixels = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    plain = model(pixels)
    with attention_seen() as seen:
        watched = model(pixels)
    assert torch.equal(plain, watched)
    first, layers = SEEN[name]
    assert len(seen) == layers and (not layers or seen[0].shape[1:] == first)
    assert all(torch.allclose(a.sum(-1), torch.ones(()), atol=1e-5) for a in seen)


@pytest.mark.parametrize("name", ["bivit_deit_micro", "bi_vit_deit_micro", "binaryvit_micro"])
def test_the_gradient_of_ranking_reaches_the_queries(name):
    torch.manual_seed(0)
    model = create(name)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with attention_seen() as seen:
        model(pixels)
    ranking_loss([a.detach().roll(1, 0) for a in seen], seen).backward()
    weights = {parameter: value.grad for parameter, value in model.named_parameters()
               if parameter.endswith(("attn.qkv.weight", "query.weight"))}
    assert weights and all(float(grad.abs().sum()) > 0 for grad in weights.values())


def test_lamb_takes_steps_of_the_tensors_size():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimiser = Lamb([weight], 0.1, weight_decay=0.5)
    weight.grad = torch.tensor([2.0, -1.0])
    optimiser.step()
    change = torch.tensor([1.0, -1.0]) + 0.5 * torch.tensor([3.0, 4.0])
    wanted = torch.tensor([3.0, 4.0]) - 0.1 * 5 / change.norm() * change
    torch.testing.assert_close(weight.detach(), wanted, rtol=1e-5, atol=1e-5)
