"""Names of the networks that have an integer form."""

__all__ = ["FULL", "MICRO"]

DEIT = ("bivit", "bivit_w1a8", "bi_vit", "bi_real", "bibert")
SWIN = ("bivit", "bivit_fp_merging", *DEIT[1:])
NEST = ("bivit", "bivit_w1a8", "bibert")


def _sizes(deit, swin, nest, binaryvit):
    return (*(f"{method}_deit_{size}" for size in deit for method in DEIT),
            *(f"{method}_swin_{size}" for size in swin for method in SWIN),
            *(f"{method}_nest_{size}" for size in nest for method in NEST),
            *(f"{some}binaryvit{binaryvit}" for some in ("", "some_fp_")))


MICRO = _sizes(("micro",), ("micro",), ("micro",), "_micro")
"""Those of 32x32 images."""
FULL = _sizes(("tiny", "small", "base"), ("tiny", "small"), ("tiny",), "")
"""Those of 224x224 images."""
