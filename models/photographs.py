"""Two photographs that come with scikit-learn, for networks of which no other images are known."""

import torch
import torch.nn.functional as F

from bivit.compiler.ir.errors import UserError

__all__ = ["photographs"]


def photographs(shape: tuple[int, int, int]) -> torch.Tensor:
    """The middles of both photographs at a size, uint8 (2, C, H, W); grey if C is 1."""
    from sklearn.datasets import load_sample_images

    channels, height, width = shape
    try:
        pictures = load_sample_images().images
    except ImportError:
        raise UserError("scikit-learn's photographs need Pillow, which is not installed; install "
                        "it or give images of your own") from None
    result = []
    for picture in pictures:
        side = min(picture.shape[:2])
        top, left = ((size - side) // 2 for size in picture.shape[:2])
        square = torch.from_numpy(picture[top:top + side, left:left + side].copy())
        square = square.permute(2, 0, 1)[None].float()
        square = F.interpolate(square, (height, width), mode="bilinear", antialias=True)
        result.append(square if channels == 3 else square.mean(1, keepdim=True))
    return torch.cat(result).round().clamp(0, 255).to(torch.uint8)
