"""What ``bivit train`` does: the digits, or a recipe on a folder of images."""

import dataclasses
import os
from pathlib import Path

import torch

from bivit.models.floats import load_float, save_float
from bivit.models.registry import Network, network
from bivit.models.training.data import FolderData
from bivit.models.training.images import ImageFolder
from bivit.models.training.recipe import TrainError, load_recipe
from bivit.models.training.trainer import choose_device, train

__all__ = ["DIGITS", "run", "train_folder"]

DIGITS = "digits"
"""In place of a recipe: the digits that come with scikit-learn."""


def run(what: str, out: Path, *, model=None, data=None, teacher=None, float_out=None, resume=True,
        threads=2, workers=None, seed=0, progress=None) -> dict:
    """Train on the digits, or by a recipe on a folder.

    Parameters
    ----------
    what : str
        ``digits``, or what :func:`~bivit.models.training.recipe.load_recipe` takes.
    model, float_out : optional
        For the digits only, see :func:`bivit.models.digits.train_digits`.
    data, teacher, workers : optional
        For recipes only, see :func:`train_folder`.
    """
    options = {"resume": resume, "threads": threads, "seed": seed, "progress": progress}
    if what == DIGITS:
        from bivit.models.digits import MODEL, train_digits

        _refuse({"--data": data, "--teacher": teacher, "--workers": workers},
                "recipes; the digits come with scikit-learn")
        return train_digits(out, model=model or MODEL, float_out=float_out, **options)
    _refuse({"--model": model, "--float-output": float_out},
            "the digits; a recipe names its network, and -o is its float network")
    if data is None:
        load_recipe(what)
        raise TrainError(f"the recipe {what} needs images; give --data FOLDER with a folder for "
                         "each class")
    return train_folder(what, data, out, teacher=teacher, workers=workers, **options)


def _refuse(options, those):
    for name, value in options.items():
        if value is not None:
            raise TrainError(f"{name} is for {those}")


def _folders(data, channels):
    """Folders to train on and to measure on (or None): ``train`` and ``val``, or all of it."""
    data = Path(data)
    if not (data / "train").is_dir():
        return ImageFolder(data, channels=channels), None
    training = ImageFolder(data / "train", channels=channels)
    if not (data / "val").is_dir():
        return training, None
    measuring = ImageFolder(data / "val", channels=channels)
    if measuring.classes != training.classes:
        raise TrainError(f"{data / 'train'} and {data / 'val'} have different classes; both need "
                         "the same folders")
    return training, measuring


def _parts(model):
    """Layers by name and class, and the shapes of all parameters: what tells networks apart."""
    return ({name: type(layer) for name, layer in model.named_modules()},
            {name: value.shape for name, value in model.named_parameters()})


def _teacher(recipe, path, own):
    if not recipe.teacher:
        if path is not None:
            raise TrainError(f"the recipe {recipe.name} trains its own teacher; leave --teacher "
                             "out")
        return None
    if path is None:
        raise TrainError(f"the recipe {recipe.name} needs a trained {recipe.teacher}; give its "
                         "float file with --teacher (bivit import makes one)")
    teacher = load_float(path)
    theirs, ours = teacher.config.num_classes, own.config.num_classes
    if theirs != ours:
        raise TrainError(f"{path} has {theirs} classes, but the images have {ours}; fine-tune the "
                         "teacher on these images first")
    entry = network(recipe.teacher)
    config = dataclasses.replace(entry.config, num_classes=ours)
    with torch.device("meta"):
        wanted = dataclasses.replace(entry, config=config).build()
    if _parts(teacher) != _parts(wanted):
        raise TrainError(f"{path} holds another network, but the recipe {recipe.name} needs a "
                         f"trained {recipe.teacher}")
    return teacher


def _own(recipe, classes) -> Network:
    """The recipe's network with as many classes as the images have."""
    entry = network(recipe.network)
    config = dataclasses.replace(entry.config, num_classes=classes)
    return dataclasses.replace(entry, config=config)


def _top1(model, data):
    device = choose_device()
    model.to(device)
    right = sum(int((model(pixels.to(device)).argmax(-1).cpu() == labels).sum())
                for pixels, labels in data.in_order(128))
    model.cpu()
    return right / len(data)


def train_folder(recipe, data, out, *, teacher=None, resume=True, threads=2, workers=None, seed=0,
                 progress=None) -> dict:
    """Train by a recipe on a folder of images and write the float network.

    Parameters
    ----------
    recipe : str or path
        Name of a recipe, or a .toml file.
    data : path
        ``train/CLASS/image`` and, to measure on, ``val/CLASS/image``; or ``CLASS/image``.
    out : path
        The float network, for ``bivit convert``. The state of a run that is not finished lies
        beside it, with ``.state`` behind its name; it is written after every epoch.
    teacher : path, optional
        Float network that the recipe names as its teacher.
    workers : int, optional
        Processes that decode images; all cores but one if None.

    Returns
    -------
    dict
        ``recipe``, ``network``, ``images``, ``classes``, ``device``, ``top1`` (None without
        ``val``) and ``output``.
    """
    recipe, out = load_recipe(recipe), Path(out)
    if not out.parent.is_dir():
        raise TrainError(f"the folder {out.parent} does not exist; make it first")
    channels, size, width = network(recipe.network).config.image_shape
    if size != width or recipe.augment == "affine":
        raise TrainError(f"the recipe {recipe.name} is not for folders of images; those need "
                         "square images and augment crop or none")
    if workers is None:
        workers = max(0, (os.cpu_count() or 1) - 1)
    training, measuring = _folders(data, channels)
    own = _own(recipe, len(training.classes))
    state = out.with_name(out.name + ".state")
    if not resume:
        state.unlink(missing_ok=True)
    model = train(
        recipe, FolderData(training, size, augment=recipe.augment == "crop", workers=workers),
        own=own, teacher=_teacher(recipe, teacher, own), state=state, seed=seed, threads=threads,
        progress=progress, save_every=1)
    top1 = None
    if measuring:
        with torch.no_grad():
            top1 = _top1(model, FolderData(measuring, size, augment=False, workers=workers))
    save_float(model, out, name=recipe.network)
    state.unlink(missing_ok=True)
    return {"recipe": recipe.name, "network": recipe.network, "images": len(training),
            "classes": len(training.classes), "device": str(choose_device()), "top1": top1,
            "output": out}
