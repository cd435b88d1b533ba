"""The two engines that run a build, behind one interface."""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from bivit.compiler.expand import expand, frames_of
from bivit.hw.isa import INSTR_BITS, TAG_BITS, Opcode
from bivit.sim.iss import InstructionSimulator, MachineError
from bivit.sim.observe import RESULT_OPCODES, RESULTS
from bivit.sim.replay import replayed_results
from bivit.sim.rtl import build_simulator

__all__ = ["ENGINES", "EngineRun"]

_CYCLES_PER_PREDICTED = 50
"""An image that takes more than so many times the predicted cycles is given up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineRun:
    """What an engine gives.

    Attributes
    ----------
    logits : int64 array (images, count)
    results : dict of (number, key) to array (images, rows, columns)
        Results, by number in the order of dispatch, of the observed instructions that wrote
        anything, for the first images.
    error : str or None
        Why the machine stopped, of the first image where it did.
    cycles : list of int
        Of each image (or batch), or at the end of its frame; none from the instruction-set
        simulator.
    times : list of tuple (dict, dict)
        For the first images, the cycle of pop and of done of each instruction.
    wall_seconds : float
    simulated_cycles : int or None
        All cycles that were simulated in that time, if the engine counts them.
    """

    logits: np.ndarray
    results: dict[tuple[int, str], np.ndarray]
    error: str | None
    cycles: Sequence[int] = ()
    times: Sequence[tuple[dict[int, int], dict[int, int]]] = ()
    wall_seconds: float
    simulated_cycles: int | None = None


def _observed_instructions(build):
    return [number for number, instruction in enumerate(build.manifest["executed"])
            if any(key in instruction for key in RESULTS)]


def run_iss(build, streams, *, observe, trace, stall_seed, memory, in_a_row, predicted,
            progress) -> EngineRun:
    """The instruction-set simulator."""
    simulator = InstructionSimulator(build.arch, build.words, build.constants,
                                     build.external)
    begin, results, logits, step = time.perf_counter(), {}, [], 180
    parts = [(streams[:observe], _observed_instructions(build))] if observe else []
    parts += [(streams[start:start + step], ()) for start in range(observe, len(streams), step)]
    try:
        for part, instructions in parts:
            done = simulator.run(part, observe=instructions)
            results |= done.observed
            logits.append(done.logits)
            progress(sum(map(len, logits)), len(streams), "instruction-set simulator")
    except MachineError as error:
        return EngineRun(logits=np.zeros((len(streams) * build.batch, 0), np.int64), results={},
                         error=str(error), wall_seconds=time.perf_counter() - begin)
    return EngineRun(logits=_by_image(np.concatenate(logits), build.batch), results=results,
                     error=None,
                     wall_seconds=time.perf_counter() - begin)


def run_rtl(build, streams, *, observe, trace, stall_seed, memory, in_a_row, predicted,
            progress) -> EngineRun:
    """The Verilog of the folder in Verilator."""
    simulator = build_simulator(
        build.folder / "accelerator.v", build.arch, trace=trace is not None,
        progress=lambda what, done, total: progress(done, total, what))
    with tempfile.TemporaryDirectory(prefix="bivit-program-") as folder:
        run = simulator.run(
            _with_program(build, folder), streams, observe=max(observe, 1), trace=trace,
            stall_seed=stall_seed, memory=memory, max_cycles=_CYCLES_PER_PREDICTED * predicted,
            in_a_row=in_a_row, packets=build.batch,
            progress=lambda done, total: progress(done, total, "RTL simulation"))
    return EngineRun(
        logits=_by_image(run.logits.astype(np.int64), build.batch),
        results=_replayed(build, run, observe, in_a_row),
        error=_rtl_error(run, streams, build.batch), cycles=run.cycles.tolist(),
        times=[_times(events) for events in run.unit_events],
        wall_seconds=run.wall_seconds, simulated_cycles=run.simulated_cycles)


ENGINES = {"rtl": run_rtl, "iss": run_iss}
"""Engine name to function."""


def _with_program(build, folder):
    """A folder with the program of `build` beside its ROM files."""
    folder = pathlib.Path(folder)
    (folder / "rom").symlink_to((build.folder / "rom").absolute())
    (folder / "program.bin").write_bytes(
        b"".join(word.to_bytes(INSTR_BITS // 8, "little") for word in build.words))
    return folder


def _replayed(build, run, observe, in_a_row):
    """Results of observed instructions, from the write events of the first images."""
    executed = expand(build.arch, build.words).instructions
    events = run.events[:observe]
    if in_a_row:
        frames = frames_of(build.arch, build.words, len(run.status))
        events = [_renumbered(image, frame.instructions, executed)
                  for image, frame in zip(events, frames, strict=False)]
    instructions = {number: executed[number][:2] for number in _observed_instructions(build)
                    if number < len(executed) and executed[number].opcode in RESULT_OPCODES}
    return replayed_results(build.arch, instructions, events) if observe else {}


def _renumbered(events, frame, alone):
    """Write events of a frame, with the numbers that its instructions have in a frame alone."""
    numbers = np.full(1 << TAG_BITS, -1, np.int64)
    places, others = ([number for number, executed in enumerate(instructions)
                       if executed.opcode is not Opcode.STEM] for instructions in (frame, alone))
    numbers[places] = others
    found = {}
    for name, written in events.items():
        found[name] = written.copy()
        found[name]["tag"] = numbers[written["tag"]]
    return found


def _times(events):
    """Cycle of pop and of done of each instruction."""
    kinds = ({}, {})
    for event in events:
        kinds[int(event["kind"])][int(event["tag"])] = int(event["cycle"])
    return kinds


def _by_image(logits, batch):
    """Rows of whole batches to rows of images; zeros where numbers are missing."""
    missing = -logits.shape[1] % batch
    return np.pad(logits, ((0, 0), (0, missing))).reshape(len(logits) * batch, -1)


def _rtl_error(run, streams, batch):
    for image, status in enumerate(run.status):
        code, counter = int(run.errors[image]) & 0xFF, int(run.errors[image]) >> 16
        if status == "error":
            return f"image {image}: the machine stops at instruction {counter} with error {code}"
        if status == "timeout":
            return f"image {image}: the machine does not finish"
        if run.frames[image] != batch or run.frame_open[image]:
            return f"image {image}: the output stream is not one frame an image"
        if run.beats_taken[image] * 4 != len(streams[image]):
            return f"image {image}: the input stream was not taken whole"
    return None
