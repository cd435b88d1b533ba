"""The passes from a graph to a program, in one list, with a legality check after each."""

import collections
import contextlib
import dataclasses
import gc
import math
from collections.abc import Callable

from bivit.compiler.batch import batched
from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.code import Code
from bivit.compiler.constant_reads import constant_reads
from bivit.compiler.depend import dependencies, needs_of, units_of
from bivit.compiler.encode import encode_program, wait_distances
from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import OBSERVED_KINDS, Graph
from bivit.compiler.lifetimes import lifetimes_of_loops, lifetimes_of_order
from bivit.compiler.lift import lift_signs
from bivit.compiler.pack import pack
from bivit.compiler.pipeline import find_pipelines
from bivit.compiler.place import place, spread
from bivit.compiler.schedule import schedule
from bivit.compiler.spill import spill
from bivit.compiler.stream import stream
from bivit.compiler.stream_parts import cut_rolls, loop_room, stream_parts
from bivit.compiler.streams import find_rolls
from bivit.compiler.structures import CompileError, Plan, Program, TooSmall
from bivit.compiler.subroutines import assemble
from bivit.compiler.tile import cuts_for_loops, tile
from bivit.compiler.timeline import busiest, kinds_of, measure
from bivit.compiler.touched import touched_words
from bivit.compiler.verify import verify
from bivit.hw.arch import PARTS, Arch
from bivit.hw.blocks.checks import missing_part
from bivit.hw.isa import INSTR_BITS, Unit
from bivit.hw.memories import fetched_memories

__all__ = ["RUN_WORDS", "Candidate", "choose", "constant_words", "lower", "uncollected"]

RUN_WORDS = (1 << 20, 64, 32)
"""Longest matrix instructions that are tried, in cycles: short ones fill gaps better."""
_LONG = 1500
"""Instructions of a network from which on its program has loops, even if a straight one fits."""
_MANY = 4000
"""Instructions of the longest straight program whose matrix instructions are cut."""

_IDLE = 1.2
"""Cycles over those of the busiest unit from which on a straight program is tried, too."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A program for the network, its constants not yet made.

    Parameters
    ----------
    where : dict
        What :func:`bivit.compiler.place.place` gives.
    waits : list of dict
        What :func:`bivit.compiler.encode.wait_distances` gives.
    cycles : int
        An estimate, for the choice between candidates.
    external : bytes
        The image in external memory, if the constants lie there.
    """

    plan: Plan
    where: dict[str, tuple[str, int, int]]
    code: Code
    waits: list[dict[Unit, int]]
    cycles: int
    external: bytes


def lower(graph: Graph, arch: Arch, batch: int = 1) -> Program:
    """The program and the constant words of a network on a target; equal inputs, equal outputs.

    Parameters
    ----------
    graph : Graph
    arch : Arch
    batch : int
        Images of a program.

    Raises
    ------
    CompileError
        If the target cannot run the network: the layer, the reason, what to change.
    """
    transformed, best = choose(graph, arch, batch)
    words, instructions = encode_program(best.plan, best.code, best.waits)
    constants = {} if best.external else pack(best.plan, best.where, arch)
    try:
        check_program(words, arch, {name: len(values) for name, values in constants.items()})
    except IllegalProgram as error:
        raise AssertionError(f"the compiler made an illegal program: {error}") from error
    executed = tuple(instruction for instruction in (
        best.plan.instructions[index] for _, index in best.code.steps if index is not None)
        if not instruction.fields.get("next"))
    return Program(arch, graph, words, constants, instructions, executed, best.plan.layers,
                   _observations(transformed, executed),
                   {segment.name: best.where[segment.name] for segment in best.plan.segments},
                   best.external, batch)


def choose(graph: Graph, arch: Arch, batch: int = 1,
           deeper: Callable[[TooSmall], Arch] | None = None) -> tuple[Graph, Candidate]:
    """The graph that is compiled, and the best program that fits; arguments are those of
    :func:`lower`.

    Parameters
    ----------
    deeper : callable, optional
        Gives the target with deeper memories where values find no room, so that the way there is
        not gone again; or raises what it is given. Nothing is spilled then.

    Raises
    ------
    CompileError
    """
    verify(graph, arch)
    whole = graph
    graph = lift_signs(batched(graph, batch))
    fused = fuse(graph, arch)
    _check_operations(fused[0])
    places = _Places(arch, deeper)
    if fetched_memories(arch) and not arch.loops:
        raise CompileError(f"target {arch.name} has no {PARTS['loops']}, which a program with "
                           "streamed constants may need; leave out loops = false")
    with uncollected():
        found = list(_candidates(graph, fused, arch, places))
    if len(found) > 1 and places.arch is not arch:  # all of them for the same target
        return choose(whole, places.arch, batch, deeper)
    fitting = [program for program in found if len(program.code.lines) <= arch.program_depth]
    if not fitting:
        needed = min(len(program.code.lines) for program in found)
        raise TooSmall(f"layer {graph.nodes[-1].name}: the program takes {needed} instructions of "
                       f"{INSTR_BITS} bits, {(needed - arch.program_depth) * INSTR_BITS} bits more "
                       f"than PROGRAM of target {arch.name} has; raise program_depth to {needed}",
                       {"program_depth": needed})
    return graph, min(fitting, key=lambda program: program.cycles)


class _Places:
    """Places for all values of a plan, in a target whose memories become deeper if that is asked
    for."""

    def __init__(self, arch, deeper):
        self.arch, self.deeper = arch, deeper

    def of(self, plan, lifetimes):
        """What :func:`place` gives."""
        while True:
            try:
                return place(plan, self.arch, lifetimes)
            except TooSmall as problem:
                if self.deeper is None or _is_cut_for(plan, problem.needed):
                    raise
                self.arch = self.deeper(problem)


