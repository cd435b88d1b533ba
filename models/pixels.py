"""Networks see ``(2 p - 255) / 255``: what others took from the colours goes into the weights."""

import torch

__all__ = ["PATCHES", "PIXELS", "take_up_pixels"]

PIXELS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation that training subtracted from and divided the colours by."""

PATCHES = {"BinaryViT": "vit.embeddings.patch_embeddings.projection"}
"""Name of the patch embedding where it is not timm's, by network class."""


def take_up_pixels(weight, bias, pixels="imagenet"):
    """Patch embedding for ``(2 p - 255) / 255`` of one for ``(p / 255 - mean) / deviation``.

    Parameters
    ----------
    weight : tensor (D, 3, P, P)
    bias : tensor (D,)
    pixels : str
        Key of :data:`PIXELS`.

    Returns
    -------
    weight, bias : tensors
        Rounded once from float64.
    """
    mean, deviation = (torch.tensor(values, dtype=torch.float64)[:, None, None]
                       for values in PIXELS[pixels])
    wide = weight.double()
    shift = (wide * ((0.5 - mean) / deviation)).sum((1, 2, 3))
    return (wide / (2 * deviation)).float(), (bias.double() + shift).float()
