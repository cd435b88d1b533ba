"""How large the values in a network get."""

import torch

__all__ = ["magnitudes"]


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
