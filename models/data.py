"""scikit-learn's digits: 1,797 scanned 8x8 digits, one fixed split, and augmentation."""

import dataclasses
import functools

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["Digits", "SPLIT_SEED", "augment", "digits"]

SPLIT_SEED = 20240229
HELD_OUT = 360
VALIDATION = 180


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8) uint8 and labels (N,) int64 of one part of the data."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels as PyTorch tensors."""
        return torch.from_numpy(self.images), torch.from_numpy(self.labels)


def _stratified(labels, count, rng):
    """Indices of `count` samples, classes in proportion (largest remainder), and of the rest."""
    classes, sizes = np.unique(labels, return_counts=True)
    share = sizes * count / len(labels)
    take = np.floor(share).astype(int)
    for index in np.argsort(take - share, kind="stable")[:count - take.sum()]:
        take[index] += 1
    chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:number]
                             for label, number in zip(classes, take, strict=True)])
    return np.sort(chosen), np.setdiff1d(np.arange(len(labels)), chosen)


@functools.cache
def _load():
    """All 1,797 images and labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images.astype(np.int64) * 255 // 16).astype(np.uint8)[:, None]
    return images, data.target.astype(np.int64)


def digits(part: str) -> Digits:
    """One part of the digits; the split is the same everywhere.

    Parameters
    ----------
    part : {"train", "held_out", "fit", "validation"}
        1,437 images for training and 360 held out. ``fit`` and ``validation`` divide the 1,437
        for choices; the held-out images are for measuring only.

    Returns
    -------
    Digits
        Pixels 0..16 of the data are scaled to ``p * 255 // 16``.
    """
    images, labels = _load()
    held_out, train = _stratified(labels, HELD_OUT, np.random.RandomState(SPLIT_SEED))
    validation, fit = _stratified(labels[train], VALIDATION, np.random.RandomState(SPLIT_SEED + 1))
    parts = {"train": train, "held_out": held_out, "fit": train[fit],
             "validation": train[validation]}
    if part not in parts:
        raise ValueError(f"the digits have no part {part!r}; parts are {', '.join(parts)}")
    return Digits(images[parts[part]], labels[parts[part]])


def augment(images, generator, *, shift=0.5, rotate=0.15, scale=0.08, shear=0.1):
    """Small random affine maps of uint8 images (N, C, H, W), bilinear, black outside.

    `shift` is in pixels, `rotate` and `shear` in radians, `scale` relative; uniform in both
    directions.
    """
    count, size = len(images), images.shape[-1]

    def uniform(limit):
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, slant = uniform(rotate), uniform(shear)
    zoom_x, zoom_y = 1 + uniform(scale), 1 + uniform(scale)
    move_x, move_y = uniform(2 * shift / size), uniform(2 * shift / size)
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([
        torch.stack([cos * zoom_x, (slant - sin) * zoom_y, move_x], -1),
        torch.stack([sin * zoom_x, cos * zoom_y, move_y], -1)], 1)
    grid = F.affine_grid(matrix, images.shape, align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return moved.round().clamp(0, 255).to(torch.uint8)
