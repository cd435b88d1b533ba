"""What the loop trains on: tensors in memory, or folders of images."""

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from bivit.models.training.images import ImageFolder, order
from bivit.models.training.recipe import TrainError

__all__ = ["FolderData", "TensorData"]


class TensorData:
    """Images and labels in memory.

    Parameters
    ----------
    images : uint8 tensor (N, C, H, W)
    labels : int64 tensor (N,)
    augment : callable (images, generator) -> images, optional
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor,
                 augment: Callable | None = None):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.images)

    def batches(self, batch: int, seed: int):
        """All images once, in an order and with changes that the seed decides."""
        generator = torch.Generator().manual_seed(seed)
        for chosen in torch.randperm(len(self), generator=generator).split(batch):
            images = self.images[chosen]
            yield (self.augment(images, generator) if self.augment else images,
                   self.labels[chosen])

    def sample(self, count: int) -> torch.Tensor:
        """At most `count` images from all over the data, as they are."""
        return self.images[torch.linspace(0, len(self) - 1, min(count, len(self))).round().long()]


class FolderData:
    """A folder of images, decoded by workers.

    Parameters
    ----------
    folder : ImageFolder
    size : int
        Side of the images that the network sees.
    augment : bool
        Random crops and flips; else the middle.
    workers : int
        Processes that decode; the images do not depend on how many.
    """

    def __init__(self, folder: ImageFolder, size: int, *, augment=True, workers=0):
        self.folder, self.size, self.augment, self.workers = folder, size, augment, workers

    def __len__(self):
        return len(self.folder)

    def _loader(self, images, sequence, batch):
        loader = DataLoader(images, batch_size=batch, sampler=sequence, num_workers=self.workers,
                            generator=torch.Generator())
        try:
            yield from loader
        except TrainError as error:  # a worker wraps its traceback around the sentence
            raise TrainError(str(error).rpartition("TrainError: ")[2].strip()) from None

    def batches(self, batch: int, seed: int):
        """All images once, in an order and with crops that the seed decides."""
        images = self.folder.view(self.size, seed=seed if self.augment else None)
        yield from self._loader(images, order(len(self), seed), batch)

    def in_order(self, batch: int):
        """All images once, the middle of each, in the folder's order."""
        yield from self._loader(self.folder.view(self.size), range(len(self)), batch)

    def sample(self, count: int) -> torch.Tensor:
        """The middles of at most `count` images from all over the folder."""
        chosen = torch.linspace(0, len(self) - 1, min(count, len(self))).round().long().tolist()
        loader = self._loader(self.folder.view(self.size), chosen, 64)
        return torch.cat([pixels for pixels, _ in loader])
