"""What a build must compute: the PyTorch integer model of its own checkpoint."""

import pathlib

import numpy as np

from bivit.compiler.fuse import inner_nodes, live_nodes
from bivit.compiler.ir.errors import UserError

__all__ = ["MissingReference", "Reference"]

_BATCH = 32
_UNOBSERVED_OPS = ("patchify", "select", "gather", "tile_channels")
"""Operations that only move what others compute."""


class MissingReference(UserError):
    """A check against PyTorch that cannot be made."""


class Reference:
    """The integer model of a checkpoint.

    Parameters
    ----------
    folder : path
        The build folder.
    graph : Graph
        Of its checkpoint.

    Raises
    ------
    MissingReference
        If PyTorch is not installed.
    """

    def __init__(self, folder, graph):
        try:
            import torch
        except ImportError:
            raise MissingReference(
                "the check compares with PyTorch, which is not installed; install bivit[train], or "
                "simulate without --check") from None
        from bivit.models import load

        self._torch, self._last = torch, graph.nodes[-1].name
        self._model = load(pathlib.Path(folder) / "checkpoint.safetensors")
        live, inner = live_nodes(graph), inner_nodes(graph)
        self._unwritten = {node.name for node in graph.nodes if node.op in _UNOBSERVED_OPS
                           or node.name not in live or node.name in inner}

    def values(self, images, observed, names) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What uint8 images (images, C, H, W) must give.

        Parameters
        ----------
        images : uint8 array
        observed : int
            How many of them to look at in detail.
        names : collection of str
            Observation points.

        Returns
        -------
        dict of str to array, int64 array
            Tensors (observed, ...) in network order; logits (images, count) of all.

        Raises
        ------
        MissingReference
            If `names` leaves out a value that some instruction computes.
        """
        parts = [self._model.observe(part) for part in self._parts(images[:observed])]
        logits = [part[self._last].flatten(1).numpy() for part in parts]
        logits += [self._model(part).numpy() for part in self._parts(images[observed:])]
        every = list(parts[0]) if parts else []
        if missing := set(every) - self._unwritten - set(names):
            raise MissingReference("the manifest of the build names no instruction for "
                                   f"{', '.join(sorted(missing))}; compile again")
        tensors = {name: np.concatenate([part[name].numpy() for part in parts])
                   for name in every if name in names}
        return tensors, np.concatenate(logits)

    def _parts(self, images):
        tensor = self._torch.from_numpy(np.ascontiguousarray(images))
        return tensor.split(_BATCH) if len(tensor) else ()
