"""Running a build folder on images, and checking every bit against PyTorch and every cycle."""

import dataclasses

import numpy as np

from bivit.compiler.batch import one_by_one
from bivit.compiler.build import load_build
from bivit.compiler.ir.errors import UserError
from bivit.hw.memories import fetched_memories, memories
from bivit.sim.compare import compare
from bivit.sim.cycles import simulate_cycles
from bivit.sim.engines import ENGINES
from bivit.sim.observe import MISSING, observations
from bivit.sim.reference import Reference
from bivit.sim.report import cycles_per_image
from bivit.sim.stream import batch_streams, check_images

__all__ = ["ENGINE_NAMES", "OUTPUT", "SimulationReport", "simulate"]

OUTPUT = "output stream"
"""Name of the logits as they leave the machine, beside the names of the observation points."""

ENGINE_NAMES = tuple(ENGINES)
"""What `simulate` takes as `engine`."""

_UNKNOWN_CYCLES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationReport:
    """What a simulation found.

    Attributes
    ----------
    engine : {"rtl", "iss"}
    target : str
    images : int
    batch : int
        Images that a run of the program takes at once. The last batch is filled up with its last
        image.
    checked : bool
        Whether bits were compared with PyTorch.
    observed_images : int
        Images that were compared at every observation point, not only in the output stream.
    observation_points : int
    mismatches : int or None
        Differing elements: bits and numbers; in RTL, also images and instructions whose cycles are
        not the predicted ones; and one more if the machine stopped with an error. None if bits were
        not compared and nothing else is wrong.
    first_mismatch : str or None
        The first observation point that differs, in network order, with index and values; else the
        error, or the cycles.
    error : str or None
        The error with which the machine stopped.
    cycles_per_image : int, float or None
        Measured, if all images took the same (RTL); not of images in a row. Of a batch, the
        share of an image.
    predicted_cycles_per_image : int, float or None
        None for a changed program that the cycle model refuses.
    frame_cycles, predicted_frame_cycles : list of int or None
        Of images in a row: cycles from the start to the end of each frame (image or batch). The
        first is the latency, the differences are the interval.
    layers : list of dict
        ``name``, ``first_cycle`` and ``last_cycle`` of each layer's instructions.
    wall_seconds : float
        Time of the simulation alone.
    simulated_cycles_per_second : float
        Cycles of the machine per second; for the instruction-set simulator, of the predicted ones.
    logits : int64 array (images, count)
    """

    engine: str
    target: str
    images: int
    batch: int
    checked: bool
    observed_images: int
    observation_points: int
    mismatches: int | None
    first_mismatch: str | None
    error: str | None
    cycles_per_image: int | float | None
    predicted_cycles_per_image: int | float | None
    frame_cycles: list[int] | None
    predicted_frame_cycles: list[int] | None
    layers: list[dict]
    wall_seconds: float
    simulated_cycles_per_second: float
    logits: np.ndarray = dataclasses.field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether nothing differed."""
        return not self.mismatches

    def to_json(self) -> dict:
        """Everything but the logits, and the class of each image."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                  if field.name != "logits"}
        return values | {"passed": self.passed, "classes": self.logits.argmax(1).tolist()
                         if self.logits.size else []}


