"""Formats of the files in a build folder."""

import dataclasses
import hashlib
import json
import pathlib

from bivit.compiler.fuse import live_nodes
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.errors import UserError
from bivit.compiler.structures import Program
from bivit.hw.arch import Arch
from bivit.hw.encoding import decode
from bivit.hw.isa import INSTR_BITS
from bivit.hw.memories import constant_memories, fetched_memories

__all__ = ["BuildError", "EXTERNAL", "MANIFEST", "check_hashes", "read_manifest", "read_words",
           "write_manifest", "write_words"]

MANIFEST = "manifest.json"
EXTERNAL = "rom/external.bin"
_FORMAT, _VERSION = "bivit build", 3
_INSTRUCTION_BYTES = INSTR_BITS // 8


class BuildError(UserError):
    """A build folder that cannot be used or written; the message is one sentence."""


def write_words(folder: pathlib.Path, program: Program) -> None:
    """``program.bin``, and ``rom/*.hex`` with one word a line, or ``rom/external.bin``."""
    (folder / "rom").mkdir()
    (folder / "program.bin").write_bytes(
        b"".join(word.to_bytes(_INSTRUCTION_BYTES, "little") for word in program.words))
    if program.external:
        (folder / EXTERNAL).write_bytes(program.external)
    for name, size in _present(program.arch).items():
        words = program.words if name == "program" else program.constants[name]
        digits = -(-size.width // 4)
        (folder / "rom" / f"{name}.hex").write_text("".join(f"{w:0{digits}x}\n" for w in words))


def _present(arch):
    """Constant memories that have a file."""
    return {name: size for name, size in constant_memories(arch).items()
            if name not in fetched_memories(arch)}


def read_words(folder: pathlib.Path, arch: Arch, manifest: dict, *, check: bool):
    """The program, the words of the other constant memories by name, the image of external memory.

    The program is there twice. Without `check`, one that was changed counts, whichever it is.
    """
    data = _read(folder / "program.bin")
    if len(data) % _INSTRUCTION_BYTES or not data:
        raise BuildError(f"{folder / 'program.bin'} is not a whole number of instructions of "
                         f"{_INSTRUCTION_BYTES} bytes")
    words = [int.from_bytes(data[start:start + _INSTRUCTION_BYTES], "little")
             for start in range(0, len(data), _INSTRUCTION_BYTES)]
    memories = {name: _read_hex(folder / "rom" / f"{name}.hex", size, check)
                for name, size in _present(arch).items()}
    external = _read(folder / EXTERNAL) if fetched_memories(arch) else b""
    if check:
        for position, word in enumerate(words):
            try:
                decode(word)
            except ValueError as error:
                raise BuildError(f"instruction {position} in {folder / 'program.bin'} is not "
                                 f"legal: {error}") from None
        if memories["program"] != words:
            raise BuildError(f"{folder / 'rom' / 'program.hex'} and {folder / 'program.bin'} are "
                             "not the same program")
    elif manifest["files"].get("program.bin") == hashlib.sha256(data).hexdigest():
        words = memories["program"]
    constants = {name: values for name, values in memories.items() if name != "program"}
    return words, constants, external


def _read_hex(path, size, check):
    try:
        words = [int(line, 16) for line in _read(path).decode("ascii").split()]
    except ValueError:
        raise BuildError(f"{path} is not a list of hexadecimal words") from None
    if len(words) > size.depth:
        raise BuildError(f"{path} has {len(words)} words for a memory of {size.depth}")
    if check and any(word >> size.width for word in words):
        raise BuildError(f"{path} has bits beyond the {size.width} of a word")
    return words


def write_manifest(folder: pathlib.Path, program: Program) -> None:
    """``manifest.json``, with the hashes of all files that are there, and of itself."""
    graph, arch = program.graph, program.arch
    types = graph.infer()
    live = live_nodes(graph)
    patches = next(node for node in graph.nodes if node.op == "patchify" and node.name in live)
    tokens, pixels = types[patches.name].shape
    content = {
        "format": _FORMAT, "version": _VERSION, "target": dataclasses.asdict(arch),
        "checkpoint": checkpoint.content_hash(folder / "checkpoint.safetensors"),
        "input": {"shape": list(graph.input_shape), "patch_size": patches.attributes["patch_size"],
                  "tokens": tokens, "pixels": pixels},
        "output": {"count": types[graph.nodes[-1].name].shape[1]}, "batch": program.batch,
        "layers": [dataclasses.asdict(layer) for layer in program.layers],
        "executed": [instruction.description() for instruction in program.executed],
        "observations": program.observations,
        "files": {str(path.relative_to(folder)): _sha256(path)
                  for path in sorted(folder.rglob("*"))
                  if path.is_file() and path.name != MANIFEST},
    }
    content["hash"] = _own_hash(content)
    lines = [f"{json.dumps(key)}: {json.dumps(content[key], sort_keys=True)}"
             for key in sorted(content)]
    (folder / MANIFEST).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read_manifest(folder: pathlib.Path, *, check: bool) -> dict:
    """The manifest of a build folder; its own hash is looked at if `check`."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BuildError(f"{folder} is no folder; compile a checkpoint first")
    if not path.exists():
        raise BuildError(f"{folder} is no build folder: it holds no {MANIFEST}; compile a "
                         "checkpoint first")
    try:
        manifest = json.loads(_read(path))
        format_, version = manifest["format"], manifest["version"]
    except (ValueError, KeyError, TypeError):
        raise BuildError(f"{path} is damaged or no manifest of a build") from None
    if (format_, version) != (_FORMAT, _VERSION):
        raise BuildError(f"{path} is a {format_!r} of version {version}, and this bivit reads "
                         f"{_FORMAT!r} of version {_VERSION}; compile again")
    if check and manifest.get("hash") != _own_hash(manifest):
        raise BuildError(f"{path} was changed: its hash does not fit; compile again")
    return manifest


def check_hashes(folder: pathlib.Path, manifest: dict) -> None:
    """Refuse files that are missing or not as the compiler wrote them."""
    for name, expected in manifest["files"].items():
        if _sha256(folder / name) != expected:
            raise BuildError(f"{folder / name} was changed: its hash is not the one in "
                             f"{MANIFEST}; compile again")


def _read(path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None


def _sha256(path):
    return hashlib.sha256(_read(path)).hexdigest()


def _own_hash(manifest):
    content = {key: value for key, value in manifest.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
