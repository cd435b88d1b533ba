"""Folders of images: crops, order, errors; a recipe trained on one from the command line."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from bivit.cli.main import main
from bivit.models.floats import load_float, save_float
from bivit.models.registry import network
from bivit.models.training import FolderData, TrainError
from bivit.models.training.images import ImageFolder, middle, random_crop

MICRO = """
network = "binaryvit_micro"
augment = "crop"
pixels = "imagenet"
[[stages]]
name = "binary"
eight_bits = true
epochs = 1
learning_rate = 1e-3
batch = 4
"""


def _fill(folder, classes=("ant", "bee"), count=5):
    """Coloured noise, sizes and kinds mixed; the first class is darker."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            shape = (36 + index, 48) if index % 2 else (36 + index, 48, 3)
            pixels = rng.integers(100 * label, 100 * label + 100, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def _sized(name, classes):
    entry = network(name)
    config = dataclasses.replace(entry.config, num_classes=classes)
    return dataclasses.replace(entry, config=config).build()


def _run(capsys, *arguments):
    capsys.readouterr()
    workers = ["--workers", "0"] if "--data" in arguments and "digits" not in arguments else []
    with pytest.raises(SystemExit) as exit_:
        main(["train", *map(str, arguments), "--json", "--threads", "1", *workers])
    out, err = capsys.readouterr()
    return exit_.value.code, json.loads(out), err


def test_a_folder_is_read_in_order(tmp_path):
    folder = ImageFolder(_fill(tmp_path))
    assert folder.classes == ["ant", "bee"] and len(folder) == 10
    data = FolderData(folder, 32)
    pixels, labels = next(data.in_order(10))
    assert pixels.shape == (10, 3, 32, 32) and pixels.dtype == torch.uint8
    assert labels.tolist() == [0] * 5 + [1] * 5
    assert float(pixels[:5].float().mean()) < 100 < float(pixels[5:].float().mean())
    assert torch.equal(data.sample(4), pixels[[0, 3, 6, 9]])
    grey = ImageFolder(tmp_path, channels=1)
    assert next(FolderData(grey, 32).in_order(2))[0].shape == (2, 1, 32, 32)


def test_epochs_depend_on_the_seed_and_not_on_workers(tmp_path):
    folder = ImageFolder(_fill(tmp_path))
    runs = [[torch.cat(part) for part in zip(*FolderData(folder, 32, workers=workers).batches(
        3, seed), strict=True)] for workers, seed in ((0, 7), (2, 7), (0, 8))]
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])
    assert sorted(runs[2][1].tolist()) == [0] * 5 + [1] * 5


def test_crops():
    ramp = np.add.outer(np.arange(64) * 2, np.arange(96)).astype(np.uint8)
    image = Image.fromarray(ramp)
    square = np.asarray(middle(image, 56)).astype(int)
    assert square.shape == (56, 56)
    assert abs(square - ramp[4:60, 20:76]).max() <= 1  # 64 is the resized side: nothing scales
    rng = np.random.default_rng(0)
    crops = [np.asarray(random_crop(image, 32, rng)).astype(int) for _ in range(40)]
    mirrored = sum(crop[0, -1] < crop[0, 0] for crop in crops)
    assert 8 <= mirrored <= 32 and {crop.shape for crop in crops} == {(32, 32)}
    spans = [abs(crop[-1, 0] - crop[0, 0]) / 2 for crop in crops]
    assert max(spans) > 1.5 * min(spans)
    thread = Image.fromarray(np.zeros((4, 400), np.uint8))
    assert random_crop(thread, 32, rng).size == (32, 32) == middle(thread, 32).size


@pytest.mark.parametrize("break_it, sentence", [
    (lambda f: (f / "bee" / "2.png").write_bytes(b"no image"), "2.png cannot be read as an image"),
    (lambda f: (f / "bee" / "2.png").write_bytes((f / "bee" / "2.png").read_bytes()[:200]),
     "2.png cannot be read as an image"),
    (lambda f: (f / "cat").mkdir(), "cat holds no images; put some there or delete it"),
    (lambda f: [file.rename(f / file.name) for file in f.glob("*/*")], "holds no images; it needs"),
    (lambda f: [file.rename(f / "ant" / f"b{file.name}") for file in f.glob("bee/*")]
     + [(f / "bee").rmdir()], "holds one class only"),
])
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_folders(tmp_path, break_it, sentence, workers):
    break_it(_fill(tmp_path))
    with pytest.raises(TrainError) as caught:
        list(FolderData(ImageFolder(tmp_path), 32, workers=workers).batches(4, 0))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_recipe_on_a_folder(tmp_path, capsys):
    _fill(tmp_path / "data" / "train")
    _fill(tmp_path / "data" / "val", count=2)
    (tmp_path / "mine.toml").write_text(MICRO)
    out = tmp_path / "net.safetensors"
    status, result, err = _run(capsys, tmp_path / "mine.toml", "--data", tmp_path / "data",
                               "-o", out)
    assert status == 0, err
    assert result | {"top1": 0, "device": ""} == {
        "recipe": "mine", "network": "binaryvit_micro", "images": 10, "classes": 2, "top1": 0,
        "device": "", "output": str(out)}
    assert 0 <= result["top1"] <= 1
    model = load_float(out, eight_bits=True)
    assert model.config.num_classes == 2 and not list(tmp_path.glob("*.state"))


def test_pretrained_on_a_folder(tmp_path, capsys):
    _fill(tmp_path / "data")
    text = MICRO.replace("binaryvit_micro", "bi_vit_deit_micro").replace(
        "augment", "teacher = \"distilled_deit_micro\"\npretrained = true\naugment").replace(
        "batch", "distil = 1.0\nranking = 10.0\noptimiser = \"lamb\"\nbatch")
    (tmp_path / "mine.toml").write_text(text)
    arguments = tmp_path / "mine.toml", "--data", tmp_path / "data", "-o", tmp_path / "out"
    status, result, err = _run(capsys, *arguments)
    assert status == 2 and "needs a trained distilled_deit_micro" in err
    teacher = tmp_path / "teacher"
    for name, classes, sentence in (
            ("swin_micro", 2, "holds another network, but the recipe mine needs a trained dist"),
            ("bi_vit_deit_micro", 2, "holds another network, but the recipe mine needs"),
            ("distilled_deit_micro", 10, "has 10 classes, but the images have 2")):
        save_float(_sized(name, classes), teacher, name=name)
        status, result, err = _run(capsys, *arguments, "--teacher", teacher)
        assert status == 2 and sentence in err and len(err.splitlines()) == 1
    save_float(_sized("distilled_deit_micro", 2), teacher, name="distilled_deit_micro")
    status, result, err = _run(capsys, *arguments, "--teacher", teacher)
    assert status == 0 and result["top1"] is None, err


@pytest.mark.parametrize("arguments, sentence", [
    (("mnist",), "there is no recipe mnist"),
    (("binaryvit",), "the recipe binaryvit needs images; give --data"),
    (("binaryvit", "--data", "none"), "the folder none does not exist"),
    (("bivit_digits", "--data", "."), "is not for folders of images"),
    (("digits", "--data", "."), "--data is for recipes"),
    (("digits", "--model", "vgg"), "there is no digits network vgg; networks are bivit_digits"),
    (("binaryvit", "--model", "bivit_digits"), "--model is for the digits"),
])
def test_refusals(arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, result, err = _run(capsys, *arguments, "-o", "out")
    assert status == 2 and sentence in err and result["error"] in err.replace("bivit: ", "", 1)
    assert len(err.splitlines()) == 1
