"""A trained float model to integers: every real number is rounded here, once, in float64.

One file a family of backbones; what they share: constants (one rounding each), calibration (binary
points), attention, blocks, and settling (the float parameters rounded to what the integers hold).
"""

import torch

from bivit.models.binaryvit import BinaryViT
from bivit.models.conversion.attention import softmax_delta
from bivit.models.conversion.binaryvit import convert_binaryvit, settle_binaryvit
from bivit.models.conversion.constants import ConvertError, rescale_constants, sign_constants
from bivit.models.conversion.deit import convert_vit, settle_vit
from bivit.models.conversion.nest import convert_nest, settle_nest
from bivit.models.conversion.swin import convert_swin, settle_swin
from bivit.models.multibit import fit_steps
from bivit.models.nest import Nest
from bivit.models.swin import Swin
from bivit.models.vit import VisionTransformer

__all__ = ["ConvertError", "convert", "rescale_constants", "settle", "sign_constants",
           "softmax_delta"]

_FAMILIES = {
    VisionTransformer: (convert_vit, settle_vit),
    Swin: (convert_swin, settle_swin),
    Nest: (convert_nest, settle_nest),
    BinaryViT: (convert_binaryvit, settle_binaryvit),
}


def _family(model):
    for kind, functions in _FAMILIES.items():
        if isinstance(model, kind):
            return functions
    raise ConvertError(f"the model itself: {type(model).__name__} has no integer form; use one of "
                       f"{', '.join(kind.__name__ for kind in _FAMILIES)}")


def _check(model):
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            layer, _, parameter = name.rpartition(".")
            raise ConvertError(f"layer {layer or 'the model itself'}: {parameter} holds NaN or "
                               "infinite values; train it again or mend the checkpoint")


@torch.no_grad()
def settle(model, calibration) -> None:
    """Round the parameters of a trained model to what the integers hold, in place.

    Steps of coded layers are set from the images. Scales, biases and positions become multiples of
    the residual stream's least significant bit, the thresholds that LayerNorm and sign make
    become multiples of their own, and the patch embedding rounds its result, as far as the family
    has such parameters. The float model then adds the same numbers as the integer model, and few of
    their bits differ.

    Parameters
    ----------
    calibration : uint8 tensor (N, C, H, W)
    """
    _check(model)
    fit_steps(model, calibration)
    _family(model)[1](model, calibration)


@torch.no_grad()
def convert(model, calibration):
    """The integer model of a trained binary network.

    Parameters
    ----------
    model : VisionTransformer, Swin, Nest or BinaryViT
        With the first and the last layer in 8 bits.
    calibration : uint8 tensor (N, C, H, W)
        Training images, which decide where the binary points lie.

    Returns
    -------
    nn.Module
        A composition of integer layers: pixels (B, C, H, W) uint8 to logits (B, 1, classes).

    Raises
    ------
    ConvertError
        In one sentence: the layer, the reason and what to change.
    """
    _check(model)
    return _family(model)[0](model, calibration)
