"""The shipped networks: trained on scikit-learn's digits, converted, measured and written."""

import dataclasses
from pathlib import Path

import torch

from bivit.models.comparison import agreement
from bivit.models.conversion import convert, settle
from bivit.models.data import SPLIT_SEED, augment, digits
from bivit.models.floats import save_float
from bivit.models.registry import MODELS
from bivit.models.tracing import GraphModel, export, to_graph
from bivit.models.training import (
    Recipe,
    TensorData,
    TrainError,
    load_recipe,
    predict,
    train,
)

__all__ = ["CHECKPOINT", "CHECKPOINTS", "MODEL", "SMALL_CHECKPOINT",
           "measure", "train_digits", "write_checkpoint"]

MODEL = "bivit_digits"
_FOLDER = Path(__file__).parent / "checkpoints"
CHECKPOINTS = {
    MODEL: _FOLDER / "digits.safetensors",
    **{name: _FOLDER / f"{name}.safetensors" for name in ("bi_vit_digits", "binaryvit_digits")},
}
"""The checkpoints that come with the package, by network."""
CHECKPOINT = CHECKPOINTS[MODEL]
"""The one of the demo."""
SMALL_CHECKPOINT = _FOLDER / "digits_small.safetensors"
"""For small boards: the same recipe, 64 channels, two blocks of one head, MLP of 128."""


def measure(model, integer_model, part="held_out") -> dict:
    """Accuracy of the float and of the integer model on one part of the digits.

    Returns
    -------
    dict
        ``images``, ``integer_top1``, ``float_top1``, ``top1_differing``, ``float_predictions``
        (one digit an image) and ``equal_bits`` by layer.
    """
    images, labels = digits(part).tensors()
    float_predictions = predict(model, images).argmax(-1)
    integer_predictions = predict(integer_model, images).argmax(-1)
    compared = agreement(model, integer_model, images)
    return {
        "images": len(labels),
        "integer_top1": float((integer_predictions == labels).double().mean()),
        "float_top1": float((float_predictions == labels).double().mean()),
        "top1_differing": compared["top1_differing"],
        "float_predictions": "".join(map(str, float_predictions.tolist())),
        "equal_bits": compared["layers"],
    }


def train_digits(out: Path, *, model=MODEL, resume=True, progress=None, threads=2, seed=0,
                 recipe: Recipe | None = None, float_out: Path | None = None) -> dict:
    """Train a network on the digits, convert it and write its checkpoint.

    Parameters
    ----------
    out : path
        The checkpoint to write. The state of a run that is not finished lies beside it, with
        ``.state`` behind its name.
    model : str
        Key of :data:`bivit.models.registry.MODELS`.
    resume : bool
        Go on from that state if there is one of the same recipe, seed and threads; the result
        has the same bytes as that of an uninterrupted run.
    progress : callable (done epochs, all epochs, text), optional
    threads : int
        PyTorch threads; the result is byte-equal for equal threads on the same machine.
    recipe : Recipe, optional
        Instead of the one that is called like the network.
    float_out : path, optional
        Write the trained float model there too.

    Returns
    -------
    dict
        What :func:`measure` gives for the held-out images.
    """
    out = Path(out)
    for path in (out, float_out and Path(float_out)):
        if path and not path.parent.is_dir():
            raise TrainError(f"the folder {path.parent} does not exist; make it first")
    if model not in MODELS:
        raise TrainError(f"there is no digits network {model}; networks are {', '.join(MODELS)}")
    recipe = recipe or load_recipe(model)
    state = out.with_name(out.name + ".state")
    if not resume:
        state.unlink(missing_ok=True)
    images, labels = digits("train").tensors()
    trained = train(recipe, TensorData(images, labels, augment), state=state, seed=seed,
                    threads=threads, progress=progress)
    if float_out:
        save_float(trained, float_out, name=model)
    report = write_checkpoint(trained, out, model=model, recipe=recipe, seed=seed, threads=threads)
    state.unlink(missing_ok=True)
    return report


def write_checkpoint(trained, out, *, model, recipe, seed, threads) -> dict:
    """Settle and convert a trained network in place, measure it and write its checkpoint.

    Parameters
    ----------
    trained : nn.Module
        The network called `model` in the registry, after `recipe` with `seed` and `threads`.

    Returns
    -------
    dict
        What :func:`measure` gives for the held-out images.
    """
    images, _ = digits("train").tensors()
    settle(trained, images)
    integer_model = convert(trained, images)
    report = measure(trained, GraphModel(to_graph(integer_model, trained.config.image_shape)))
    export(integer_model, images[:1], out, metadata={
        "model": model, "config": dataclasses.asdict(trained.config),
        "training": {"data": "scikit-learn digits", "images": len(images),
                     "split_seed": SPLIT_SEED, "seed": seed, "threads": threads,
                     "torch": torch.__version__, "recipe": dataclasses.asdict(recipe)},
        "held_out": report,
    })
    return report
