"""Folders of images, one folder a class: found, decoded and cropped with Pillow.

Pixels stay uint8: networks take them as they are.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from bivit.models.training.recipe import TrainError

__all__ = ["ImageFolder", "View", "middle", "order", "random_crop"]

ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Shares of the area and ratios of the sides that random crops have."""

MARGIN = 256 / 224
"""The shorter side is resized to this times the crop before the middle is cut out."""


def order(count: int, seed: int) -> list[int]:
    """The numbers below `count` in an order that the seed decides."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def random_crop(image, size, rng):
    """RandomResizedCrop(0.08 to 1, 3/4 to 4/3) to a square, mirrored half of the time.

    Parameters
    ----------
    image : PIL.Image
    size : int
    rng : numpy.random.Generator
    """
    from PIL import Image

    width, height = image.size
    box = None
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, upper = rng.integers(width - wide + 1), rng.integers(height - high + 1)
            box = left, upper, left + wide, upper + high
            break
    if box is None:  # a very long image: its middle
        wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
        left, upper = (width - wide) // 2, (height - high) // 2
        box = left, upper, left + wide, upper + high
    box = tuple(map(int, box))
    cropped = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cropped


def middle(image, size):
    """The middle square of an image whose shorter side becomes 8/7 of `size`."""
    from PIL import Image

    shorter = round(size * MARGIN)
    width, height = image.size
    scale = shorter / min(width, height)
    width, height = max(shorter, round(width * scale)), max(shorter, round(height * scale))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, upper = (width - size) // 2, (height - size) // 2
    return image.crop((left, upper, left + size, upper + size))


class ImageFolder:
    """Images in one folder a class; classes are numbered in the order of their names.

    Parameters
    ----------
    path : path-like
    channels : int
        3 for colours, 1 for grey.

    Raises
    ------
    TrainError
        In one sentence, if there is nothing to train on.
    """

    def __init__(self, path, *, channels=3):
        self.path, self.channels = Path(path), channels
        if not self.path.is_dir():
            raise TrainError(f"the folder {path} does not exist; give one with a folder of images "
                             "for each class")
        self.classes = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())
        self.files = [(file, label) for label, name in enumerate(self.classes)
                      for file in sorted((self.path / name).rglob("*"))
                      if file.suffix.lower() in ENDINGS]
        if not self.files:
            raise TrainError(f"the folder {path} holds no images; it needs a folder for each "
                             f"class with files that end in {', '.join(sorted(ENDINGS))}")
        for label in sorted(set(range(len(self.classes))) - {label for _, label in self.files}):
            raise TrainError(f"the folder {self.path / self.classes[label]} holds no images; put "
                             "some there or delete it")
        if len(self.classes) < 2:
            raise TrainError(f"the folder {path} holds one class only; it needs a folder for each "
                             "of at least two classes")

    def __len__(self):
        return len(self.files)

    def decode(self, index):
        """The image of a number, with the channels that are wanted."""
        from PIL import Image

        file = self.files[index][0]
        try:
            with Image.open(file) as image:
                return image.convert("RGB" if self.channels == 3 else "L")
        except Exception as error:
            raise TrainError(f"{file} cannot be read as an image "
                             f"({' '.join(str(error).split())}); mend or delete it") from None

    def view(self, size: int, *, seed: int | None = None) -> "View":
        """Squares of the images: random crops that the seed decides, or the middles."""
        return View(self, size, seed)


class View(Dataset):
    """Squares of the images of a folder as uint8 tensors (C, H, W), with their labels."""

    def __init__(self, folder, size, seed):
        self.folder, self.size, self.seed = folder, size, seed

    def __len__(self):
        return len(self.folder)

    def __getitem__(self, index):
        image = self.folder.decode(index)
        if self.seed is None:
            square = middle(image, self.size)
        else:
            square = random_crop(image, self.size, np.random.default_rng((self.seed, index)))
        pixels = np.array(square, dtype=np.uint8).reshape(self.size, self.size, -1)
        return torch.from_numpy(pixels).permute(2, 0, 1), self.folder.files[index][1]
