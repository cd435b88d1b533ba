"""Whose checkpoint it is, by the names of its tensors, and which network of the registry fits."""

import dataclasses
import functools
import re

import torch

from bivit.models import registry
from bivit.models.foreign import ForeignFileError

__all__ = ["Recognised", "choose", "recognise", "sized", "some", "to_timm"]

BACKBONES = {
    "DeiT": r"blocks\.\d+\.", "Swin": r"layers\.\d+\.blocks\.\d+\.",
    "NesT": r"levels\.\d+\.transformer_encoder\.\d+\.", "BinaryViT": r"vit\.encoder\.",
}
METHODS = {"BiViT": r".*\.scaling_factor", "Bi-ViT": r".*\.q_act\."}
"""Names that only one backbone, or one method, has."""

CANDIDATES = {
    "": ("", "distilled_"), "BiViT": ("bivit_w1a32_", "bivit_", "bivit_fp_merging_"),
    "Bi-ViT": ("bi_vit_",), "BinaryViT": ("", "some_fp_"),
}
"""Networks of a method, as the registry's names begin; of equals the first is taken."""

HEADS = ("head.weight", "head.fc.weight", "classifier.weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognised:
    """Whose tensors a checkpoint holds.

    Parameters
    ----------
    method : str
        A key of :data:`CANDIDATES`; empty for a float network.
    backbone : str
        A key of :data:`BACKBONES`.
    official_names : bool
        Swin's own names, not timm's.
    """

    method: str
    backbone: str
    official_names: bool = False

    def __str__(self):
        method = self.method or "float"
        names = " in the official names" if self.official_names else ""
        return self.backbone + names if method == self.backbone else (
            f"{method} {self.backbone}{names}")


def recognise(tensors, path="the checkpoint") -> Recognised:
    """Whose tensors these are, by their names.

    Raises
    ------
    ForeignFileError
        If the names are nobody's, or of several.
    """
    backbones, methods = ({label: name for label, pattern in patterns.items()
                           for name in reversed(tensors) if re.match(pattern, name)}
                          for patterns in (BACKBONES, METHODS))
    if "BinaryViT" in backbones:
        methods["BinaryViT"] = backbones["BinaryViT"]
    for found in (backbones, methods):
        if len(found) > 1:
            said = " and ".join(f"{label} ({name})" for label, name in found.items())
            raise ForeignFileError(f"{path} mixes tensors of {said}; give a checkpoint of one "
                                   "network")
    if not backbones:
        raise ForeignFileError(f"{path} holds no network that bivit knows: none of its "
                               f"{len(tensors)} tensors ({some(tensors)}) is named as in DeiT, "
                               "Swin, NesT or BinaryViT")
    (backbone,), method = backbones, next(iter(methods), "")
    return Recognised(method=method, backbone=backbone,
                      official_names=backbone == "Swin" and _official(tensors))


def _official(tensors):
    return any(name.startswith("layers.0.downsample.") for name in tensors) or "head.weight" in (
        tensors)


def to_timm(tensors):
    """Official Swin's tensors under the names of timm 1.0.

    Returns
    -------
    dict of str to tensor
        Merging belongs to the stage behind it; the head is called ``head.fc``.
    """
    result = {}
    for name, value in tensors.items():
        name = re.sub(r"^layers\.(\d+)\.downsample\.",
                      lambda found: f"layers.{int(found[1]) + 1}.downsample.", name)
        result[re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", name)] = value
    return result


def choose(recognised: Recognised, tensors, path="the checkpoint") -> list[str]:
    """Names of the networks that fit best, with equally many equal names and shapes."""
    family = recognised.backbone.lower() + ("" if recognised.backbone == "BinaryViT" else "_")
    ranks = {name: rank for rank, prefix in enumerate(CANDIDATES[recognised.method])
             for name in registry.networks() if name.startswith(prefix + family)}
    if not ranks:
        raise ForeignFileError(f"{path} holds {recognised}, and bivit has no such network")
    widths = {value.numel() for name, value in tensors.items()
              if name.endswith((".proj.bias", ".projection.bias")) and "patch_embed" in name}
    near = {name for name in ranks if registry.network(name).config.embed_dim in widths}
    scores = {name: (_misfits(name, tensors), ranks[name]) for name in near or ranks}
    least = min(misfits for misfits, _ in scores.values())
    return sorted((name for name, (misfits, _) in scores.items() if misfits == least),
                  key=ranks.get)


def _misfits(name, tensors):
    """Missing, unexpected and wrongly shaped tensors of a network."""
    expected = _shapes(name, sized(name, tensors).config.num_classes)
    return len(expected.keys() ^ tensors.keys()) + sum(
        shape != tuple(tensors[key].shape) for key, shape in expected.items() if key in tensors)


def sized(name: str, tensors):
    """The registry's entry with as many classes as the head has."""
    return _entry(name, next((len(tensors[key]) for key in HEADS
                              if key in tensors and tensors[key].ndim), None))


def _entry(name, classes):
    entry = registry.network(name)
    if not classes:
        return entry
    config = dataclasses.replace(entry.config, num_classes=classes)
    return dataclasses.replace(entry, config=config)


@functools.cache
def _shapes(name, classes):
    with torch.device("meta"):
        state = _entry(name, classes).build().state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def some(names, count=3):
    """The first few names."""
    return ", ".join(list(names)[:count]) + (", …" if len(names) > count else "")
