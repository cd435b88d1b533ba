"""The loop: stages, resuming, averages, what a stage leaves behind."""

import dataclasses
import math

import pytest
import torch

from bivit.models.binaryvit import SelfAttention
from bivit.models.data import augment, digits
from bivit.models.floats import load_float, save_float
from bivit.models.headwise import HeadSign
from bivit.models.multibit import CodedLinear
from bivit.models.registry import create, network
from bivit.models.training import TensorData, TrainError, load_recipe, predict, train
from bivit.models.training.trainer import _rate

SMALL = {
    "bivit_digits": {"embed_dim": 16, "depth": 1},
    "bi_vit_digits": {"embed_dim": 16, "depth": 1},
    "binaryvit_digits": {"embed_dims": (8, 16), "depths": (1, 1), "num_heads": (1, 2),
                         "mlp_ratios": (2, 2), "reductions": (2, 1)},
}


def _small(name):
    """Recipe, network and data that train in seconds."""
    recipe, entry = load_recipe(name), network(name)
    stages = tuple(dataclasses.replace(stage, epochs=2, warm_up=1, batch=32)
                   for stage in recipe.stages)
    own = dataclasses.replace(entry, config=dataclasses.replace(entry.config, **SMALL[name]))
    images, labels = (part[:72] for part in digits("train").tensors())
    return dataclasses.replace(recipe, stages=stages), own, TensorData(images, labels, augment)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("name", SMALL)
def test_a_resumed_run_gives_the_same_bytes(name, tmp_path):
    recipe, own, data = _small(name)
    arguments = {"own": own, "threads": 1, "save_every": 1}
    whole = train(recipe, data, **arguments).state_dict()
    state = tmp_path / "run.state"
    seen = []
    for stop in (1.5, 2, 3.2, recipe.epochs):
        def progress(done, total, text, stop=stop):
            seen.append((done, total, text))
            if done >= stop:
                raise _Stop
        with pytest.raises(_Stop):
            train(recipe, data, state=state, progress=progress, **arguments)
        assert not list(tmp_path.glob("*.part"))
    assert seen[0] == (0, recipe.epochs, recipe.stages[0].name) and 0 < seen[1][0] < 1
    assert seen[-1][0] == recipe.epochs and "loss" in seen[-1][2]
    resumed = train(recipe, data, state=state, **arguments).state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())
    other = train(recipe, data, state=state, seed=1, **arguments).state_dict()
    assert not all(torch.equal(value, whole[key]) for key, value in other.items())


def test_a_state_that_is_none(tmp_path):
    recipe, own, data = _small("bivit_digits")
    state = tmp_path / "run.state"
    state.write_bytes(b"something else")
    with pytest.raises(TrainError, match="run.state is not a training state"):
        train(recipe, data, own=own, state=state)


def test_a_teacher_from_outside():
    recipe, own, data = _small("bivit_digits")
    recipe = dataclasses.replace(
        recipe, teacher="bivit_digits", pretrained=True, stages=(dataclasses.replace(
            recipe.stages[2], epochs=1, warm_up=0, learning_rate=1e-12),))
    with pytest.raises(TrainError, match="needs a trained bivit_digits as its teacher"):
        train(recipe, data, own=own)
    torch.manual_seed(5)
    teacher = dataclasses.replace(own, layers={}).build()
    model = train(recipe, data, own=own, teacher=teacher, threads=1)
    layer, source = model.blocks[0].mlp.fc1, teacher.blocks[0].mlp.fc1
    torch.testing.assert_close(layer.weight, source.weight)
    torch.testing.assert_close(layer.scaling_factor[:, 0], source.weight.abs().mean(1))


def test_held_zero_points_leave_two_levels_one_of_them_zero():
    recipe, own, data = _small("bi_vit_digits")
    model = train(recipe, data, own=own, threads=1)
    points = {name: layer for name, layer in model.named_modules() if isinstance(layer, HeadSign)}
    for name, layer in points.items():
        wanted = -1 if name.endswith("attn_act") else 0
        assert layer.zero_point.round().tolist() == [wanted] * 2, name
        assert bool((layer.alpha > 0).all()) and bool(layer.init_state)
    shares = torch.linspace(0, 1, 50).expand(2, 2, 50)
    levels, scale = points["blocks.0.attn.attn_act"].levels(shares)
    assert levels.unique().tolist() == [0, 2] and bool((scale < 1).all())


def test_statistics_and_steps_are_those_of_the_result():
    recipe, own, data = _small("binaryvit_digits")
    model = train(recipe, data, own=own, threads=1)
    seen = []
    head = model.classifier
    assert isinstance(head, CodedLinear) and not model.training
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    norm = model.vit["embeddings"].norm
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predict(model, data.images)
    assert float(head.step) == pytest.approx(float(seen[1].abs().max()) / 255)
    mean = torch.stack([part.mean((0, 1)) for part in seen[0].split(32)]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert all(isinstance(layer.attention["attention"], SelfAttention)
               for layer in model.vit["encoder"].layer)


def test_learning_rate():
    stage = dataclasses.replace(load_recipe("binaryvit").stages[0], epochs=10, warm_up=2,
                                learning_rate=1.0, min_learning_rate=0.1)
    rates = [_rate(stage, step, 3) for step in range(30)]
    assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert rates[6] == 1 and rates[18] == pytest.approx(0.55)
    assert rates[29] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 23 / 24)))


@pytest.mark.parametrize("name", ["bi_vit_digits", "binaryvit_digits"])
def test_float_files_of_digits_networks(name, tmp_path):
    torch.manual_seed(0)
    model = create(name, eight_bits=True).eval()
    save_float(model, tmp_path / "net", name=name)
    again = load_float(tmp_path / "net", eight_bits=True)
    images = digits("held_out").tensors()[0][:4]
    assert torch.equal(predict(again, images), predict(model, images))
    assert load_float(tmp_path / "net").config == model.config
