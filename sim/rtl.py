"""The RTL simulator: Verilator's model of an accelerator behind a C++ harness."""

import dataclasses
import pathlib
import subprocess
import tempfile
import time

import numpy as np

from bivit.hw.arch import Arch
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.isa import INSTR_BITS, Unit
from bivit.hw.memories import (
    BEAT_BITS,
    beats_per_word,
    constant_memories,
    constant_order,
    fetched_memories,
    loaded_memories,
    memories,
)
from bivit.sim.rtl_build import OBSERVED_MEMORIES, SimulatorError, build_program

__all__ = ["MemoryFault", "RunResult", "Simulator", "SimulatorError", "build_simulator"]

STATUSES = ("done", "error", "timeout")
UNIT_EVENT = np.dtype([("image", "<u4"), ("cycle", "<u4"), ("unit", "<u4"), ("kind", "<u4"),
                       ("tag", "<u4")])
_COUNTERS = 3  # of each unit
_BEFORE, _HEADER = 6, 7 + _COUNTERS * len(Unit)  # numbers before the counters, and the logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryFault:
    """What goes wrong with external memory while the first image runs; the next find it well.

    Parameters
    ----------
    silent_from, wrong_beat : int, optional
        Number of the beat from which on nothing is answered; of a beat with an error.
    short_burst, long_burst : int, optional
        Number of a burst of at least two beats that ends a beat early; of one that ends a beat
        late.
    silent_writes, wrong_write : int, optional
        Written beats after which nothing is taken or answered; number of a written burst that is
        answered with an error.
    """

    silent_from: int | None = None
    wrong_beat: int | None = None
    short_burst: int | None = None
    long_burst: int | None = None
    silent_writes: int | None = None
    wrong_write: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run gave, image by image.

    Attributes
    ----------
    logits : int32 array (n, classes)
        Rows of images that were not done may be short of numbers, then zeros.
    status : list of str
        ``done``, ``error`` or ``timeout``.
    cycles : int64 array (n,)
        The register CYCLES; of images in a row, what it shows at the end of each frame.
    errors : int64 array (n,)
        The register ERROR: code, and the program counter from bit 16 on.
    counters : int64 array (n, units, 3)
        Run, stall and idle cycles of each unit; zeros for one that the target does not have.
    beats_taken, frames : int64 array (n,)
        Beats of the image that were taken; output frames that ended with tlast.
    frame_open : bool array (n,)
        Whether the last output beat lacked its tlast.
    events : list of dict of str to structured array
        For each observed image, the writes to each memory: ``cycle``, ``tag``, ``addr``, and
        ``we`` and ``data`` as 32-bit words, lowest first.
    unit_events : list of structured array
        For each observed image: ``cycle``, ``unit``, ``kind`` (0 pop, 1 done), ``tag``.
    wall_seconds : float
    simulated_cycles : int
        All cycles of the run, register accesses and loading included.
    """

    logits: np.ndarray
    status: list[str]
    cycles: np.ndarray
    errors: np.ndarray
    counters: np.ndarray
    beats_taken: np.ndarray
    frames: np.ndarray
    frame_open: np.ndarray
    events: list[dict[str, np.ndarray]]
    unit_events: list[np.ndarray]
    wall_seconds: float
    simulated_cycles: int

    def writes(self, image: int) -> dict[int, list[tuple[str, int, int, int]]]:
        """Writes of an observed image by instruction: (memory, address, mask, data), in order."""
        found = []
        for name, events in self.events[image].items():
            masks, words = _integers(events["we"]), _integers(events["data"])
            found += [(int(cycle), name, int(tag), int(address), mask, word)
                      for cycle, tag, address, mask, word in zip(
                          events["cycle"], events["tag"], events["addr"], masks, words,
                          strict=True)]
        by_tag = {}
        for _, name, tag, address, mask, word in sorted(found, key=lambda event: event[0]):
            by_tag.setdefault(tag, []).append((name, address, mask, word))
        return by_tag


def build_simulator(verilog: pathlib.Path | str, arch: Arch, *, trace: bool = False,
                    progress=None) -> "Simulator":
    """Build a simulator, or take it from the cache.

    Parameters
    ----------
    verilog : Path or str
        Path of the Verilog, or the text itself.
    arch : Arch
        Its parameters.
    trace : bool
        Whether :meth:`Simulator.run` can write waves.
    progress : callable, optional
        Called with (what, done, total) during a build.

    Raises
    ------
    SimulatorError
    """
    text = pathlib.Path(verilog).read_text() if isinstance(verilog, pathlib.Path) else verilog
    return Simulator(build_program(text, trace=trace, progress=progress), arch, trace=trace)


class Simulator:
    """A built simulator; one serves every network of its target.

    Parameters
    ----------
    program : Path
    arch : Arch
    trace : bool
        Whether the program can write waves.
    """

    def __init__(self, program: pathlib.Path, arch: Arch, *, trace: bool = False):
        self.program, self.arch, self.trace = program, arch, trace

    def run(self, folder, images: list[bytes], *, observe: int = 0, stall_seed: int | None = None,
            max_cycles: int = 1 << 32, first_limit: int | None = None, in_a_row: bool = False,
            packets: int = 1, memory: MemoryTiming | None = None,
            fault: MemoryFault | None = None, trace=None, progress=None) -> RunResult:
        """Run images one after the other.

        Parameters
        ----------
        folder : Path
            A build folder, with ``program.bin``, and ``rom/*.hex`` or ``rom/external.bin``.
        images : list of bytes
            The input stream of each image, in whole beats.
        observe : int
            How many images to record events of.
        stall_seed : int, optional
            Hold up both streams, and external memory, at random; memories then start with random
            contents too.
        max_cycles : int
            Limit for each start.
        first_limit : int, optional
            Limit for the first one, after which the machine is reset.
        in_a_row : bool
            As the frames of one start, not each with a start of its own.
        packets : int
            Packets of output that a frame has.
        memory, fault : optional
            External memory of a `streamed` target.
        trace : Path, optional
            Where to write the waves (.fst) of the first image.
        progress : callable, optional
            Called with (images done, images).

        Raises
        ------
        SimulatorError
        """
        if trace is not None and not self.trace:
            raise SimulatorError("this simulator was built without waves")
        try:
            return self._run(pathlib.Path(folder), images, observe, {
                "--max-cycles": max_cycles, "--first-limit": first_limit,
                "--in-a-row": 1 if in_a_row else None, "--packets": packets,
                "--stall": None if stall_seed is None else stall_seed + 1,
                "--trace": trace and pathlib.Path(trace).absolute(),
            }, memory or MemoryTiming(), fault or MemoryFault(), progress)
        except OSError as error:
            raise SimulatorError("the simulation cannot be run in the folder of temporary files "
                                 f"{tempfile.gettempdir()}: {error.strerror or error}") from None

    def _run(self, folder, images, observe, options, memory, fault, progress):
        with tempfile.TemporaryDirectory(prefix="bivit-run-") as work:
            work = pathlib.Path(work)
            command = [self.program, "--images", work / "images.bin", "--out", work,
                       "--observe", observe]
            _packets([np.frombuffer(image, "<u4") for image in images]).tofile(work / "images.bin")
            command += self._constants(folder, work)
            if fetched_memories(self.arch):
                options |= _external(folder, work, memory, fault)
            for name, value in options.items():
                command += [] if value is None else [name, value]
            begin = time.perf_counter()
            simulated = _execute(command, len(images), progress)
            return self._result(work, len(images), min(observe, len(images)),
                                time.perf_counter() - begin, simulated)

    def _constants(self, folder, work):
        """Options that tell the harness where the constant memories are."""
        (work / "rom").mkdir()
        program = _read(folder / "program.bin", "rb")
        step = INSTR_BITS // 8
        words = [int.from_bytes(program[at:at + step], "little")
                 for at in range(0, len(program), step)]
        (work / "rom" / "program.hex").write_text("".join(f"{word:x}\n" for word in words))
        packets = []
        for name, size in constant_memories(self.arch).items():
            if name in fetched_memories(self.arch):
                continue
            if name != "program":
                words = self._rom(folder / "rom" / f"{name}.hex", size, work)
            if len(words) > size.depth:
                raise SimulatorError(f"{name} has {len(words)} words and the target "
                                     f"{self.arch.name} holds {size.depth}")
            bits = beats_per_word(size.width) * BEAT_BITS
            beats = b"".join(word.to_bytes(bits // 8, "little") for word in words)
            packets.append((constant_order.index(name), np.frombuffer(beats, "<u4")))
        if not loaded_memories(self.arch):
            return [f"+bivit_folder={work}"]
        np.concatenate([_packets([beats], head=[number]) for number, beats in packets
                        if len(beats)]).tofile(work / "constants.bin")
        return ["--constants", work / "constants.bin"]

    def _rom(self, path, size, work):
        text = _read(path, "r")
        (work / "rom" / path.name).write_text(text)
        try:
            words = [int(line, 16) for line in text.split()]
        except ValueError:
            raise SimulatorError(f"{path} is not a list of hexadecimal words") from None
        if any(word >> size.width for word in words):
            raise SimulatorError(f"{path} has a word of more than {size.width} bits")
        return words

    def _result(self, work, count, observed, seconds, simulated):
        numbers = np.fromfile(work / "results.bin", "<u4")
        rows, logits, at = [], [], 0
        for _ in range(count):
            rows.append(numbers[at:at + _HEADER].astype(np.int64))
            length = int(rows[-1][-1])
            logits.append(numbers[at + _HEADER:at + _HEADER + length].astype(np.int32))
            at += _HEADER + length
        rows = np.array(rows).reshape(count, _HEADER)
        matrix = np.zeros((count, max(map(len, logits), default=0)), np.int32)
        for row, values in zip(matrix, logits, strict=True):
            row[:len(values)] = values
        units = np.fromfile(work / "units.bin", UNIT_EVENT)
        written = {name: np.fromfile(work / f"{name}.bin", self._event(name))
                   for name in OBSERVED_MEMORIES}
        return RunResult(
            logits=matrix, status=[STATUSES[code] for code in rows[:, 0]], errors=rows[:, 1],
            cycles=rows[:, 2], beats_taken=rows[:, 3], frames=rows[:, 4],
            frame_open=rows[:, 5].astype(bool),
            counters=rows[:, _BEFORE:_HEADER - 1].reshape(count, len(Unit), _COUNTERS),
            events=[{name: events[events["image"] == image] for name, events in written.items()}
                    for image in range(observed)],
            unit_events=[units[units["image"] == image] for image in range(observed)],
            wall_seconds=seconds, simulated_cycles=simulated)

    def _event(self, name):
        words = -(-memories(self.arch)[name].width // 32)
        return np.dtype([("image", "<u4"), ("cycle", "<u4"), ("tag", "<u4"), ("addr", "<u4"),
                         ("we", "<u4", (words,)), ("data", "<u4", (words,))])


def _packets(arrays, head=()):
    """Arrays of beats, each after its length."""
    parts = [part for array in arrays for part in (np.array([*head, len(array)], "<u4"), array)]
    return np.concatenate(parts) if parts else np.zeros(0, "<u4")


def _external(folder, work, memory, fault):
    """Options that describe external memory."""
    image = _read(folder / "rom" / "external.bin", "rb")
    (work / "external.bin").write_bytes(image)
    for name in ("beats", "addresses"):
        np.array(getattr(memory, name), "<u4").tofile(work / name)
    return {"--external": work / "external.bin", "--latency": memory.latency,
            "--interval": memory.interval, "--write-latency": memory.write_latency,
            "--beat-stalls": work / "beats", "--address-stalls": work / "addresses",
            "--silent-from": fault.silent_from, "--wrong-beat": fault.wrong_beat,
            "--short-burst": fault.short_burst, "--long-burst": fault.long_burst,
            "--silent-writes": fault.silent_writes, "--wrong-write": fault.wrong_write}


def _integers(words):
    return [int.from_bytes(row.tobytes(), "little") for row in np.ascontiguousarray(words)]


def _read(path, mode):
    try:
        with open(path, mode) as file:
            return file.read()
    except OSError as error:
        raise SimulatorError(f"{path} cannot be read: {error.strerror}") from None


def _execute(command, count, progress):
    """Run the program, hand on its progress; the cycles it simulated."""
    cycles = 0
    with tempfile.TemporaryFile("w+") as problems, subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=problems,
            text=True) as process:
        try:
            for line in process.stdout:
                kind, _, number = line.strip().partition(" ")
                if kind == "image" and progress is not None:
                    progress(int(number) + 1, count)
                elif kind == "cycles":
                    cycles = int(number)
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        problems.seek(0)
        said = problems.read().strip()
    if status or "%Warning" in said or "%Error" in said:
        reason = said.splitlines()[0] if said else f"exit status {status}"
        raise SimulatorError(f"the simulation stopped: {reason}")
    return cycles
