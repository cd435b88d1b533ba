"""Index tensors of data movement: which token of an image goes where.

An image is its tokens row by row. ``index[i]`` (or ``index[i, j]``) names the token that output
token i takes (as its j-th part); -1 is none.
"""

import torch
import torch.nn.functional as F

from bivit.models.windows import partition

__all__ = ["inverse", "merging", "neighbours", "spread", "windows"]


def _image(side):
    return torch.arange(side * side).reshape(1, side, side, 1)


def windows(side, size, shift=0):
    """Tokens of the windows of an image rolled by `shift`, one window behind the other: (N,)."""
    return partition(torch.roll(_image(side), (-shift, -shift), (1, 2)), size).flatten()


def inverse(index):
    """The way back of a permutation."""
    result = torch.empty_like(index)
    result[index] = torch.arange(len(index))
    return result


def merging(side):
    """Tokens of each 2x2 square, (0, 0), (1, 0), (0, 1), (1, 1) as row and column: (N / 4, 4)."""
    squares = _image(side)[0, :, :, 0].reshape(side // 2, 2, side // 2, 2)
    return squares.permute(0, 2, 3, 1).reshape(-1, 4)


def neighbours(side, kernel, stride=1):
    """Tokens under a kernel (height, width) that moves by `stride`: (N', height * width).

    A kernel of odd size is centred, with nothing (-1) beyond the border; one as large as `stride`
    divides the image.
    """
    height, width = kernel
    padding = ((width // 2,) * 2 if width % 2 else (0, 0)) + (
        (height // 2,) * 2 if height % 2 else (0, 0))
    padded = F.pad(_image(side)[0, :, :, 0], padding, value=-1)
    under = padded.unfold(0, height, stride).unfold(1, width, stride)
    return under.reshape(-1, height * width)


def spread(side, ratio):
    """Nearest upsampling of an image of `side` tokens by `ratio`: (N * ratio**2,)."""
    return _image(side)[0, :, :, 0].repeat_interleave(ratio, 0).repeat_interleave(
        ratio, 1).flatten()
