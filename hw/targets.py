"""The named targets: plain instances of :class:`bivit.hw.arch.Arch`."""

from bivit.hw.arch import Arch

__all__ = ["DEFAULT", "TARGETS"]

_DEIT = {"row_sums": False, "row_moves": False, "exponentials": False}
"""Parts that BiViT's DeiT does not need, and small devices have no room for."""

TARGETS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, tile_rows=2, tile_cols=2, post_rows=1,
         program_depth=16384, weight_depth=32768, thr_depth=4096, scale_depth=4096, norm_depth=4096,
         pos_depth=4096, bend_depth=4096, bias_depth=4096, imem_depth=2048, xmem_depth=16384,
         hmem_depth=8192, pmem_depth=4096, bmem_depth=8192, kmem_depth=256, pv_depth=256,
         resid_depth=16384, vmem_depth=16384, sums_depth=128),
    Arch(name="odd", rows=3, cols=5, lanes=24, tile_rows=1, tile_cols=5, post_rows=2,
         weights="loaded",
         program_depth=16384, weight_depth=32768, thr_depth=4096, scale_depth=4096, norm_depth=4096,
         pos_depth=4096, bend_depth=4096, bias_depth=4096, imem_depth=2048, xmem_depth=16384,
         hmem_depth=8192, pmem_depth=4096, bmem_depth=8192, kmem_depth=256, pv_depth=256,
         resid_depth=16384, vmem_depth=16384, sums_depth=128),
    Arch(name="ecp5-25f", fabric="ecp5", rows=4, cols=4, lanes=64, tile_rows=2, tile_cols=2,
         post_rows=1),
    # Leaves the device some room to place it: memories of 16 words are made of LUTs
    # (docs/synthesis.md).
    Arch(name="ecp5-85f", fabric="ecp5", rows=8, cols=8, lanes=64, tile_rows=8, tile_cols=4,
         post_rows=1, pop_stages=5, count_bits=10, score_tiles=4, program_depth=512,
         weight_depth=3072, thr_depth=512, scale_depth=512, norm_depth=512, pos_depth=512,
         bend_depth=8, bias_depth=8, imem_depth=16, xmem_depth=512, hmem_depth=512,
         pmem_depth=16, bmem_depth=512, kmem_depth=16, resid_depth=1024, vmem_depth=16,
         sums_depth=16, **_DEIT),
    Arch(name="zynq-7020", fabric="lut6-xc7", rows=6, cols=8, lanes=64, tile_rows=2, tile_cols=4,
         post_rows=3, norm_depth=2048, bend_depth=512),
    Arch(name="k26", fabric="lut6-xcup", rows=16, cols=16, lanes=64, tile_rows=4, tile_cols=4,
         post_rows=6, pop_stages=3),
    # For networks of ImageNet's size: constants from external memory, and just the memories that
    # their values need (docs/memory.md, section 8).
    Arch(name="zynq-7020-streamed", fabric="lut6-xc7", rows=8, cols=8, lanes=32, tile_rows=4,
         tile_cols=4, post_rows=2, weights="streamed", port_bits=64, score_slots=2, score_tiles=32,
         program_depth=512, weight_depth=5120, thr_depth=512, scale_depth=256, norm_depth=64,
         pos_depth=512, bend_depth=64, bias_depth=64, imem_depth=512, xmem_depth=512,
         hmem_depth=1024, pmem_depth=1024, bmem_depth=1024, kmem_depth=64, pv_depth=64,
         resid_depth=2560, vmem_depth=64, sums_depth=8, **_DEIT),
    Arch(name="k26-streamed", fabric="lut6-xcup", rows=8, cols=16, lanes=64, tile_rows=4,
         tile_cols=4, post_rows=2, pop_stages=2, weights="streamed", port_bits=128, score_slots=4,
         score_tiles=16, program_depth=512, weight_depth=8192, thr_depth=1024, scale_depth=1024,
         norm_depth=64, pos_depth=1024, bend_depth=64, bias_depth=64, imem_depth=512,
         xmem_depth=512, hmem_depth=1536, pmem_depth=1024, bmem_depth=512, kmem_depth=64,
         pv_depth=64, resid_depth=8192, vmem_depth=128, sums_depth=8, **_DEIT),
    Arch(name="zcu102-streamed", fabric="lut6-xcup", rows=8, cols=8, lanes=64, tile_rows=4,
         tile_cols=4, post_rows=4, pop_stages=2, weights="streamed", port_bits=128, score_slots=4,
         score_tiles=32, program_depth=2048, weight_depth=3072, thr_depth=1024, scale_depth=1024,
         norm_depth=512, pos_depth=64, bend_depth=64, bias_depth=1024, imem_depth=512,
         xmem_depth=2560, hmem_depth=2560, pmem_depth=1024, bmem_depth=2560, kmem_depth=64,
         pv_depth=1024, resid_depth=9728, vmem_depth=9728, sums_depth=128),
    Arch(name="alveo-u50-streamed", fabric="lut6-xcup", rows=8, cols=8, lanes=64, tile_rows=4,
         tile_cols=4, post_rows=8, pop_stages=2, weights="streamed", port_bits=128, score_slots=4,
         score_tiles=32, program_depth=8192, weight_depth=8192, thr_depth=2048, scale_depth=2048,
         norm_depth=512, pos_depth=4096, bend_depth=512, bias_depth=1024, imem_depth=512,
         xmem_depth=4096, hmem_depth=4096, pmem_depth=1024, bmem_depth=4096, kmem_depth=2048,
         pv_depth=1024, resid_depth=28672, vmem_depth=8192, sums_depth=128),
)}
"""Target name to parameters."""

DEFAULT = "zynq-7020"
"""The target of the demo."""
