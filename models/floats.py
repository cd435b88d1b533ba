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
from bivit.models.registry import network
from bivit.models.tracing import export
from bivit.models.vit import build

__all__ = ["FloatFileError", "convert_file", "load_float", "save_float"]

_KEY = "bivit-float"


class FloatFileError(UserError):
    """A file that does not hold a float model; the message names it."""


def save_float(model: torch.nn.Module, path, *, name: str | None = None) -> None:
    """Write a network in float, with its configuration.

    Parameters
    ----------
    name : str, optional
        Its name in the registry, of which only the configuration may differ; without one, the
        network is a binary vision transformer with 8-bit first and last layers.
    """
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    content = dataclasses.asdict(model.config)
    if name is not None:
        content = {"network": name, "config": content}
    path = Path(path)
    if not path.parent.is_dir():
        raise FloatFileError(f"the folder {path.parent} does not exist; make it first")
    safetensors.torch.save_file(tensors, path, {_KEY: json.dumps(content)})


def load_float(path, *, eight_bits=False, stem_bits=None) -> torch.nn.Module:
    """The float model that :func:`save_float` wrote, in evaluation mode.

    Parameters
    ----------
    eight_bits : bool
        With the first and the last layer in 8 bits, as the integer form needs them; their steps
        are not set yet.
    stem_bits : int, optional
        Bits of the patch embedding's weights in the integer form, if not those of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FloatFileError(f"{path} does not exist; give a float model that training wrote")
    try:
        with safetensors.safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "network" in content:
            model = _named(content, eight_bits, stem_bits)
            steps = {name: value for name, value in model.state_dict().items()
                     if name.endswith(".step")}
            found = {name: value for name, value in tensors.items()
                     if name in steps or not name.endswith(".step")}
            model.load_state_dict((steps if eight_bits else {}) | found)
        else:
            own = {} if stem_bits is None else {"stem_bits": stem_bits}
            model = build(ViTConfig(**_tuples(content) | own), "binary")
            model.load_state_dict(tensors)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        raise FloatFileError(f"{path} is not a float model of bivit or is damaged; write it again "
                             "with training") from None
    return model.eval()


def _tuples(config):
    return {key: tuple(value) if isinstance(value, list) else value
            for key, value in config.items()}


def _named(content, eight_bits, stem_bits):
    """A network of the registry with the configuration of a file."""
    entry = network(content["network"])
    config = type(entry.config)(**_tuples(content["config"]))
    entry = dataclasses.replace(entry, config=config).with_stem(stem_bits)
    return entry.build(eight_bits=eight_bits)


def convert_file(path, out, calibration: torch.Tensor, *, stem_bits=None, metadata=None):
    """Settle and convert a float model's file and write the checkpoint.

    Parameters
    ----------
    path, out : path-like
        Float model; checkpoint to write.
    calibration : uint8 tensor (N, C, H, W)
        Images that show how large the network's values get.
    stem_bits : int, optional
        Bits of the patch embedding's weights, if not those of the file.

    Returns
    -------
    Graph
    """
    model = load_float(path, eight_bits=True, stem_bits=stem_bits)
    settle(model, calibration)
    return export(convert(model, calibration), calibration[:1], out, metadata=metadata)
