"""Top-1 of the shipped network on the held-out digits, and how far float and integers differ."""

import common

from bivit.compiler.ir import checkpoint

__all__ = ["measure"]


def measure() -> dict:
    """Integers: measured now. Float: as the training wrote it into the checkpoint."""
    from bivit.models.data import digits
    from bivit.models.tracing import load

    part = digits("held_out")
    images, labels = part.tensors()
    logits = load(common.CHECKPOINT)(images)
    return {
        "held_out_images": len(part),
        "integer_top1": float((logits.argmax(-1) == labels).double().mean()),
        "training": checkpoint.load(common.CHECKPOINT).metadata,
    }
