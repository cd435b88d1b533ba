"""One design: its target, its cycles, what bounds it and what it costs; or what speaks against it.

``evaluate`` is a pure function of its arguments, so that any process may call it.
"""

import dataclasses
import hashlib
import json
import math
import time

from bivit.compiler.encode import encode_program
from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import Candidate, choose, lower
from bivit.compiler.structures import CompileError, TooSmall
from bivit.explore.costs import costs_of, least_costs, modelled
from bivit.explore.hardware import FITTED, arch_of, check_hardware, device_of, fitted
from bivit.explore.networks import Prepared
from bivit.explore.space import AT_LEAST
from bivit.hw.arch import Arch, ArchError
from bivit.hw.devices import RESOURCES
from bivit.hw.memories import fetched_memories
from bivit.sim.accounting import CAUSES, account, binary_window, product_slots
from bivit.sim.cycles import simulate_cycles
from bivit.sim.estimate import execution_of, sent
from bivit.sim.frame import Frame, frame_of, product_lengths
from bivit.sim.report import Report, analyse, cycles_per_image

__all__ = ["BOUNDS", "design_key", "evaluate", "report_of"]

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


def design_key(design: dict, network: str) -> str:
    """Hash of a design and of the key of its network."""
    text = json.dumps([design, network], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Refusal(Exception):
    """A design that cannot work."""

    def __init__(self, constraint, text, value=None, limit=None):
        super().__init__(text)
        self.broken = {"constraint": constraint, "value": value, "limit": limit, "text": text}


def evaluate(design: dict, network: Prepared, constraints: dict[str, float]) -> dict:
    """The record of a design (``docs/explore.md``).

    Parameters
    ----------
    design : dict
        Parameter to value.
    network : Prepared
    constraints : dict of str to float
        Limits besides those of the device.
    """
    begin = time.perf_counter()
    record = {"design": design, "status": "refused", "broken": [],
              "accuracy": network.accuracy, "not_modelled": modelled(device_of(design))}
    try:
        record |= _figures(design, network)
    except _Refusal as refusal:
        record["broken"] = [refusal.broken]
    else:
        record["status"] = "done"
        record["broken"] = [*_over_device(record, device_of(design)),
                            *_over_limits(record, constraints)]
    return record | {"seconds": round(time.perf_counter() - begin, 3)}


def _figures(design, network):
    if network.problem is not None:
        raise _Refusal("network", network.problem)
    device, graph = device_of(design), network.graph
    try:
        check_hardware(design)
        arch = arch_of(design)
        for name, least in least_costs(arch, device, graph).items():
            if least > device.available[name]:
                what = {"luts": "the array alone", "block_ram": "the weights alone"}[name]
                raise _Refusal(name, f"{what} would take {least:,} {device.family.units[name]} "
                               f"and {design['device']} has {device.available[name]:,}", least,
                               device.available[name])
        arch, program = _fit(graph, arch, design)
        encode_program(program.plan, program.code, program.waits)  # fields hold what they must
        costs = costs_of(arch, device)
    except ArchError as error:
        raise _Refusal("architecture", str(error)) from None
    except TooSmall as error:
        name, needed = next(iter(error.needed.items()))
        raise _Refusal(name, str(error), needed, getattr(arch, name)) from None
    except CompileError as error:
        raise _Refusal("compiler", str(error)) from None
    return _times(design, graph, arch, program) | costs | {
        "target": {name: value for name, value in dataclasses.asdict(arch).items()
                   if name != "name"}}


def _fit(graph: Graph, arch: Arch, design: dict) -> tuple[Arch, Candidate]:
    """The target with depths as the network needs them, and the program for it."""
    needed = dict.fromkeys(FITTED, 1) | {
        "program_depth": arch.program_depth, "pmem_depth": _PROBABILITIES,
        "score_tiles": _score_tiles(graph, arch)}
    batch = design.get("batch", 1)
    if arch.weights == "streamed":
        share = design.get("constants", 1)
        whole = _needs(graph, fitted(dataclasses.replace(arch, weights="rom"), design, needed),
                       batch)
        needed |= {f"{name}_depth": math.ceil(share * whole.get(f"{name}_depth", 1))
                   for name in fetched_memories(arch)}
    for _ in range(_TRIES):
        target = fitted(arch, design, needed)
        try:
            _, program = choose(graph, target, batch)
            break
        except TooSmall as error:
            if not error.needed.keys() <= set(FITTED) - set(design):
                raise
            needed |= _with_room(error.needed, design.get("room", 1))
    else:
        raise CompileError(f"its memories found no depth that fits in {_TRIES} rounds; name depths")
    return fitted(target, design, {"program_depth": len(program.code.lines)}), program


def _needs(graph, arch, batch):
    """Depths that a network needs at least, of memories that are too small."""
    try:
        choose(graph, arch, batch)
    except TooSmall as error:
        return error.needed
    return {}


def _with_room(needed, room):
    return {name: math.ceil(words * room) if name.removesuffix("_depth") in _ACTIVATIONS else words
            for name, words in needed.items()}


def _score_tiles(graph, arch):
    """Score tiles of the longest row of attention."""
    types = graph.infer()
    keys = [types[node.name].shape[2] for node in graph.nodes
            if node.op in ("scores", "window_scores")]
    return -(-max(keys, default=1) // arch.keys_per_group)


def _times(design, graph, arch, program):
    """Cycles, and what they are spent on."""
    frame, batch = _frame(graph, arch, program), design.get("batch", 1)
    products = product_slots(frame)
    slots, window = account(frame, products), binary_window(frame)
    every = sum(slots.values())
    bounds = {name: sum(slots[cause] for cause in causes) / every
              for name, causes in BOUNDS.items()}
    binary = account(frame, products, window) if window else {}
    interval = cycles_per_image(_interval(graph, arch, batch, frame), batch)
    hertz = 1e6 * design["clock"]
    return {"cycles": frame.cycles, "interval": interval,
            "latency_ms": 1e3 * frame.cycles / hertz, "fps": hertz / interval,
            "utilization": binary["useful"] / sum(binary.values()) if binary else None,
            "binary_macs": slots["useful"],
            "instructions": len(program.code.lines), "bounds": bounds,
            "bound": max(bounds, key=bounds.get)}


def report_of(record: dict, graph: Graph) -> Report:
    """What pictures of a finished design need; the memories are left out."""
    arch = Arch(name="design", **record["target"])
    batch = record["design"].get("batch", 1)
    frame = _frame(graph, arch, choose(graph, arch, batch)[1])
    products = product_slots(frame)
    return Report(analyse(frame, products, batch), frame, products, {})


def _frame(graph: Graph, arch: Arch, program: Candidate) -> Frame:
    """One run of a program, before it is made of words."""
    plan = program.plan
    entries = [plan.instructions[index].description() for index, _ in sent(program)]
    return frame_of(arch, execution_of(program), [dataclasses.asdict(layer)
                                                  for layer in plan.layers],
                    entries, product_lengths(graph))


def _interval(graph, arch, batch, frame):
    """Cycles from one run to the next: only a stem engine works ahead."""
    if not arch.stem_macs:
        return frame.cycles
    words = lower(graph, arch, batch).words
    first, second, _ = simulate_cycles(arch, words, frames=3).frame_cycles
    return second - first


def _over_device(record, device):
    """Resources that the device has too few of."""
    for name in RESOURCES:
        used = record[name]
        if used is None:  # what is known of it
            used = {"luts": record["array_luts"],
                    "block_ram": record["memory_block_ram"]}.get(name)
        if used is not None and used > device.available[name]:
            yield {"constraint": name, "value": used, "limit": device.available[name],
                   "text": f"{used:,} {device.family.units[name]} are needed and the device has "
                           f"{device.available[name]:,}"}


def _over_limits(record, constraints):
    """Limits of the space that are broken, or not known to be kept."""
    for name, limit in constraints.items():
        value, least = record.get(name), name in AT_LEAST
        if value is not None and (value >= limit if least else value <= limit):
            continue
        text = f"{name} is not known" if value is None else (
            f"{name} is {value:,.6g} and must be at {'least' if least else 'most'} {limit:,.6g}")
        yield {"constraint": name, "value": value, "limit": limit, "text": text}
