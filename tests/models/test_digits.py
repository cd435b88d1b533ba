"""Data, staged training and the shipped checkpoint."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors
import torch

from bivit.models import load
from bivit.models.data import augment, digits
from bivit.models.digits import CHECKPOINTS
from bivit.models.registry import MODELS, measured
from bivit.models.training import load_recipe, predict
from bivit.models.vit import build, inherit

HELD_OUT_START = [1, 2, 6, 7, 9, 5, 5, 0, 8, 3, 7, 8, 0, 3, 7, 3, 3, 4, 0, 8]


def test_the_split_is_fixed_and_stratified():
    parts = {part: digits(part) for part in ("train", "held_out", "fit", "validation")}
    assert {part: len(data) for part, data in parts.items()} == {
        "train": 1437, "held_out": 360, "fit": 1257, "validation": 180}
    assert np.bincount(parts["held_out"].labels).tolist() == [
        36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    keys = {part: {image.tobytes() for image in data.images} for part, data in parts.items()}
    assert not keys["train"] & keys["held_out"] and not keys["fit"] & keys["validation"]
    assert keys["fit"] | keys["validation"] == keys["train"]
    assert parts["held_out"].labels[:20].tolist() == HELD_OUT_START
    assert parts["train"].images.dtype == np.uint8 and parts["train"].images.max() == 255
    with pytest.raises(ValueError, match="no part 'test'"):
        digits("test")


def test_augmentation_is_seeded_and_small():
    images = digits("fit").tensors()[0][:64]
    one, two, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    still = augment(images, torch.Generator(), shift=0, rotate=0, scale=0, shear=0)
    assert torch.equal(still, images)
    assert float((one.float() - images.float()).abs().mean()) < 30


def test_inherited_scales_are_mean_magnitudes():
    config = MODELS["bivit_digits"]
    teacher, student = build(config, "float"), build(config, "binary")
    inherit(student, teacher.state_dict())
    layer = student.blocks[2].mlp.fc1
    assert torch.equal(layer.weight, teacher.blocks[2].mlp.fc1.weight)
    assert torch.equal(layer.scaling_factor[:, 0], layer.weight.abs().mean(1))


def test_costs():
    model = build(MODELS["bivit_digits"], "binary")
    found = measured("bivit_digits")
    assert found["parameters"] == sum(value.numel() for value in model.parameters())
    assert found["binary_macs"] == 17 * 4 * 12 * 128**2 + 4 * 2 * 17 * 17 * 128
    assert found["other_macs"] == 16 * 4 * 128 + 128 * 10


@pytest.mark.parametrize(("model", "bar", "differing"), [
    ("bivit_digits", 0.96, 2), ("bi_vit_digits", 0.95, 3), ("binaryvit_digits", 0.95, 3)])
def test_the_shipped_checkpoints_meet_the_bar(model, bar, differing):
    images, labels = digits("held_out").tensors()
    predictions = predict(load(CHECKPOINTS[model]), images).argmax(-1)
    with safetensors.safe_open(CHECKPOINTS[model], "np") as file:
        metadata = json.loads(file.metadata()["bivit"])["metadata"]
    float_predictions = torch.tensor([int(c) for c in metadata["held_out"]["float_predictions"]])
    assert float((predictions == labels).double().mean()) >= bar
    assert int((predictions != float_predictions).sum()) <= differing
    recipe = json.loads(json.dumps(dataclasses.asdict(load_recipe(model))))
    assert metadata["training"]["recipe"] == recipe
    assert CHECKPOINTS[model].stat().st_size < 1_000_000