def simulate(folder, images, *, engine="rtl", check=True, observe=16, ignore_hashes=False,
             trace=None, stall_seed=None, memory=None, in_a_row=False,
             progress=None) -> SimulationReport:
    """Run the program of a build folder on images.

    Parameters
    ----------
    folder : path
    images : uint8 array (n, C, H, W)
    engine : {"rtl", "iss"}
        The Verilog in Verilator, or the instruction-set simulator.
    check : bool
        Compare with the PyTorch integer model of the checkpoint in the folder: the logits of all
        images, every observation point of the first `observe` ones (of whole batches).
    ignore_hashes : bool
        Take a folder whose files are not those that the compiler wrote.
    trace : path, optional
        File for the waves of the first image (RTL).
    stall_seed : int, optional
        Stall both streams, and external memory, at random (RTL); cycles are then at least the
        predicted ones.
    memory : MemoryTiming, optional
        External memory of a `streamed` target.
    in_a_row : bool
        Run the images as the frames of one start (RTL).
    progress : callable (done, total, text), optional

    Raises
    ------
    UserError
        For a folder or images that cannot be used.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no engine {engine!r}; there are {' and '.join(ENGINES)}")
    if engine != "rtl" and (trace is not None or stall_seed is not None or in_a_row):
        raise UserError("waves, stalls and images in a row exist only in RTL: use the engine rtl")
    build = load_build(folder, ignore_hashes=ignore_hashes)
    if memory is not None and not fetched_memories(build.arch):
        raise UserError(f"target {build.arch.name} has no external memory; leave its description "
                        "out, or compile for a target with weights = 'streamed'")
    _check_words(build)
    description = build.manifest["input"]
    images = check_images(images, description["shape"])
    batch, given = build.batch, len(images)
    streams = batch_streams(images, description["patch_size"], batch)
    observed = min(observe, given) if check else 0
    reference = Reference(folder, build.graph) if check else None
    predicted = _predicted(build, memory, len(streams) if in_a_row else 1)

    run = ENGINES[engine](build, streams, observe=-(-observed // batch), trace=trace,
                          stall_seed=stall_seed,
                          memory=memory, in_a_row=in_a_row,
                          predicted=predicted.cycles if predicted else _UNKNOWN_CYCLES,
                          progress=progress or (lambda done, total, text="": None))
    differences = _differences(build, run, reference, images, observed) if check else []
    if run.error:
        differences.append((1, run.error))
    elif engine == "rtl":
        differences.append(_cycle_differences(run, predicted, exact=stall_seed is None,
                                              in_a_row=in_a_row))
    cycles = set() if in_a_row or not run.cycles else set(run.cycles)
    simulated = run.simulated_cycles or (predicted.cycles if predicted else 0) * len(streams)
    return SimulationReport(
        engine=engine, target=build.arch.name, images=given, batch=batch, checked=check,
        observed_images=observed, observation_points=len(build.manifest["observations"]),
        mismatches=sum(count for count, _ in differences) or (0 if check else None),
        first_mismatch=next((str(first) for count, first in differences if count), None),
        error=run.error,
        cycles_per_image=cycles_per_image(cycles.pop(), batch) if len(cycles) == 1 else None,
        predicted_cycles_per_image=(cycles_per_image(predicted.frame_cycles[0], batch)
                                    if predicted else None),
        frame_cycles=list(run.cycles) if in_a_row else None,
        predicted_frame_cycles=predicted.frame_cycles if in_a_row and predicted else None,
        layers=_layers(build.manifest, predicted) if predicted else [],
        wall_seconds=run.wall_seconds,
        simulated_cycles_per_second=simulated / run.wall_seconds, logits=run.logits[:given])


def _check_words(build):
    """Refuse constant words with bits that their memory does not have."""
    sizes = memories(build.arch)
    for name, words in {"program": build.words, **build.constants}.items():
        if any(word >> sizes[name].width for word in words):
            raise UserError(f"{build.folder / 'rom' / name}.hex has a word of more than "
                            f"{sizes[name].width} bits")


def _predicted(build, memory, frames):
    """The cycle report, or None for a (changed) program that the machine stops with an error."""
    try:
        return simulate_cycles(build.arch, build.words, frames=frames, memory=memory)
    except ValueError:
        return None


def _differences(build, run, reference, images, observed):
    """Counts and first differences: observation points, then the output stream."""
    groups = -(-observed // build.batch)
    found = {name: one_by_one(value, build.batch)[:observed] for name, value in
             observations(build.manifest, run.results, groups).items()}
    expected, logits = reference.values(images, observed, list(found))
    given = np.full(logits.shape, MISSING)
    width = min(given.shape[1], run.logits.shape[1])
    given[:, :width] = run.logits[:len(given), :width]
    points = compare(found, expected) if observed else (0, None)
    stream = compare({OUTPUT: given}, {OUTPUT: logits})
    surplus = run.logits.shape[1] - logits.shape[1]
    return [points, stream,
            (max(surplus, 0), f"{OUTPUT}: {surplus} numbers more than {logits.shape[1]}")]


def _cycle_differences(run, predicted, *, exact, in_a_row):
    """Images whose cycles are not the predicted ones, or fewer than those where streams stall."""
    wrong, first = 0, None
    for image, measured in enumerate(run.cycles):
        wanted = predicted.frame_cycles[image if in_a_row else 0]
        if measured == wanted or not exact and measured >= wanted:
            continue
        wrong += 1
        first = first or f"image {image} takes {measured} cycles where {wanted} are predicted"
    bounds = [*predicted.frame_starts, len(predicted.pop)]
    # Of a stem engine's work, what ends behind the last observed frame is not recorded.
    end = predicted.frame_cycles[len(run.times) - 1 if in_a_row else 0] if run.times else 0
    for image, times in enumerate(run.times if exact else ()):
        frame = slice(*bounds[image if in_a_row else 0:][:2])
        for event, measured, wanted in zip(
                ("pop", "done"), times, (predicted.pop[frame], predicted.done[frame]),
                strict=True):
            different = [number for number, cycle in enumerate(wanted[:-1])
                         if measured.get(number) != cycle and (number in measured or cycle < end)]
            wrong += len(different)
            if different and first is None:
                number = different[0]
                first = (f"{event} of executed instruction {number} of image {image} is in cycle "
                         f"{measured.get(number)} where {wanted[number]} is predicted")
    return wrong, first


def _layers(manifest, timing):
    layers = [{"name": layer["name"], "first_cycle": None, "last_cycle": None}
              for layer in manifest["layers"]]
    for instruction, start, end in zip(manifest["executed"], timing.pop, timing.done, strict=False):
        index = instruction["layer"]
        if index is None:
            continue
        layer = layers[index]
        first, last = layer["first_cycle"], layer["last_cycle"]
        layer["first_cycle"] = start if first is None else min(first, start)
        layer["last_cycle"] = end if last is None else max(last, end)
    return layers
