"""Other people's checkpoints: tensors out of a file, without running anything that is in it."""

import argparse
import re
from pathlib import Path

import safetensors
import torch

from bivit.compiler.ir.errors import UserError

__all__ = ["ForeignFileError", "read_tensors"]

CONTAINERS = ("model", "state_dict")
"""Entries under which training scripts keep the state dict, beside optimizer and settings."""

DTYPES = (torch.float32, torch.int64)


class ForeignFileError(UserError):
    """A checkpoint that cannot be imported; the message is one sentence that names the file."""


def read_tensors(path) -> dict[str, torch.Tensor]:
    """The state dict of a PyTorch or safetensors file, without ``module.`` before the names.

    Besides tensors and plain Python values only ``argparse.Namespace`` is allowed, in which
    training scripts keep their settings; it holds values and runs nothing.

    Raises
    ------
    ForeignFileError
        If the file holds anything else, no tensors, or tensors that are not float32.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ForeignFileError(f"{path} cannot be read: {error.strerror}") from None
    if not start:
        raise ForeignFileError(f"{path} is empty; copy or download it again")
    content = _safetensors(path) if start[8:] == b"{" else _pickled(path)
    return _checked(path, _state_dict(path, content))


def _safetensors(path):
    try:
        with safetensors.safe_open(path, "pt") as file:
            if {"bivit", "bivit-float"} & (file.metadata() or {}).keys():
                raise ForeignFileError(f"{path} is a file of bivit already; there is nothing to "
                                       "import")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except ForeignFileError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ForeignFileError(f"{path} is a damaged safetensors file: {error}") from None


def _pickled(path):
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file can break the reader anywhere
        found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        raise ForeignFileError(
            f"{path} holds {found[1]} and not only tensors, and loading that could run code, so "
            "nothing was loaded; save the state dict alone, or as safetensors")
    raise ForeignFileError(f"{path} is neither a checkpoint of PyTorch nor a safetensors file, or "
                           "it is damaged")


def _state_dict(path, content):
    """The flat state dict of a file's content."""
    while isinstance(content, dict):
        inner = [key for key in CONTAINERS if isinstance(content.get(key), dict)]
        if not inner:
            return content
        content = content[inner[0]]
    raise ForeignFileError(f"{path} holds a {type(content).__name__} and no dictionary of tensors; "
                           "save model.state_dict()")


def _checked(path, content):
    """The tensors, if they are what a float checkpoint holds."""
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ForeignFileError(f"{path} holds a {type(value).__name__} as {name!r} where a "
                                   "tensor should be; save model.state_dict()")
        name = name.removeprefix("module.")
        if name in tensors:
            raise ForeignFileError(f"{path} holds {name} twice, with and without `module.` before "
                                   "it; save one of them")
        tensors[name] = value
    if not tensors:
        raise ForeignFileError(f"{path} holds no tensors; save model.state_dict()")
    for name, value in tensors.items():
        if value.layout != torch.strided or value.dtype not in DTYPES:
            kind = str(value.dtype).removeprefix("torch.")
            kind = {"float16": "fp16 (float16)", "bfloat16": "bf16 (bfloat16)"}.get(kind, kind)
            raise ForeignFileError(f"{path} holds {name} as {kind}, and signs are taken of float32 "
                                   "latent weights; give the checkpoint in float32")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ForeignFileError(f"{path} holds NaN or infinite values in {name}; give a "
                                   "checkpoint of a training that did not diverge")
    return tensors
