"""BinaryViT to integer layers."""

from bivit.models.conversion.constants import ConvertError

__all__ = ["convert_binaryvit", "settle_binaryvit"]


def settle_binaryvit(model, calibration):
    """Round the parameters to the grid of the integers."""


def convert_binaryvit(model, calibration):
    """The integer model of BinaryViT."""
    raise ConvertError("BinaryViT has no integer form yet")
