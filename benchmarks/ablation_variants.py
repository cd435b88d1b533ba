"""What the ablation trains, and which orderings of the papers it looks for."""

import dataclasses

from bivit.models.baselines import BiRealMlp, BoolAttention, BoolMlp, SignAttention
from bivit.models.binaryvit import BinaryViT
from bivit.models.config import BinaryViTConfig, ViTConfig
from bivit.models.headwise import HeadAttention, HeadMlp, HeadNormAttention
from bivit.models.layers import BinaryAttention, BinaryLinear, BinaryMlp
from bivit.models.registry import Network
from bivit.models.variants import (
    BoolBitsAttention,
    FixedScaleLinear,
    SignBitsAttention,
    TwoStepTransformer,
    threshold_attention,
    with_linear,
)
from bivit.models.vit import VisionTransformer

__all__ = ["CLAIMS", "Claim", "FITTED", "IMAGES", "SIZES", "VARIANTS", "Variant"]

IMAGES = 400
"""Images of the 1,437 that a seed trains on."""

SIZES = ViTConfig(img_size=8, in_chans=1, patch_size=2, num_classes=10, embed_dim=64, depth=2,
                  num_heads=2)

FITTED = "fitted"
"""Stands for the threshold that Algorithm 1 and the regression find on the teacher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One network and how it is trained.

    Parameters
    ----------
    group, label : str
        Where in which table it stands.
    layers : dict of str to class
        An attention may be :data:`FITTED`.
    split : tuple of str, optional
        Layers in force in the first half of the epochs; without it there is one stage.
    pretrained : bool
        Begin with the parameters of the float teacher.
    """

    group: str
    label: str
    layers: dict
    family: type = VisionTransformer
    config: object = SIZES
    split: tuple[str, ...] | None = None
    pretrained: bool = True
    ranking: float = 0.0
    zero_points: str = "learned"

    def network(self, share: float) -> Network:
        """The network, `share` being the fitted threshold."""
        layers = {name: threshold_attention(share) if layer is FITTED else layer
                  for name, layer in self.layers.items()}
        return Network(config=self.config, family=self.family, layers=layers, eight_bits={})


def _bivit(group, label, attention, mlp=BinaryMlp, **options):
    layers = {"attention": attention} | ({"mlp": mlp} if mlp else {})
    return Variant(group=group, label=label, layers=layers, **options)


_FIXED = with_linear(BinaryAttention, FixedScaleLinear), with_linear(BinaryMlp, FixedScaleLinear)
_BI_VIT = "Bi-ViT: head-wise scales (LSF) and ranking-aware distillation (RD)"
_BINARYVIT = "BinaryViT: the four additions"
_ONE_STAGE = {"img_size": 8, "in_chans": 1, "num_classes": 10, "patch_size": 2,
              "embed_dims": (64,), "depths": (2,), "num_heads": (2,), "mlp_ratios": (4,),
              "reductions": (1,)}
_PYRAMID = {"img_size": 8, "in_chans": 1, "num_classes": 10, "patch_size": 1,
            "embed_dims": (24, 48, 96), "depths": (1, 1, 1), "num_heads": (1, 2, 4),
            "mlp_ratios": (4, 4, 2), "reductions": (2, 1, 1)}


def _binaryvit(label, sizes, *, average_head, branches, affine):
    config = BinaryViTConfig(**sizes, average_head=average_head, branches=branches, affine=affine)
    return Variant(group=_BINARYVIT, label=label, layers={}, family=BinaryViT, config=config,
                   pretrained=False)


