"""Digits networks from recipe to checkpoint, on few images and epochs."""

import dataclasses
import json

import pytest

import bivit.models.digits
from bivit.compiler.ir import checkpoint
from bivit.models import load
from bivit.models.data import Digits, digits
from bivit.models.digits import train_digits
from bivit.models.floats import load_float
from bivit.models.registry import MODELS
from bivit.models.training import TrainError, load_recipe, predict


@pytest.fixture
def few(monkeypatch):
    """The first 96 images of every part."""
    def part(name):
        data = digits(name)
        return Digits(data.images[:96], data.labels[:96])

    monkeypatch.setattr(bivit.models.digits, "digits", part)


@pytest.mark.parametrize("model", MODELS)
def test_a_digits_network_to_its_checkpoint(model, few, tmp_path):
    recipe = load_recipe(model)
    recipe = dataclasses.replace(recipe, stages=tuple(
        dataclasses.replace(stage, epochs=1, warm_up=0) for stage in recipe.stages))
    report = train_digits(tmp_path / "net", model=model, recipe=recipe, threads=1,
                          float_out=tmp_path / "float")
    assert report["images"] == 96 and set(report["equal_bits"])
    metadata = checkpoint.load(tmp_path / "net").metadata
    assert metadata["model"] == model and metadata["held_out"] == report
    assert metadata["training"]["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe)))
    images = digits("held_out").tensors()[0][:96]
    predictions = predict(load(tmp_path / "net"), images).argmax(-1)
    found = "".join(map(str, predictions.tolist()))
    differing = sum(a != b for a, b in zip(found, report["float_predictions"], strict=True))
    assert differing == report["top1_differing"]
    assert load_float(tmp_path / "float", eight_bits=True).config == MODELS[model]
    assert not list(tmp_path.glob("*.state"))


def test_refusals(tmp_path):
    with pytest.raises(TrainError, match="there is no digits network vgg; networks are bivit_dig"):
        train_digits(tmp_path / "net", model="vgg")
    with pytest.raises(TrainError, match="no does not exist; make it first"):
        train_digits(tmp_path / "no" / "net")
