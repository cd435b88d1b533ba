"""What the compiler makes of a design: its target and its cycles.

They depend on a part of the design alone, so that designs for other devices of the same fabric, or
with another clock, share them.
"""

import dataclasses
import functools
import json
import math

from bivit.compiler.cutting import TIMING, Cutting, untimed
from bivit.compiler.encode import encode_program
from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import Candidate, choose, constant_words, uncollected
from bivit.compiler.structures import CompileError, TooSmall
from bivit.explore.hardware import FITTED, arch_of, device_of, fitted
from bivit.explore.networks import Prepared
from bivit.hw.arch import Arch, ArchError
from bivit.hw.devices import DEVICES
from bivit.hw.memories import fetched_memories
from bivit.sim.accounting import CAUSES, account, binary_window, product_slots
from bivit.sim.cycles import simulate_cycles
from bivit.sim.estimate import execution_of, sent
from bivit.sim.frame import Frame, frame_of, product_lengths
from bivit.sim.report import Report, analyse, cycles_per_image

__all__ = ["BOUNDS", "compiled", "cut_alike", "deciding", "report_of"]

BOUNDS = {
    "array": ("useful", "rows", "columns", "lanes", "repeated", "8-bit layers"),
    "drain": ("drain",),
    "post-processing": ("numbers alone", "matrix results"),
    "softmax": ("softmax",),
    "vector unit": ("vector",),
    "memory": ("fetch",),
    "input": ("load",),
    "program": ("dispatch", "start", "end"),
}
"""What bounds a design: causes of the array's cycles (:data:`bivit.sim.accounting.CAUSES`)."""
assert sorted(cause for causes in BOUNDS.values() for cause in causes) == sorted(CAUSES)

_TRIES = 8
"""Rounds of making memories deeper."""
_PROBABILITIES = 512
"""Words of PMEM where they are open: fewer would make heads wait for each other."""
_ACTIVATIONS = ("hmem", "xmem", "bmem", "kmem", "pv", "resid", "vmem")
_KNOWN = 4096
"""Results that are kept."""
_cutting = functools.lru_cache(maxsize=2)(Cutting)
"""Networks as they were cut last: thousands of instructions each."""


def deciding(design: dict) -> str:
    """What the cycles of a design depend on, as text: the same design, on any device of the fabric,
    with any clock."""
    fabric = device_of(design).family.fabric
    device = next(name for name, one in DEVICES.items() if one.family.fabric == fabric)
    return json.dumps(design | {"device": device, "clock": 1.0}, sort_keys=True)


def cut_alike(design: dict) -> str:
    """What the instructions of a design depend on, as text: the same design, whatever decides when
    they happen."""
    return json.dumps({name: value for name, value in design.items()
                       if name not in {*TIMING, "device", "clock"}}, sort_keys=True)


def compiled(design: dict, network: Prepared) -> tuple[Arch, dict]:
    """The target with depths as the network needs them, and its figures.

    Returns
    -------
    tuple
        The target; ``cycles``, ``interval``, ``utilization``, ``binary_macs``, ``instructions``,
        ``bounds`` and ``bound`` (``docs/explore.md``).

    Raises
    ------
    CompileError
    ArchError
    """
    found = _compiled(deciding(design), network)
    if isinstance(found, Exception):
        raise found
    return found


@functools.lru_cache(maxsize=_KNOWN)
def _compiled(text, network):
    """The same, or what is raised."""
    design = json.loads(text)
    try:
        with uncollected():
            arch, program = _fit(network.graph, arch_of(design), design)
            return arch, _figures(network.graph, arch, design.get("batch", 1), program)
    except (CompileError, ArchError) as problem:
        return problem.with_traceback(None)


def report_of(record: dict, graph: Graph) -> Report:
    """What pictures of a finished design need; the memories are left out."""
    arch = Arch(name="design", **record["target"])
    batch = record["design"].get("batch", 1)
    frame = _frame(graph, arch, choose(graph, arch, batch)[1])
    products = product_slots(frame)
    return Report(analyse(frame, products, batch), frame, products, {})


