"""A design's network: from the registry or a checkpoint, with other sizes, trained or not."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path

from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import Graph
from bivit.explore.space import ExploreError, Space, Training
from bivit.hw.cache import cache_folder

__all__ = ["Prepared", "Variant", "check_networks", "prepare", "variant_of"]

SHIPPED = "digits"
"""Stands for the shipped checkpoint."""
_FILE = ".safetensors"
_FORMAT = 1
"""Of what is cached."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A network of a space.

    Parameters
    ----------
    name : str
        Of the registry, :data:`SHIPPED`, or a checkpoint.
    overrides : tuple of (str, value)
        Sizes, and ``activations``.
    training : Training or None
    """

    name: str
    overrides: tuple = ()
    training: Training | None = None

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that the network depends on."""
        content = [_FORMAT, dataclasses.asdict(self)]
        if self.name.endswith(_FILE):
            content.append(checkpoint.content_hash(self.name))
        if self.training and self.training.recipe.endswith(".toml"):
            content.append(Path(self.training.recipe).read_text())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A network to compile, or why there is none.

    Parameters
    ----------
    graph : Graph or None
    accuracy : float or None
        Of the integer model on held-out images; None without training.
    problem : str or None
    """

    graph: Graph | None
    accuracy: float | None = None
    problem: str | None = None


def variant_of(design: dict, space: Space) -> Variant:
    """The network of a design."""
    names = [name for name in space.network if name != "name"]
    file = design["network"] == SHIPPED or design["network"].endswith(_FILE)
    return Variant(name=design["network"],
                   overrides=tuple((name, design[name]) for name in names),
                   training=None if file else space.training)


def check_networks(space: Space) -> None:
    """Refuse networks that do not exist, and sizes that none of them has.

    Raises
    ------
    ExploreError
    """
    known = set()
    for name in space.network["name"]:
        if name == SHIPPED:
            continue
        if name.endswith(_FILE):
            if not Path(name).is_file():
                raise ExploreError(f"{space.where}: the checkpoint {name} does not exist")
            continue
        known |= set(_parameters(_entry(name, space.where)))
    for name in space.network:
        if name != "name" and name not in known:
            raise ExploreError(f"{space.where}: {name} is no parameter of "
                               f"{', '.join(space.network['name'])}; "
                               + (f"parameters are {', '.join(sorted(known))}" if known else
                                  "a checkpoint has none"))


def _entry(name, where):
    from bivit.models.registry import network

    try:
        return network(name)
    except ValueError as error:
        raise ExploreError(f"{where}: {error}") from None


def _parameters(entry):
    """Names that can be overridden."""
    names = [field.name for field in dataclasses.fields(entry.config)]
    return [*names, "activations"] if _mlps().keys() & {entry.layers.get("mlp")} else names


def _mlps():
    """Layer of the MLP to the bits of weights and activations."""
    from bivit.models.layers import BinaryMlp
    from bivit.models.multibit import CodedBinaryMlp

    return {BinaryMlp: "W1A1", CodedBinaryMlp: "W1A8"}


def prepare(variant: Variant) -> Prepared:
    """The network as a graph: made, trained and converted once, then from the cache."""
    from bivit.models.digits import CHECKPOINT

    if variant.name == SHIPPED or variant.name.endswith(_FILE):
        if variant.overrides:
            return Prepared(None, problem=f"{variant.name} is a checkpoint, whose sizes are fixed")
        graph = checkpoint.load(CHECKPOINT if variant.name == SHIPPED else variant.name)
        return Prepared(graph, _accuracy(graph))
    folder = cache_folder() / "networks"
    path = folder / f"{variant.key}{_FILE}"
    if not path.exists():
        try:
            entry = _overridden(variant)
            folder.mkdir(parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=folder, prefix=".", suffix=_FILE)
            os.close(handle)
            with contextlib.ExitStack() as cleanup:
                cleanup.callback(Path(scratch).unlink, missing_ok=True)
                _make(variant, entry, scratch)
                os.replace(scratch, path)
        except ValueError as error:  # a UserError, or sizes that contradict each other
            return Prepared(None, problem=str(error))
    graph = checkpoint.load(path)
    return Prepared(graph, _accuracy(graph))


def _accuracy(graph):
    return graph.metadata.get("held_out", {}).get("integer_top1")


def _overridden(variant):
    """The network of the registry with other sizes and layers."""
    entry = _entry(variant.name, "the network")
    sizes, known = dict(variant.overrides), _parameters(entry)
    for name in sizes:
        if name not in known:
            raise UserError(f"{variant.name} has no {name}")
    activations = sizes.pop("activations", None)
    if activations is not None:
        layer = next((mlp for mlp, bits in _mlps().items() if bits == activations), None)
        if layer is None:
            raise UserError(f"there are no activations {activations}, only "
                            f"{' and '.join(_mlps().values())}")
        entry = dataclasses.replace(entry, layers=entry.layers | {"mlp": layer})
    return dataclasses.replace(entry, config=dataclasses.replace(entry.config, **sizes))


def _make(variant, entry, path):
    """Write the checkpoint."""
    if variant.training is None:
        from bivit.models.random_networks import convert_random
        from bivit.sim.images import calibration_images

        convert_random(variant.name, 0, path, calibration_images(entry.config.image_shape),
                       own=entry)
        return
    from bivit.models.data import augment, digits
    from bivit.models.digits import write_checkpoint
    from bivit.models.training import TensorData, train

    training = variant.training
    if entry.config.image_shape != digits("train").images.shape[1:]:
        raise UserError(f"{variant.name} takes images of shape {entry.config.image_shape} and "
                        "training is on digits; leave out [training], or train it and name the "
                        "checkpoint")
    recipe = _short(training, variant.name)
    images, labels = digits("train").tensors()
    trained = train(recipe, TensorData(images, labels, augment), own=entry, seed=training.seed,
                    threads=1)
    write_checkpoint(trained, path, model=variant.name, recipe=recipe, seed=training.seed,
                     threads=1)


def _short(training, name):
    """The recipe, with a share of its epochs."""
    from bivit.models.training import load_recipe

    recipe = load_recipe(training.recipe or name)
    stages = []
    for stage in recipe.stages:
        epochs = max(1, round(stage.epochs * training.epochs))
        stages.append(dataclasses.replace(stage, epochs=epochs,
                                          warm_up=min(stage.warm_up, epochs - 1)))
    return dataclasses.replace(recipe, stages=tuple(stages))


