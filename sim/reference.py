"""What a build must compute: the PyTorch integer model of its own checkpoint."""

import pathlib

import numpy as np

from bivit.compiler.ir.errors import UserError
from bivit.sim.observe import ObservationError

__all__ = ["Reference", "MissingReference"]

_BATCH = 32
_UNOBSERVED_OPS = ("patchify", "select")


class MissingReference(UserError):
    """The check against PyTorch cannot be made."""


class Reference:
    """The integer model of a checkpoint.

    Parameters
    ----------
    path : path of the checkpoint

    Raises
    ------
    MissingReference
        If PyTorch is not installed.
    """

    def __init__(self, path):
        try:
            import torch
        except ImportError:
            raise MissingReference(
                "the check compares with PyTorch, which is not installed; install bivit[train], or "
                "simulate without --check") from None
        from bivit.compiler.ir import checkpoint
        from bivit.models import load

        self._torch = torch
        self._model = load(pathlib.Path(path))
        self._moved = {node.name for node in checkpoint.load(pathlib.Path(path)).nodes
                       if node.op in _UNOBSERVED_OPS}

    def logits(self, images) -> np.ndarray:
        """Logits (images, count) of uint8 images (images, C, H, W)."""
        return np.concatenate([self._model(part).numpy() for part in self._parts(images)])

    def observe(self, images, names) -> dict[str, np.ndarray]:
        """Tensors (images, ...) of the observation points `names`, in network order.

        Raises
        ------
        ObservationError
            If `names` leaves out a value that some instruction computes.
        """
        parts = [self._model.observe(part) for part in self._parts(images)]
        every = list(parts[0])
        if missing := set(every) - self._moved - set(names):
            raise ObservationError(f"the build does not observe {', '.join(sorted(missing))}")
        return {name: np.concatenate([part[name].numpy() for part in parts])
                for name in every if name in names}

    def _parts(self, images):
        tensor = self._torch.from_numpy(np.ascontiguousarray(images))
        return tensor.split(_BATCH)
