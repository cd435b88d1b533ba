"""Trained float models as files, and their conversion to checkpoints."""

import dataclasses
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from bivit.compiler.ir.errors import UserError
from bivit.models.config import ViTConfig
from bivit.models.conversion import convert, settle
from bivit.models.tracing import export
from bivit.models.vit import VisionTransformer, build

__all__ = ["FloatFileError", "convert_file", "load_float", "save_float"]

_KEY = "bivit-float"


class FloatFileError(UserError):
    """A file that does not hold a float model; the message names it."""


def save_float(model: VisionTransformer, path) -> None:
    """Write a binary vision transformer in float, with its configuration."""
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {_KEY: json.dumps(dataclasses.asdict(model.config))}
    safetensors.torch.save_file(tensors, Path(path), metadata)


def load_float(path) -> VisionTransformer:
    """The float model that :func:`save_float` wrote."""
    path = Path(path)
    if not path.is_file():
        raise FloatFileError(f"{path} does not exist; give a float model that training wrote")
    try:
        with safetensors.safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if isinstance(config["img_size"], list):
            config["img_size"] = tuple(config["img_size"])
        model = build(ViTConfig(**config), "binary")
        model.load_state_dict(tensors)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        raise FloatFileError(f"{path} is not a float model of bivit or is damaged; write it again "
                             "with training") from None
    return model


def convert_file(path, out, calibration: torch.Tensor, *, metadata=None):
    """Settle and convert a float model's file and write the checkpoint.

    Parameters
    ----------
    path, out : path-like
        Float model; checkpoint to write.
    calibration : uint8 tensor (N, C, H, W)
        Images that show how large the network's values get.

    Returns
    -------
    Graph
    """
    model = load_float(path)
    settle(model, calibration)
    return export(convert(model, calibration), calibration[:1], out, metadata=metadata)
