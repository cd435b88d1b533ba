"""Images to the bytes of the input stream."""

import numpy as np

from bivit.compiler.ir.errors import UserError

__all__ = ["ImageError", "batch_streams", "check_images", "image_stream"]

_BEAT_BYTES = 4


class ImageError(UserError):
    """Images that the network does not take; the message is one sentence."""


def check_images(images, shape) -> np.ndarray:
    """`images` if they are (n, C, H, W) uint8 with the network's `shape` (C, H, W).

    Raises
    ------
    ImageError
    """
    shape = tuple(shape)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise ImageError(f"images must be a uint8 array of pixels, not {kind}")
    if images.ndim != 4 or images.shape[1:] != shape:
        raise ImageError(f"images have shape {images.shape}, and this network takes (n, "
                         f"{', '.join(map(str, shape))}): channels, height, width")
    if not len(images):
        raise ImageError("there are no images")
    return images


def image_stream(image, patch_size) -> bytes:
    """The input stream of one image (C, H, W) uint8.

    Tokens in order (patches row by row); the pixels of a token in the order channel, row, column,
    padded with zeros to whole beats of 4 bytes.
    """
    channels, height, width = image.shape
    tokens = image.reshape(channels, height // patch_size, patch_size, width // patch_size,
                           patch_size).transpose(1, 3, 0, 2, 4)
    tokens = tokens.reshape(-1, channels * patch_size**2)
    return np.pad(tokens, ((0, 0), (0, -tokens.shape[1] % _BEAT_BYTES))).tobytes()


def batch_streams(images, patch_size, batch) -> list[bytes]:
    """The input streams of groups of `batch` images; the last one is filled up with its last."""
    streams = [image_stream(image, patch_size) for image in images]
    streams += streams[-1:] * (-len(streams) % batch)
    return [b"".join(streams[start:start + batch]) for start in range(0, len(streams), batch)]
