"""Networks for 224x224 images and the arrays that they are measured on.

Weights are random; memories are as large as the largest network asks for.
"""

import pathlib

import numpy as np

from bivit.hw.arch import Arch
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random

__all__ = ["ARRAYS", "NETWORKS", "PAIRS", "ROOM", "checkpoint_of", "images_of"]

ROOM = {
    "program_depth": 1 << 16, "thr_depth": 1 << 16, "scale_depth": 1 << 16, "norm_depth": 1 << 16,
    "pos_depth": 1 << 16, "bend_depth": 1 << 16, "bias_depth": 1 << 16, "imem_depth": 1 << 16,
    "xmem_depth": 1 << 16, "hmem_depth": 1 << 16, "pmem_depth": 1 << 14, "bmem_depth": 1 << 16,
    "kmem_depth": 1 << 14, "pv_depth": 1 << 12, "resid_depth": 1 << 16, "vmem_depth": 1 << 16,
    "sums_depth": 1 << 8, "smem_depth": 1 << 16, "stem_depth": 1 << 15,
    "stem_scale_depth": 1 << 12,
}
"""Memories in which every network finds room."""


def _array(name, rows, cols, post_rows, weight_depth):
    return Arch(name=name, rows=rows, cols=cols, lanes=64, tile_rows=4, tile_cols=4,
                post_rows=post_rows, pop_stages=2, weight_depth=weight_depth, **ROOM)


ARRAYS = {arch.name: arch for arch in (
    _array("8x8x64", 8, 8, 3, 1 << 18),
    _array("8x8x64-g8", 8, 8, 8, 1 << 18),
    _array("16x16x64", 16, 16, 6, 1 << 16),
)}
"""Arrays by name: rows, columns, lanes, and the rows of arithmetic lanes where they differ."""
NETWORKS = {"bivit_deit_tiny": ("8x8x64", "16x16x64"), "bivit_deit_small": ("8x8x64",),
            "bivit_deit_base": ("8x8x64",), "bivit_swin_tiny": ("8x8x64-g8",),
            "bivit_swin_small": ("8x8x64-g8",), "binaryvit": ("8x8x64-g8",)}
"""Networks, and the arrays that each runs on."""


PAIRS = tuple(f"{network}/{array}" for network, arrays in NETWORKS.items() for array in arrays)
"""``network/array`` for each of them."""


def images_of(count: int, size: int = 224) -> np.ndarray:
    """`count` different images, uint8: two photographs, turned to the side."""
    pictures = photographs((3, size, size)).numpy()
    return np.stack([np.roll(pictures[index % 2], 16 * (index // 2), axis=-1)
                     for index in range(count)])


def checkpoint_of(network: str, folder: pathlib.Path, size: int = 224) -> pathlib.Path:
    """A checkpoint of random weights, seed 0, in `folder`, for images of `size`."""
    path = folder / f"{network}.safetensors"
    if not path.exists():
        convert_random(network, 0, path, photographs((3, size, size))[:1])
    return path
