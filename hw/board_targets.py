"""Targets for boards: the smallest machines that hold a digits network (``docs/boards.md``)."""

from bivit.hw.arch import Arch

__all__ = ["BOARD_TARGETS"]

_WITHOUT = dict.fromkeys(("row_sums", "row_moves", "exponentials", "score_biases", "bends",
                          "loops"), False)
"""The digits networks are BiViT's: they need none of these."""

_SMALLEST = dict(rows=2, cols=2, lanes=32, tile_rows=2, tile_cols=2, score_slots=2, score_tiles=16,
                 bend_depth=1, bias_depth=1, imem_depth=16, pmem_depth=16, kmem_depth=1,
                 vmem_depth=1, stem_depth=1, stem_scale_depth=1, smem_depth=1) | _WITHOUT

BOARD_TARGETS = {arch.name: arch for arch in (
    Arch(name="ulx3s-85f-digits", fabric="ecp5", **_SMALLEST, count_bits=10, program_depth=2610,
         weight_depth=12960, thr_depth=1856, scale_depth=650, norm_depth=576, pos_depth=1152,
         xmem_depth=36, hmem_depth=144, bmem_depth=100, pv_depth=64, resid_depth=1152),
    Arch(name="colorlight-i5-digits", fabric="ecp5", **_SMALLEST, count_bits=8, acc_bits=24,
         program_depth=684, weight_depth=1360, thr_depth=352, scale_depth=202, norm_depth=160,
         pos_depth=576, xmem_depth=18, hmem_depth=36, bmem_depth=50, pv_depth=32, resid_depth=576),
    Arch(name="tang-mega-138k-digits", **_SMALLEST, count_bits=10, program_depth=2610,
         weight_depth=12960, thr_depth=1856, scale_depth=650, norm_depth=576, pos_depth=1152,
         xmem_depth=36, hmem_depth=144, bmem_depth=100, pv_depth=64, resid_depth=1152),
)}
"""Target name to parameters: that of the ULX3S-85F holds the shipped network, that of the
Colorlight i5 the small one (:data:`bivit.models.digits.SMALL_CHECKPOINT`)."""
