"""Where the cycles of a program go: per layer, per unit, and inside the binary layers."""

from collections.abc import Sequence

from bivit.compiler.accesses import accesses
from bivit.compiler.build import load_build
from bivit.compiler.expand import Execution, expand
from bivit.hw.arch import Arch
from bivit.hw.blocks.matmul import passes_of
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Unit
from bivit.hw.memories import memories
from bivit.sim.cycles import CycleReport, executed_cycles

__all__ = ["CAUSES", "analyse", "report"]

CAUSES = ("useful", "padding", "drain", "other layers", "load", "matrix results", "softmax",
          "vector", "dispatch", "pipeline")
"""What a cycle of the array inside the binary layers can be.

``useful``: a fully used array would need these for the useful binary MACs. ``padding``: rows,
columns or lanes without work. ``drain``: a pass is shorter than the draining of the one before.
``other layers``: 8-bit passes. ``load``, ``matrix results``, ``softmax``, ``vector``: the array is
idle and waits for results of that unit (``matrix results``: of its own pipeline). ``dispatch``:
idle because the instruction is not there yet. ``pipeline``: the start, and the way of the last
results to memory.
"""

_WAITING = {Unit.LOAD: "load", Unit.MM: "matrix results", Unit.SOFTMAX: "softmax",
            Unit.VEC: "vector"}


def analyse(arch: Arch, execution: Execution, layers: Sequence[dict],
            layer_of: Sequence[int]) -> dict:
    """Predict the cycles of one isolated image, and say what they are spent on.

    Parameters
    ----------
    execution : Execution
        What the program does.
    layers : list of dict
        ``name``, ``op``, ``binary`` and useful ``macs`` of each layer, as the manifest has them.
    layer_of : list of int
        Index of the layer of each executed instruction.

    Returns
    -------
    dict
        ``cycles_per_image``; ``utilization`` of the array on the binary layers, useful MACs over
        those that a full array does in all cycles from the first binary layer's start to the last
        one's end (None without binary layers); ``binary_cycles``, those cycles; ``spent``, what
        they are (:data:`CAUSES`), which sums up to them; ``layers``; ``units``.
    """
    timing = executed_cycles(arch, execution)
    instructions = [executed[:2] for executed in execution.instructions[:-1]]
    matrix = [index for index, (opcode, _) in enumerate(instructions)
              if UNIT_OF[opcode] is Unit.MM]
    binary = [index for index in matrix if layers[layer_of[index]]["binary"]]
    spent, window = dict.fromkeys(CAUSES, 0), 0
    if binary:
        window = timing.done[binary[-1]] - timing.pop[binary[0]] + 1
        spent = _spent(arch, instructions, timing, layers, layer_of,
                       [index for index in matrix if binary[0] <= index <= binary[-1]], window)
    return {
        "cycles_per_image": timing.cycles,
        "macs_per_cycle": arch.macs_per_cycle,
        "binary_macs": _binary_macs(layers),
        "utilization": spent["useful"] / window if binary else None,
        "binary_cycles": window,
        "spent": spent,
        "layers": _layers(arch, instructions, timing, layers, layer_of),
        "units": {unit.name: {"busy": timing.busy[unit],
                              "share": timing.busy[unit] / timing.cycles} for unit in Unit},
    }


def _binary_macs(layers):
    return sum(layer["macs"] for layer in layers if layer["binary"])


def _words(instruction):
    """Word pairs that a matrix instruction sends through the array."""
    opcode, fields = instruction
    return passes_of(opcode, fields) * fields["k_words"]


def _spent(arch, instructions, timing: CycleReport, layers, layer_of, matrix, window):
    """Cycles by cause, over the matrix instructions `matrix` (all from the first to the last)."""
    spent = dict.fromkeys(CAUSES, 0)
    spent["pipeline"] = 1  # the pop of the first one
    free = timing.pop[matrix[0]]
    for index in matrix:
        gap = timing.pop[index] - free
        if gap:
            spent[_cause(instructions, timing, index)] += gap
        free = timing.pop[index] + timing.occupancy[index]
        if layers[layer_of[index]]["binary"]:
            words = _words(instructions[index])
            spent["padding"] += words
            spent["drain"] += timing.occupancy[index] - words
        else:
            spent["other layers"] += timing.occupancy[index]
    spent["pipeline"] += timing.done[matrix[-1]] - free
    assert sum(spent.values()) == window, "the table must account for every cycle"
    spent["useful"] = _binary_macs(layers) / arch.macs_per_cycle
    spent["padding"] -= spent["useful"]
    return spent


def _cause(instructions, timing, index):
    """What the array waits for before instruction `index`: the condition that came true last."""
    _, fields = instructions[index]
    ready, cause = timing.dispatch[index] + 2, "dispatch"
    for unit, name in WAIT_FIELDS.items():
        if fields[name]:
            earlier = _earlier(instructions, index, unit, fields[name])
            if earlier is not None and timing.done[earlier] + 1 > ready:
                ready, cause = timing.done[earlier] + 1, _WAITING[unit]
    return cause


def _earlier(instructions, index, unit, distance):
    """Index of the `distance`-th most recent instruction of `unit` before `index`, or None."""
    while distance and index:
        index -= 1
        distance -= UNIT_OF[instructions[index][0]] is unit
    return None if distance else index


def _layers(arch, instructions, timing, layers, layer_of):
    """One row for each layer that has instructions."""
    rows = []
    for number, layer in enumerate(layers):
        own = [index for index, other in enumerate(layer_of[:len(instructions)])
               if other == number]
        if not own:
            continue
        opcodes = [instructions[index][0] for index in own]
        matrix = [index for index in own if UNIT_OF[instructions[index][0]] is Unit.MM]
        words = sum(_words(instructions[index]) for index in matrix)
        first = min(timing.pop[index] for index in own)
        last = max(timing.done[index] for index in own)
        rows.append({
            "name": layer["name"], "op": layer["op"], "binary": layer["binary"],
            "unit": UNIT_OF[opcodes[0]].name, "instructions": len(own),
            "first_cycle": first, "last_cycle": last, "cycles": last - first + 1,
            "busy": sum(timing.occupancy[index] for index in own),
            "macs": layer["macs"], "array_words": words,
            "array_share": (layer["macs"] / (words * arch.macs_per_cycle)
                            if layer["binary"] and words else None),
        })
    return rows


def report(folder) -> dict:
    """What a build folder costs: :func:`analyse` of its program, and the memories.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        Also ``folder``, ``target``, ``instructions`` (in the program), ``executed`` (for each
        image), and ``memory``: for each memory its width, depth and the words that the program
        reads or writes.
    """
    build = load_build(folder)
    layer_of = [entry["layer"] for entry in build.manifest["executed"]]
    execution = expand(build.arch, build.words)
    return {"folder": str(folder), "target": build.arch.name, "instructions": len(build.words),
            "executed": len(layer_of),
            **analyse(build.arch, execution, build.manifest["layers"], layer_of),
            "memory": _memory(build.arch, execution, len(build.words))}


def _memory(arch, execution, words):
    """Width, depth and words in use of each memory."""
    used = {"program": range(words)}
    for opcode, fields, _, _ in execution.instructions[:-1]:
        touched = accesses(arch, opcode, fields)
        for memory, words in (*touched.reads, *touched.writes, *touched.updates):
            used.setdefault(memory, set()).update(words)
    return {name: {"width": size.width, "depth": size.depth, "words": len(used.get(name, ()))}
            for name, size in memories(arch).items()}
