"""How large a float network's values get, and the binary points that follow."""

import math

import torch

from bivit.compiler.ir.numeric import RESCALE_SHIFTS

__all__ = ["HEADROOM", "finest_unit", "fraction", "magnitudes"]

HEADROOM = 1.5
"""Numbers hold this times the greatest magnitude of the calibration images."""
LARGEST_SCALE = (2**15 - 1) / 2 ** min(RESCALE_SHIFTS)


def magnitudes(model, images, places, *, batch=64) -> dict[str, float]:
    """Greatest magnitude at some places of a network.

    Parameters
    ----------
    images : uint8 tensor (N, C, H, W)
    places : dict of str to list of (module, "input" or "output")
        The greatest of all of a list is its name's.
    """
    greatest, hooks = dict.fromkeys(places, 0.0), []

    def record(name, side):
        def hook(_, inputs, output):
            value = inputs[0] if side == "input" else output
            greatest[name] = max(greatest[name], float(value.abs().max()))
        return hook

    for name, found in places.items():
        hooks += [module.register_forward_hook(record(name, side)) for module, side in found]
    try:
        with torch.no_grad():
            for part in images.split(batch):
                model(part)
    finally:
        for hook in hooks:
            hook.remove()
    return greatest


def finest_unit(greatest: float, scales=(), *, low=-8, high=12) -> float:
    """What one is in 16-bit numbers that reach `greatest`: any number from 2**low to 2**high.

    Parameters
    ----------
    scales : iterable of float
        Greatest scales of the products that become such numbers: they must fit theirs.
    """
    room = (2**15 - 1) / (HEADROOM * greatest + 1e-9)
    steepest = max([abs(scale) for scale in scales], default=0.0)
    return max(2.0**low, min(2.0**high, room, LARGEST_SCALE / (steepest + 1e-9)))


def fraction(greatest: float, scales=(), *, low=-8, high=12) -> int:
    """Fractional bits of such numbers, where one is a power of two."""
    return math.floor(math.log2(finest_unit(greatest, scales, low=low, high=high)))
