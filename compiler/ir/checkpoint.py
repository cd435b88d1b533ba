"""Checkpoints: one safetensors file that carries a graph of integer operations, with a hash.

Tensors are called ``<node>/<tensor>``. Tensors of 0 and 1 are packed, 8 to a byte, the first
element in the lowest bit; others take the smallest signed integer type that holds them. The
metadata key ``bivit`` holds one JSON object: format version, graph, numeric formats, whatever the
graph's own metadata says, and a SHA-256 over all of that and the tensors' bytes.
"""

import hashlib
import json
import os
import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from bivit.compiler.ir import numeric
from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import Graph, GraphError, Node

__all__ = ["CheckpointError", "FORMAT_VERSION", "content_hash", "load", "save"]

FORMAT_VERSION = 1
"""Version of the file format; other versions are refused."""

_KEY = "bivit"
_PACKED = {("binary_linear", "weight"), ("threshold", "descending")}
_DTYPES = {"packed": ("U8", np.uint8), "i8": ("I8", np.int8), "i16": ("I16", np.int16),
           "i32": ("I32", np.int32), "i64": ("I64", np.int64)}


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message is one sentence that names the file."""


def save(graph: Graph, path) -> None:
    """Write `graph` to `path`; equal graphs give equal bytes.

    Raises
    ------
    CheckpointError
        If the graph is not legal, or the file cannot be written.
    """
    path = pathlib.Path(path)
    try:
        graph.infer()
    except GraphError as error:
        raise CheckpointError(f"{path} was not written: {error}") from None
    nodes, tensors = [], {}
    for node in graph.nodes:
        entry = {"name": node.name, "op": node.op, "inputs": list(node.inputs),
                 "attributes": dict(node.attributes), "tensors": {}}
        for name, value in sorted(node.tensors.items()):
            form, stored = _pack(node.op, name, value)
            entry["tensors"][name] = {"shape": list(value.shape), "format": form}
            tensors[f"{node.name}/{name}"] = stored
        nodes.append(entry)
    content = {"version": FORMAT_VERSION, "numeric": _numeric_formats(),
               "graph": {"input_shape": list(graph.input_shape), "nodes": nodes},
               "metadata": graph.metadata}
    content["hash"] = _hash(content, {name: value.tobytes() for name, value in tensors.items()})
    data = safetensors.numpy.save(tensors, {_KEY: _canonical(content)})
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from None


def load(path) -> Graph:
    """The graph of a checkpoint, checked: version, hash, integer tensors, legal operations.

    Raises
    ------
    CheckpointError
    """
    path = pathlib.Path(path)
    content, tensors = _read(path)
    try:
        nodes = []
        for entry in content["graph"]["nodes"]:
            unpacked = {name: _unpack(tensors.pop(f"{entry['name']}/{name}"), form)
                        for name, form in entry["tensors"].items()}
            nodes.append(Node(entry["name"], entry["op"], tuple(entry["inputs"]),
                              dict(entry["attributes"]), unpacked))
        graph = Graph(tuple(content["graph"]["input_shape"]), tuple(nodes), content["metadata"])
        if not isinstance(graph.metadata, dict):
            raise ValueError("the metadata is no object")
        graph.infer()
    except GraphError as error:
        raise CheckpointError(f"{path} holds a graph that is not legal: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is inconsistent: its graph and its tensors do not fit "
                              f"together ({error!r})") from None
    if tensors:
        raise CheckpointError(f"{path} is inconsistent: no layer uses its tensor {min(tensors)}")
    return graph


def content_hash(path) -> str:
    """The SHA-256 that a checkpoint states over its graph and tensors, checked."""
    return _read(pathlib.Path(path))[0]["hash"]


def _read(path):
    """The checked metadata and ``{tensor: (dtype, shape, bytes)}`` of a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    try:
        tensors = {name: (item["dtype"], tuple(item["shape"]), bytes(item["data"]))
                   for name, item in safetensors.deserialize(data)}
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    try:
        text = header["__metadata__"][_KEY]
        content = json.loads(text)
        version, stated = content["version"], content["hash"]
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path} is no bivit checkpoint: its metadata has no readable entry "
                              f"{_KEY!r}; make one with bivit.models.export") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format version {version} and this bivit reads version "
                              f"{FORMAT_VERSION}; export the model again")
    if content.get("numeric") != _numeric_formats():
        raise CheckpointError(f"{path} has other numeric formats than this bivit; export the model "
                              "again")
    for name, (dtype, _, raw) in sorted(tensors.items()):
        if dtype not in {code for code, _ in _DTYPES.values()}:
            raise CheckpointError(f"{path} holds tensor {name} of type {dtype}"
                                  f"{_finiteness(dtype, raw)}; a checkpoint holds integers only")
    found = _hash(content, {name: raw for name, (_, _, raw) in tensors.items()})
    if stated != found or text != _canonical(content):
        raise CheckpointError(f"{path} is damaged: the hash of its contents is {found[:12]}… and "
                              f"it states {str(stated)[:12]}…")
    return content, tensors


def _finiteness(dtype, raw):
    """Say whether floating-point bytes hold NaN or infinity."""
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(dtype)
    finite = kind is None or bool(np.isfinite(np.frombuffer(raw, kind)).all())
    return "" if finite else " with NaN or infinite values"


def _pack(op, name, value):
    """Format and stored array of a tensor."""
    if (op, name) in _PACKED:
        return "packed", np.packbits(value.astype(np.uint8).reshape(-1), bitorder="little")
    for form, (_, dtype) in list(_DTYPES.items())[1:]:
        limits = np.iinfo(dtype)
        if value.size == 0 or (value.min() >= limits.min and value.max() <= limits.max):
            return form, np.ascontiguousarray(value, np.dtype(dtype).newbyteorder("<"))
    raise CheckpointError(f"tensor {name} has values beyond 64 bits")


def _unpack(stored, description):
    """Array of a stored tensor: uint8 for packed bits, int64 for everything else."""
    code, stored_shape, raw = stored
    shape, form = tuple(description["shape"]), description["format"]
    expected, dtype = _DTYPES[form]
    size = int(np.prod(shape, dtype=np.int64))
    wanted = (-(-size // 8),) if form == "packed" else shape
    if code != expected or stored_shape != wanted:
        raise ValueError(f"a tensor of {code} {stored_shape} is called {form} {shape}")
    array = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
    if form != "packed":
        return array.reshape(shape).astype(np.int64)
    bits = np.unpackbits(array, bitorder="little")
    if bits[size:].any():
        raise ValueError("padding bits of a packed tensor are not zero")
    return bits[:size].reshape(shape)


def _numeric_formats():
    return {"bias_fraction": numeric.BIAS_FRACTION, "norm_fraction": numeric.NORM_FRACTION,
            "rescale_shifts": list(numeric.RESCALE_SHIFTS),
            "threshold_fraction": numeric.THRESHOLD_FRACTION}


def _canonical(content):
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(content, raw_tensors):
    """SHA-256 over the metadata (without the hash itself) and every tensor's name and bytes."""
    digest = hashlib.sha256()
    covered = {key: value for key, value in content.items() if key != "hash"}
    pieces = [_canonical(covered).encode()]
    for name in sorted(raw_tensors):
        pieces += [name.encode(), raw_tensors[name]]
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()