def _is_cut_for(plan, depths):
    """Whether instructions are cut for these depths: those of attention are, and pixels, of which a
    single ring stays as it is in a memory of its size."""
    rings = sum(region.memory == "imem" for region in plan.regions)
    return "pmem_depth" in depths or "imem_depth" in depths and rings > 1


def constant_words(graph: Graph, arch: Arch, batch: int = 1) -> dict[str, int]:
    """Words that all constants of a network take in each memory, by its name.

    Raises
    ------
    CompileError
    """
    verify(graph, arch)
    graph, words = lift_signs(batched(graph, batch)), collections.Counter()
    for segment in tile(graph, fuse(graph, arch), arch, RUN_WORDS[0]).segments:
        words[segment.memory] += len(segment.words)
    return dict(words)


@contextlib.contextmanager
def uncollected():
    """Thousands of instructions are made, none of them in a cycle: nothing to look for."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _candidates(graph, fused, arch, places):
    """Straight programs of a small network that fit, cut in several ways; else those of a large
    one."""
    lengths = set()
    for run_words in RUN_WORDS:
        plan = tile(graph, fused, arch, run_words)
        _check_plan(plan)
        _check_parts(plan, arch)
        length = len(plan.instructions)
        if length > min(_MANY if lengths else _LONG, arch.program_depth):
            if not lengths:
                yield from _large(graph, fused, plan, arch, places)
            return
        if length not in lengths:
            yield _straight(plan, arch, places)
        lengths.add(length)


def _large(graph, fused, plan, arch, places):
    """A program with loops, and a straight one if there is room for it, and the loops find no room
    for their values or leave all units idle, or the target has no loops."""
    fits = len(plan.instructions) <= arch.program_depth
    if not arch.loops:
        yield _straight(plan, arch, places)
        return
    try:
        looped = _looped(graph, fused, plan, arch, places)
    except CompileError as problem:
        if not fits or places.deeper and isinstance(problem, TooSmall):
            raise
    else:
        yield looped
        fits = fits and looped.cycles > _IDLE * busiest(
            plan, kinds_of(places.arch, plan.instructions))
    if fits:
        yield _straight(plan, arch, places)


def _straight(plan, arch, places):
    external = b""
    if fetched_memories(arch):
        plan, external = stream(plan if places.deeper else spill(plan, arch), arch)
    placed, where = places.of(plan, lifetimes_of_order(plan))
    arch = places.arch
    needs = dependencies(placed.instructions, arch)
    return _candidate(placed, where, schedule(placed, arch, needs), needs, arch,
                      external)


def _looped(graph, fused, plan, arch, places):
    if fetched_memories(arch):
        return _looped_streamed(plan, arch, places)
    if cuts := cuts_for_loops(graph, fused, arch):
        plan = tile(graph, fused, arch, RUN_WORDS[0], cuts=cuts)
    apart, before = spread(plan)
    units = units_of(apart.instructions)
    touched = touched_words(apart.instructions, arch, share_sums=False)
    needs = needs_of(units, touched)
    parts = find_pipelines(apart.instructions, find_rolls(apart.instructions), needs, plan.layers)
    placed, where = places.of(plan, lifetimes_of_loops(plan, parts, touched, before))
    arch, needs = places.arch, needs_of(units, touched.moved(before, where))
    return _candidate(placed, where, assemble(arch, placed.instructions, parts, needs), needs, arch,
                      b"")


def _looped_streamed(plan, arch, places):
    apart, _ = spread(plan)
    needs = dependencies(apart.instructions, arch, share_sums=False)
    reads = constant_reads(plan, arch)
    rolls = cut_rolls(plan, find_rolls(apart.instructions), arch, apart.instructions, reads)
    parts = find_pipelines(apart.instructions, rolls, needs, plan.layers,
                           loop_room(plan, arch, reads))
    plan, parts, external = stream_parts(plan, parts, arch, apart.instructions, reads)
    apart, before = spread(plan)
    touched = touched_words(apart.instructions, arch, share_sums=False)
    placed, where = places.of(plan, lifetimes_of_loops(plan, parts, touched, before))
    arch = places.arch
    needs = dependencies(placed.instructions, arch, share_sums=False)
    return _candidate(placed, where, assemble(arch, placed.instructions, parts, needs), needs, arch,
                      external)


def _candidate(plan, where, code, needs, arch, external):
    waits = wait_distances(plan, code, needs)
    return Candidate(plan, where, code, waits, measure(arch, plan, code, waits), external)


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


def _check_parts(plan: Plan, arch: Arch):
    """The target has the parts of the machine that the network needs."""
    for instruction in plan.instructions:
        part = missing_part(arch, instruction.opcode, instruction.fields)
        if part is not None:
            layer = plan.layers[instruction.layer].name
            raise CompileError(f"layer {layer}: target {arch.name} has no {PARTS[part]}; take a "
                               f"target without {part} = false")


def _check_plan(plan: Plan):
    """Addresses lie in their regions and segments."""
    sizes = {region.name: region.words for region in plan.regions}
    sizes |= {segment.name: len(segment.words) for segment in plan.segments}
    for instruction, addresses in zip(plan.instructions, plan.addresses, strict=True):
        for _, address in addresses:
            assert 0 <= address.offset < sizes[address.region], instruction


def _observations(graph, executed):
    """Values that instructions make, in the graph's order; all of each must be covered."""
    covered = {}
    places = (place for instruction in executed
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
