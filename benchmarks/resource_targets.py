"""Targets that the resource model is fitted to, and others that it is compared with."""

import dataclasses

from bivit.hw.arch import PARTS, Arch
from bivit.hw.targets import TARGETS

__all__ = ["FITTED", "HELD_OUT"]

_DEPTHS = {
    "program_depth": 512, "weight_depth": 512, "thr_depth": 128, "scale_depth": 128,
    "norm_depth": 128, "pos_depth": 128, "bend_depth": 128, "bias_depth": 128, "imem_depth": 128,
    "xmem_depth": 128, "hmem_depth": 256, "pmem_depth": 128, "bmem_depth": 256, "kmem_depth": 64,
    "resid_depth": 256, "vmem_depth": 128, "score_tiles": 16, "sums_depth": 16, "pv_depth": 32}
"""Small memories: what block RAM they take is known, and synthesis is quicker."""


def _arch(shape, tile, post_rows=1, *, deeper=1, **others):
    rows, cols, lanes = shape
    depths = {name: depth * deeper for name, depth in _DEPTHS.items()}
    name = "-".join(["x".join(map(str, shape)), "x".join(map(str, tile)), str(post_rows),
                     *([f"deep{deeper}"] if deeper > 1 else []),
                     *(f"no{key.replace('_', '')}" if value is False else
                       f"{key.replace('_', '')}{value}" for key, value in others.items())])
    return Arch(name=name, rows=rows, cols=cols, lanes=lanes, tile_rows=tile[0],
                tile_cols=tile[1], post_rows=post_rows, fabric="ecp5",
                **(depths | {"weights": "loaded"} | others))


FITTED = (
    _arch((2, 4, 16), (2, 2)),
    _arch((4, 4, 64), (2, 2), 2, weights="rom"),
    TARGETS["ecp5-25f"],
    _arch((4, 8, 32), (2, 4)),
    _arch((3, 6, 24), (3, 3), 3),
    _arch((2, 6, 32), (2, 3), weights="streamed", port_bits=64),
    _arch((4, 4, 16), (4, 4), 2, weights="streamed", port_bits=16),
    _arch((2, 4, 16), (2, 2), weights="streamed", port_bits=128),
    _arch((2, 4, 16), (2, 2), row_sums=False, row_moves=False, exponentials=False),
    _arch((4, 4, 32), (2, 2), 2, row_sums=False, row_moves=False, exponentials=False,
          score_biases=False, bends=False),
)
"""Varied as the model's features are."""

HELD_OUT = (
    _arch((2, 4, 32), (2, 2)),
    _arch((4, 4, 48), (2, 2), 2),
    _arch((2, 4, 32), (1, 4), pop_stages=3),
    _arch((4, 8, 32), (1, 4), pop_stages=2),
    _arch((3, 6, 24), (1, 2), 3, pop_stages=2),
    _arch((2, 4, 64), (2, 4), pop_stages=2),
    _arch((2, 4, 64), (1, 1)),
    _arch((4, 8, 64), (2, 2)),
    _arch((4, 8, 64), (4, 8), pop_stages=2),
    _arch((4, 4, 48), (2, 4), 2, pop_stages=2),
    _arch((4, 4, 64), (4, 2), 2),
    _arch((2, 4, 24), (2, 1)),
    _arch((4, 4, 16), (1, 1), 2),
    _arch((3, 6, 48), (1, 3), 3),
    _arch((4, 4, 128), (4, 4), 2, pop_stages=3),
    _arch((4, 8, 16), (4, 4)),
    _arch((2, 4, 128), (2, 2), deeper=2),
    _arch((6, 6, 32), (2, 3), 2, count_bits=10),
    _arch((8, 8, 32), (4, 2)),
    dataclasses.replace(TARGETS["ecp5-85f"], name="ecp5-85f-all-parts",
                        **dict.fromkeys(PARTS, True)),
)
"""Not fitted; those that share most blocks with others come first."""