def _fit(graph: Graph, arch: Arch, design: dict) -> tuple[Arch, Candidate]:
    """The target with depths as the network needs them, and the program for it."""
    batch, depths = design.get("batch", 1), _Depths(graph, arch, design)
    deeper = depths.deepen if "resid_depth" not in design else None  # else values may be spilled
    for _ in range(_TRIES):
        try:
            _, program = choose(graph, depths.target, batch, deeper, _cutting)
            break
        except TooSmall as problem:
            depths.deepen(problem)
    else:
        raise CompileError(f"its memories found no depth that fits in {_TRIES} rounds; name depths")
    return depths.deeper({"program_depth": len(program.code.lines)}), program


_constant_words = functools.lru_cache(maxsize=_KNOWN)(constant_words)


class _Depths:
    """Depths of a design's memories, small at first, where it leaves them open."""

    def __init__(self, graph, arch, design):
        self._arch, self._design = arch, design
        self._needed = dict.fromkeys(FITTED, 1) | {
            "program_depth": arch.program_depth, "pmem_depth": _PROBABILITIES,
            "score_tiles": _score_tiles(graph, arch)}
        if arch.weights == "streamed":
            whole = _constant_words(graph, untimed(dataclasses.replace(arch, weights="rom")),
                                    design.get("batch", 1))
            self._needed |= {f"{name}_depth": math.ceil(design.get("constants", 1)
                                                        * whole.get(name, 1))
                             for name in fetched_memories(arch)}

    @property
    def target(self) -> Arch:
        """The target with these depths."""
        return fitted(self._arch, self._design, self._needed)

    def deeper(self, needed: dict[str, int]) -> Arch:
        """The target with other depths."""
        self._needed |= needed
        return self.target

    def deepen(self, problem: TooSmall) -> Arch:
        """The target with room for what was too small; or the problem, if a design names a depth.
        """
        needed = next((one for one in (problem.needed, *problem.instead)
                       if one.keys() <= set(FITTED) - set(self._design)), None)
        if needed is None:
            raise problem
        room = self._design.get("room", 1)
        return self.deeper({name: math.ceil(words * room)
                            if name.removesuffix("_depth") in _ACTIVATIONS else words
                            for name, words in needed.items()})


def _score_tiles(graph, arch):
    """Score tiles of the longest row of attention."""
    types = graph.infer()
    keys = [types[node.name].shape[2] for node in graph.nodes
            if node.op in ("scores", "window_scores")]
    return -(-max(keys, default=1) // arch.keys_per_group)


def _figures(graph, arch, batch, program):
    """Cycles, and what they are spent on."""
    words, _ = encode_program(program.plan, program.code, program.waits)
    frame = _frame(graph, arch, program)
    products = product_slots(frame)
    slots, window = account(frame, products), binary_window(frame)
    every = sum(slots.values())
    bounds = {name: sum(slots[cause] for cause in causes) / every
              for name, causes in BOUNDS.items()}
    binary = account(frame, products, window) if window else {}
    return {"cycles": frame.cycles,
            "interval": cycles_per_image(_interval(arch, words, frame), batch),
            "utilization": binary["useful"] / sum(binary.values()) if binary else None,
            "binary_macs": slots["useful"],
            "instructions": len(program.code.lines), "bounds": bounds,
            "bound": max(bounds, key=bounds.get)}


def _frame(graph: Graph, arch: Arch, program: Candidate) -> Frame:
    """One run of a program, before it is made of words."""
    plan = program.plan
    entries = [plan.instructions[index].description() for index, _ in sent(program)]
    return frame_of(arch, execution_of(program), [dataclasses.asdict(layer)
                                                  for layer in plan.layers],
                    entries, product_lengths(graph))


def _interval(arch, words, frame):
    """Cycles from one run to the next: only a stem engine works ahead."""
    if not arch.stem_macs:
        return frame.cycles
    first, second, _ = simulate_cycles(arch, words, frames=3).frame_cycles
    return second - first
