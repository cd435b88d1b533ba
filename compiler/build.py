"""Build folders: everything that is needed to simulate or synthesise a network on a target."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import tempfile
import tomllib

from bivit.compiler import files
from bivit.compiler.assembly import disassemble
from bivit.compiler.files import BuildError
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.graph import Graph
from bivit.compiler.padding import find_changed_padding
from bivit.compiler.passes import lower, uncollected
from bivit.hw.arch import Arch, ArchError
from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.targets import TARGETS

__all__ = ["Build", "BuildError", "compile", "load_build", "resolve_target"]


@dataclasses.dataclass(frozen=True)
class Build:
    """A build folder, read.

    Parameters
    ----------
    folder : pathlib.Path
    arch : Arch
    words : list of int
        The program (``program.bin``).
    constants : dict of str to list of int
        Words of the constant memories besides the program's (``rom/*.hex``).
    manifest : dict
    graph : Graph
        Of the checkpoint in the folder.
    external : bytes
        The image in external memory (``rom/external.bin``) of a `streamed` target, which has no
        `constants`.
    """

    folder: pathlib.Path
    arch: Arch
    words: list[int]
    constants: dict[str, list[int]]
    manifest: dict
    graph: Graph
    external: bytes = b""

    @property
    def batch(self) -> int:
        """Images that a run of the program takes at once."""
        return self.manifest["batch"]

    def check_single(self) -> None:
        """Refuse a program of several images, which boards do not run."""
        if self.batch > 1:
            raise BuildError(f"{self.folder} takes {self.batch} images at once, and boards take "
                             "one; compile without --batch")

    @property
    def memories(self) -> dict[str, list[int]]:
        """Words of all constant memories by name, the program's first."""
        return {"program": self.words, **self.constants}


def compile(path, target, folder, *, batch=1, overwrite=False, progress=None) -> None:
    """Turn a checkpoint into a build folder; equal inputs give equal bytes.

    Parameters
    ----------
    path : path
        The checkpoint.
    target : str, Arch or path
        Name of a target, its parameters, or a TOML file with them.
    folder : path
        Appears whole or not at all. A folder that holds anything but an older build is refused.
    batch : int
        Images of a program, which share each load of weights (``docs/memory.md``, section 7).
    overwrite : bool
        Replace an older build.
    progress : callable (done, total, text), optional

    Raises
    ------
    UserError
        If an input cannot be used: CheckpointError, CompileError or BuildError.
    """
    progress = progress or (lambda done, total, text="": None)
    folder = pathlib.Path(folder)
    arch = resolve_target(target)
    _check_folder(folder, overwrite)
    progress(0, 4, "reading the checkpoint")
    graph = checkpoint.load(path)
    progress(1, 4, "compiling")
    program = lower(graph, arch, batch)
    progress(2, 4, "generating Verilog")
    verilog = _verilog(arch)
    progress(3, 4, "writing the build")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)
        (temporary / "accelerator.v").write_text(verilog)
        (temporary / "program.asm").write_text(disassemble(program))
        shutil.copyfile(path, temporary / "checkpoint.safetensors")
        files.write_words(temporary, program)
        files.write_manifest(temporary, program)
        _write_report(temporary)
        files.write_manifest(temporary, program)
        _check_folder(folder, overwrite)
        _replace(temporary, folder)
    except OSError as error:
        raise BuildError(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    progress(4, 4, "done")


def load_build(folder, *, ignore_hashes=False) -> Build:
    """Read a build folder, and check every file against the manifest.

    Parameters
    ----------
    ignore_hashes : bool
        Take changed files as they are, as far as they can be read.

    Raises
    ------
    BuildError
        Naming the file.
    """
    folder = pathlib.Path(folder)
    manifest = files.read_manifest(folder, check=not ignore_hashes)
    if not ignore_hashes:
        files.check_hashes(folder, manifest)
    try:
        arch = Arch(**manifest["target"])
    except (ArchError, TypeError, KeyError) as error:
        raise BuildError(f"{folder / files.MANIFEST} has no usable target: {error}") from None
    words, constants, external = files.read_words(folder, arch, manifest, check=not ignore_hashes)
    graph = checkpoint.load(folder / "checkpoint.safetensors")
    if ignore_hashes and constants and (changed := find_changed_padding(
            graph, arch, constants, manifest["batch"])):
        memory, word = changed
        raise BuildError(f"{folder / 'rom' / memory}.hex has a padding bit in word {word} that is "
                         "not as the compiler writes it; compile again")
    return Build(folder, arch, words, constants, manifest, graph, external)


def resolve_target(target) -> Arch:
    """The parameters of a target: given, by name, or from a TOML file.

    Raises
    ------
    BuildError
    """
    if isinstance(target, Arch):
        return target
    if (named := TARGETS | BOARD_TARGETS).get(str(target)):
        return named[str(target)]
    path = pathlib.Path(target)
    if path.suffix != ".toml":
        raise BuildError(f"there is no target {str(target)!r}; take one of {', '.join(named)} "
                         "or a .toml file with the parameters of one")
    try:
        fields = tomllib.loads(path.read_text())
        return Arch(**{"name": path.stem} | fields)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
    except (ArchError, TypeError, ValueError) as error:
        reason = str(error).replace("Arch.__init__() ", "").replace("keyword argument", "parameter")
        raise BuildError(f"{path} does not describe a target: {reason}") from None


@functools.cache
def _verilog(arch):
    from bivit.hw.accelerator import accelerator_verilog  # slow to import, and not always needed
    with uncollected():
        return accelerator_verilog(arch)


def _write_report(folder):
    """Cycles and utilisation, from the cycle model.

    The one place where the compiler asks a simulator, for the file alone: nothing that is compiled
    depends on it.
    """
    from bivit.sim.report import report
    found = {key: value for key, value in report(folder).items() if key != "folder"}
    (folder / "report.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _check_folder(folder, overwrite):
    """Refuse to replace what the compiler did not make, or was not asked to replace."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BuildError(f"{folder} is a file; name another output folder")
    try:
        own = {*files.read_manifest(folder, check=False)["files"], files.MANIFEST}
    except (BuildError, KeyError, TypeError):
        own = set()
    present = False
    for path in folder.rglob("*"):  # up to the first other file: a folder can be a whole disk
        if path.is_dir():
            continue
        present, name = True, str(path.relative_to(folder))
        if name not in own:
            raise BuildError(f"{folder} holds something else than a build ({name}); name another "
                             "output folder")
    if not present:
        return
    if not overwrite:
        raise BuildError(f"{folder} holds an older build; name another output folder or overwrite "
                         "it (--overwrite)")


def _replace(temporary, folder):
    """Put a finished folder in the place of an older one."""
    if folder.is_dir():
        old = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old)
    else:
        os.replace(temporary, folder)
