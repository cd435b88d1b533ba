"""The passes from a graph to a program, in one list, with a legality check after each."""

import math

from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.encode import encode_program
from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import OBSERVED_KINDS, Graph
from bivit.compiler.lift import lift_signs
from bivit.compiler.pack import pack
from bivit.compiler.place import place
from bivit.compiler.schedule import schedule
from bivit.compiler.structures import Address, CompileError, Plan, Program
from bivit.compiler.tile import tile
from bivit.compiler.verify import verify
from bivit.hw.arch import Arch

__all__ = ["RUN_WORDS", "lower"]

RUN_WORDS = (4096, 64, 32)
"""Longest matrix instructions that are tried, in cycles: short ones fill gaps better."""
_MANY = 6000
"""Instructions of a network for which nothing shorter is tried."""


def lower(graph: Graph, arch: Arch) -> Program:
    """The program and the constant words of a network on a target; equal inputs, equal outputs.

    Raises
    ------
    CompileError
        If the target cannot run the network: the layer, the reason, what to change.
    """
    verify(graph, arch)
    source, graph = graph, lift_signs(graph)
    fused = fuse(graph, arch)
    _check_operations(fused[0])
    best, lengths = None, set()
    for run_words in RUN_WORDS:
        if best is not None and len(best[0].plan.instructions) > _MANY:
            break
        plan = tile(graph, fused, arch, run_words)
        _check_plan(plan)
        if lengths and (len(plan.instructions) in lengths
                        or len(plan.instructions) > arch.program_depth):
            continue  # nothing new, or more than there is room for
        lengths.add(len(plan.instructions))
        plan, where = place(plan, arch)
        scheduled = schedule(plan, arch)
        _check_order(scheduled)
        if best is None or scheduled.cycles < best[0].cycles:
            best = scheduled, where
    scheduled, where = best
    words, instructions = encode_program(scheduled)
    if len(words) > arch.program_depth:
        raise CompileError(f"layer {graph.nodes[-1].name}: the program takes {len(words)} "
                           f"instructions and target {arch.name} has {arch.program_depth}; raise "
                           f"program_depth to {len(words)}")
    constants = pack(scheduled.plan, where)
    try:
        check_program(words, arch, {name: len(values) for name, values in constants.items()})
    except IllegalProgram as error:
        raise AssertionError(f"the compiler made an illegal program: {error}") from error
    return Program(arch, source, words, constants, instructions, instructions, plan.layers,
                   _observations(graph, instructions),
                   {segment.name: where[segment.name] for segment in scheduled.plan.segments})


def _check_operations(operations):
    """Every form of a value is made once, after what it is made of."""
    seen, made = set(), set()
    for operation in operations:
        assert operation.kind == "load" or set(operation.inputs.values()) <= seen, operation.name
        signs = {name for role, name in operation.nodes.items() if role.startswith("sign")}
        seen |= {operation.name, *signs}
        for value in signs or {operation.name}:
            for form in operation.forms or (None,):
                assert (value, form) not in made, operation.name
                made.add((value, form))


def _check_plan(plan: Plan):
    """Addresses lie in their regions and segments."""
    sizes = {region.name: region.words for region in plan.regions}
    sizes |= {segment.name: len(segment.words) for segment in plan.segments}
    for instruction in plan.instructions:
        for value in instruction.fields.values():
            if isinstance(value, Address):
                assert 0 <= value.offset < sizes[value.region], instruction


def _check_order(scheduled):
    """Dependencies point backwards."""
    for position, needs in enumerate(scheduled.waits):
        assert all(other < position for other in needs), position


def _observations(graph, instructions):
    """Values that instructions make, in the graph's order; all of each must be covered."""
    covered = {}
    places = (place for instruction in instructions
              for place in (instruction.observe, instruction.observe_bits))
    for observe in places:
        if observe:
            (r0, r1), (c0, c1) = observe.rows, observe.cols
            pieces = covered.setdefault(observe.name, set())
            pieces.add((observe.head, r0, r1, c0, c1))
    result, types = [], graph.infer()
    for node in graph.nodes:
        if node.name in covered:
            kind, shape = types[node.name].kind, types[node.name].shape
            area = sum((r1 - r0) * (c1 - c0) for _, r0, r1, c0, c1 in covered[node.name])
            assert kind in OBSERVED_KINDS and area >= math.prod(shape), node.name
            result.append({"name": node.name, "kind": kind, "shape": list(shape)})
    return result
