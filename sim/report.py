"""What a build costs: cycles per layer and unit, what they are spent on, memory."""

import dataclasses

from bivit.compiler.build import load_build
from bivit.compiler.expand import expand
from bivit.hw.blocks.checks import units_of
from bivit.hw.blocks.matmul import passes_of
from bivit.hw.isa import Unit
from bivit.sim.accounting import CAUSES, account, binary_window, in_cycles, product_slots
from bivit.sim.frame import Frame, frame_of, product_lengths
from bivit.sim.limits import demands
from bivit.sim.memory_map import MemoryUse, memory_map

__all__ = ["Report", "analyse", "cycles_per_image", "make_report", "report"]


@dataclasses.dataclass(frozen=True)
class Report:
    """The figures of a build, and what pictures of them need.

    Parameters
    ----------
    figures : dict
        What :func:`report` returns.
    frame : Frame
    products : list of dict
        :func:`bivit.sim.accounting.product_slots`.
    memory : dict of str to MemoryUse
    """

    figures: dict
    frame: Frame
    products: list[dict[str, int]]
    memory: dict[str, MemoryUse]


def report(folder) -> dict:
    """What a build folder costs: :func:`analyse` of its program, and the memories.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        Also ``folder``, ``target``, ``instructions`` (in the program), ``executed`` (in a run,
        HALT included), ``batch`` (images of a run), and ``memory``: for each memory its width,
        depth, the words that the program reads or writes, and the most at the same time.
    """
    return make_report(folder).figures


def make_report(folder) -> Report:
    """:func:`report`, with the frame and the memory map that it is made from."""
    build = load_build(folder)
    frame = frame_of(build.arch, expand(build.arch, build.words), build.manifest["layers"],
                     build.manifest["executed"], product_lengths(build.graph))
    products, memory = product_slots(frame), memory_map(frame, len(build.words))
    return Report({
        "folder": str(folder), "target": build.arch.name, "instructions": len(build.words),
        "executed": len(frame.steps) + 1, "batch": build.batch,
        **analyse(frame, products, build.batch),
        "memory": {name: {"width": use.width, "depth": use.depth, "words": use.words,
                          "peak": use.peak} for name, use in memory.items()},
    }, frame, products, memory)


def analyse(frame: Frame, products: list[dict[str, int]], batch: int = 1) -> dict:
    """The cycles of one isolated image, or batch, and what they are spent on.

    Parameters
    ----------
    products : list of dict
        What :func:`bivit.sim.accounting.product_slots` gives.
    batch : int
        Images of the frame.

    Returns
    -------
    dict
        ``cycles`` of the frame; ``cycles_per_image``; ``array_cycles``, what they all are to the
        array (:data:`bivit.sim.accounting.CAUSES`); ``utilization`` of the array on the binary
        layers, useful MACs over those that a full array does in all cycles from the first binary
        layer's start to the last one's end (None without binary layers); ``binary_cycles``, those
        cycles; ``spent``, what they are, as in ``array_cycles``; ``demands``, for how many of them
        each part of the machine has to work, and ``limit``, the part with the most (None without
        binary layers); ``layers``; ``units``.
    """
    window = binary_window(frame)
    slots = account(frame, products, window) if window else dict.fromkeys(CAUSES, 0)
    per_cycle = frame.arch.macs_per_cycle
    cycles = sum(slots.values()) // per_cycle
    needed = demands(frame, window) if window else {}
    return {
        "array": {"rows": frame.arch.rows, "cols": frame.arch.cols, "lanes": frame.arch.lanes,
                  "post_rows": frame.arch.post_rows},
        "cycles": frame.cycles, "cycles_per_image": cycles_per_image(frame.cycles, batch),
        "macs_per_cycle": per_cycle,
        "array_cycles": in_cycles(frame, account(frame, products)),
        "binary_macs": sum(layer["macs"] for layer in frame.layers if layer["binary"]),
        "utilization": slots["useful"] / per_cycle / cycles if window else None,
        "binary_cycles": cycles,
        "spent": in_cycles(frame, slots),
        "demands": needed,
        "limit": max(needed, key=needed.get, default=None),
        "layers": _layers(frame, products),
        "units": {unit.name: {"busy": frame.busy[unit],
                              "share": frame.busy[unit] / frame.cycles}
                  for unit in units_of(frame.arch)},
    }


def cycles_per_image(cycles: int, batch: int) -> int | float:
    """The share of an image in the cycles of a batch."""
    return cycles / batch if cycles % batch else cycles // batch


def _layers(frame, products):
    """One row for each layer that has instructions."""
    steps, slots = {}, {}
    for step in frame.steps:
        steps.setdefault(step.layer, []).append(step)
    for step, product in zip(frame.matrix, products, strict=True):
        total = slots.setdefault(step.layer, {})
        for cause, number in product.items():
            total[cause] = total.get(cause, 0) + number
    return [_layer(frame, frame.layers[number], steps[number], slots.get(number, {}))
            for number in sorted(steps)]


def _layer(frame, layer, own, slots):
    matrix = [step for step in own if step.unit is Unit.MM]
    words = sum(passes_of(step.opcode, step.fields) * step.fields["k_words"] for step in matrix)
    first, last = min(step.pop for step in own), max(step.done for step in own)
    lengths = {step.work[2] for step in matrix if step.work}
    return {
        "name": layer["name"], "op": layer["op"], "binary": layer["binary"],
        "unit": own[0].unit.name, "instructions": len(own),
        "first_cycle": first, "last_cycle": last, "cycles": last - first + 1,
        "busy": sum(step.occupancy for step in own),
        "macs": layer["macs"], "length": max(lengths, default=None),
        "planes": _planes(layer, matrix), "array_words": words,
        "array_share": (layer["macs"] / (words * frame.arch.macs_per_cycle)
                        if layer["binary"] and words else None),
        "spent": in_cycles(frame, slots),
    }


def _planes(layer, matrix):
    """Bits of an activation, and of a weight, of a layer of 8-bit products on the array."""
    if layer["binary"] or not layer["macs"] or not matrix:
        return None
    return [max(step.fields.get(f"{side}_planes", 1) for step in matrix) for side in "ab"]
