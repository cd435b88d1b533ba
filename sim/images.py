"""The images that a build is run on: held-out digits, or a file of the user's."""

import pathlib

import numpy as np

from bivit.sim.stream import ImageError, check_images

__all__ = ["calibration_images", "held_out_digits", "load_images"]

DIGIT_SHAPE = (1, 8, 8)


def load_images(path, shape: tuple[int, int, int], count: int | None = None) -> np.ndarray:
    """Images (N, C, H, W) uint8 of a ``.npy`` file, the first `count` of them.

    Raises
    ------
    ImageError
        If the file cannot be read, or holds another type or shape than `shape` (C, H, W).
    """
    path = pathlib.Path(path)
    try:
        images = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise ImageError(f"{path} is no .npy file of numbers: {error}") from None
    try:
        check_images(images, shape)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    if count is not None and count > len(images):
        raise ImageError(f"{path} holds {len(images)} images, fewer than the {count} asked for")
    return images[:count]


def held_out_digits(shape: tuple[int, int, int], count: int | None = None):
    """Images (N, 1, 8, 8) uint8 and labels (N,) of the first `count` held-out digits.

    Raises
    ------
    ImageError
        If a network for images of `shape` cannot take them, or there are not so many.
    """
    part = _digits("held_out", shape)
    if count is not None and count > len(part):
        raise ImageError(f"there are {len(part)} held-out digits, fewer than the {count} asked for")
    return part.images[:count], part.labels[:count]


def calibration_images(shape: tuple[int, int, int], path=None):
    """Images to calibrate a conversion with, a uint8 tensor.

    Those of a file; else the training digits, or two photographs where digits do not fit.
    """
    import torch

    if path is not None:
        return torch.from_numpy(load_images(path, shape))
    if tuple(shape) == DIGIT_SHAPE:
        return torch.from_numpy(_digits("train", shape).images)
    from bivit.models.photographs import photographs

    return photographs(shape)


def _digits(part, shape):
    from bivit.models.data import digits

    if tuple(shape) != DIGIT_SHAPE:
        raise ImageError(f"the network takes images of shape {tuple(shape)} and the digits have "
                         f"{DIGIT_SHAPE}; give a file with images of your own")
    return digits(part)