VARIANTS = {
    "attention-sign": _bivit("Attention, MLP in float", "sign", SignBitsAttention, None),
    "attention-bool": _bivit("Attention, MLP in float", "bool", BoolBitsAttention, None),
    "attention-softmax": _bivit("Attention, MLP in float", "softmax-aware, 0.25",
                                BinaryAttention, None),
    "sign": _bivit("Attention, everything binary", "sign", SignBitsAttention),
    "bool": _bivit("Attention, everything binary", "bool", BoolBitsAttention),
    "bivit": _bivit("Attention, everything binary", "softmax-aware, 0.25", BinaryAttention),
    **{f"share-{share}": _bivit("Threshold's share λ of the row's maximum", f"{share}",
                                threshold_attention(share)) for share in (0.1, 0.2, 0.3, 0.4, 0.5)},
    "share-fitted": _bivit("Threshold's share λ of the row's maximum", "fitted, each seed's own",
                           FITTED),
    "clb": _bivit("Cross-layer binarization (CLB)", "CLB: attention, then all", BinaryAttention,
                  split=("attention",)),
    "two-step": Variant(group="Cross-layer binarization (CLB)",
                        label="conventional: activations, then weights",
                        layers={"linear": BinaryLinear}, family=TwoStepTransformer, split=()),
    "scales-fixed": _bivit("Learned scales (PWS)", "nowhere", *_FIXED),
    "scales-attention": _bivit("Learned scales (PWS)", "in the attention", BinaryAttention,
                               _FIXED[1]),
    "scales-mlp": _bivit("Learned scales (PWS)", "in the MLP", _FIXED[0], BinaryMlp),
    "bivit-ranking": _bivit("Ranking-aware distillation on BiViT", "λ = 10", BinaryAttention,
                            ranking=10.0),
    "bi-real": _bivit(_BI_VIT, "base (Bi-Real)", SignAttention, BiRealMlp),
    "bi-real-ranking": _bivit(_BI_VIT, "+ RD", SignAttention, BiRealMlp, ranking=10.0),
    "scales-head": _bivit(_BI_VIT, "+ LSF", HeadAttention, HeadMlp, zero_points="held"),
    "scales-head-ranking": _bivit(_BI_VIT, "+ LSF + RD", HeadAttention, HeadMlp,
                                  zero_points="held", ranking=10.0),
    "scales-head-norm": _bivit(_BI_VIT, "+ LSF + RD + norm of queries and keys",
                               HeadNormAttention, HeadMlp, zero_points="held", ranking=10.0),
    "scales-head-learned": _bivit(_BI_VIT, "+ LSF + RD + norm, zero points learned (code)",
                                  HeadNormAttention, HeadMlp, ranking=10.0),
    "bibert": _bivit("Whole methods", "BiBERT", BoolAttention, BoolMlp),
    "binaryvit-0": _binaryvit("none", _ONE_STAGE, average_head=False, branches=False,
                              affine=False),
    "binaryvit-1": _binaryvit("+ average head", _ONE_STAGE, average_head=True, branches=False,
                              affine=False),
    "binaryvit-2": _binaryvit("+ pooling branches", _ONE_STAGE, average_head=True, branches=True,
                              affine=False),
    "binaryvit-3": _binaryvit("+ affine", _ONE_STAGE, average_head=True, branches=True,
                              affine=True),
    "binaryvit-4": _binaryvit("+ pyramid: all four", _PYRAMID, average_head=True, branches=True,
                              affine=True),
    "binaryvit-no-head": _binaryvit("all but the average head", _PYRAMID, average_head=False,
                                    branches=True, affine=True),
    "binaryvit-no-branches": _binaryvit("all but the pooling branches", _PYRAMID,
                                        average_head=True, branches=False, affine=True),
    "binaryvit-no-affine": _binaryvit("all but affine", _PYRAMID, average_head=True,
                                      branches=True, affine=False),
}
"""Name to what is trained."""

SHARED = {
    "Threshold's share λ of the row's maximum": {"bivit": "0.25"},
    "Cross-layer binarization (CLB)": {"bivit": "without: all at once"},
    "Learned scales (PWS)": {"bivit": "everywhere"},
    "Ranking-aware distillation on BiViT": {"bivit": "without"},
    "Whole methods": {"bi-real": "Bi-Real", "bivit": "BiViT, all at once", "clb": "BiViT, CLB",
                      "scales-head-ranking": "Bi-ViT (paper)", "binaryvit-4": "BinaryViT"},
}
"""Variants that stand in further groups, under other labels."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """`better` is above `worse` in a paper, there by `paper` (top-1 in points)."""

    better: str
    worse: str
    paper: str


CLAIMS = (
    Claim("attention-softmax", "attention-bool", "BiViT: NesT-T 68.51 → 70.73"),
    Claim("bivit", "bool", "BiViT: the same claim, everything binary"),
    Claim("bool", "sign", "BiViT, Bi-ViT: bool above sign (in Bi-ViT's table about equal)"),
    Claim("bivit", "share-0.2", "BiViT: NesT-T 69.18 → 70.73"),
    Claim("bivit", "share-0.5", "BiViT: 0.25 and 0.45 within 0.05"),
    Claim("bivit", "share-fitted", "BiViT: 0.25 is the fitted value, rounded"),
    Claim("clb", "bivit", "BiViT: NesT-T 58.20 → 69.83"),
    Claim("clb", "two-step", "BiViT: NesT-T 65.64 → 69.83"),
    Claim("two-step", "bivit", "BiViT: NesT-T 58.20 → 65.64"),
    Claim("bivit", "scales-fixed", "BiViT: scales learned everywhere help"),
    Claim("bivit", "scales-mlp", "BiViT: NesT-T 68.51 → 72.75 (attention)"),
    Claim("bivit", "scales-attention", "BiViT: NesT-T 70.02 → 71.35 (MLP)"),
    Claim("scales-head", "bi-real", "Bi-ViT: DeiT-T 6.6 → 24.4"),
    Claim("bi-real-ranking", "bi-real", "Bi-ViT: DeiT-T 6.6 → 12.5"),
    Claim("scales-head-ranking", "scales-head", "Bi-ViT: DeiT-T 24.4 → 28.7"),
    Claim("binaryvit-4", "binaryvit-0", "BinaryViT: the four additions together help"),
    Claim("binaryvit-1", "binaryvit-0", "BinaryViT: average head helps"),
    Claim("binaryvit-2", "binaryvit-1", "BinaryViT: pooling branches help"),
    Claim("binaryvit-3", "binaryvit-2", "BinaryViT: affine helps"),
    Claim("binaryvit-4", "binaryvit-3", "BinaryViT: pyramid helps"),
    Claim("clb", "bibert", "BiViT: Swin-T 41.89 → 58.66"),
    Claim("scales-head-ranking", "bibert", "Bi-ViT: DeiT-T 5.9 → 28.7"),
)
