"""Top-1 of the shipped network on the held-out digits, and how far float and integers differ."""

from bivit.compiler.ir import checkpoint
from bivit.models.data import digits
from bivit.models.digits import CHECKPOINT
from bivit.models.tracing import load
from bivit.models.training import predict

__all__ = ["measure"]


def measure() -> dict:
    """Integers: measured now. Float, and how far they differ: as the training measured it."""
    images, labels = digits("held_out").tensors()
    predictions = predict(load(CHECKPOINT), images).argmax(-1)
    trained = checkpoint.load(CHECKPOINT).metadata
    found = "".join(map(str, predictions.tolist()))
    return {
        "images": len(labels),
        "integer_top1": float((predictions == labels).double().mean()),
        "float_top1": trained["held_out"]["float_top1"],
        "top1_differing": sum(a != b for a, b in zip(
            found, trained["held_out"]["float_predictions"], strict=True)),
        "equal_bits": trained["held_out"]["equal_bits"],
        "training": trained["training"],
    }
