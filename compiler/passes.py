"""The passes from a graph to a program, in one list, with a legality check after each."""

import collections
import contextlib
import dataclasses
import gc
import math
from collections.abc import Callable

from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.code import Code
from bivit.compiler.cutting import RUN_WORDS, Cutting, Loops, untimed
from bivit.compiler.depend import dependencies, needs_of, units_of
from bivit.compiler.encode import encode_program, wait_distances
from bivit.compiler.ir.graph import OBSERVED_KINDS, Graph
from bivit.compiler.pack import pack
from bivit.compiler.place import place
from bivit.compiler.schedule import schedule
from bivit.compiler.structures import CompileError, Plan, Program, TooSmall
from bivit.compiler.subroutines import assemble
from bivit.compiler.timeline import busiest, kinds_of, measure
from bivit.hw.arch import PARTS, Arch
from bivit.hw.blocks.checks import missing_part
from bivit.hw.isa import INSTR_BITS, Unit
from bivit.hw.memories import fetched_memories

__all__ = ["Candidate", "choose", "constant_words", "lower", "uncollected"]

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
           deeper: Callable[[TooSmall], Arch] | None = None,
           cutting: Callable[[Graph, Arch, int], Cutting] = Cutting) -> tuple[Graph, Candidate]:
    """The graph that is compiled, and the best program that fits; arguments are those of
    :func:`lower`.

    Parameters
    ----------
    deeper : callable, optional
        Gives the target with deeper memories where values find no room, so that the way there is
        not gone again; or raises what it is given. Nothing is spilled then.
    cutting : callable, optional
        Gives what was cut before, so that designs can share it.

    Raises
    ------
    CompileError
    """
    places = _Places(arch, deeper)
    if fetched_memories(arch) and not arch.loops:
        raise CompileError(f"target {arch.name} has no {PARTS['loops']}, which a program with "
                           "streamed constants may need; leave out loops = false")
    with uncollected():
        cut = cutting(graph, untimed(arch), batch)
        found = list(_candidates(cut, arch, places))
    if len(found) > 1 and places.arch is not arch:  # all of them for the same target
        return choose(graph, places.arch, batch, deeper, cutting)
    fitting = [program for program in found if len(program.code.lines) <= arch.program_depth]
    if not fitting:
        needed = min(len(program.code.lines) for program in found)
        raise TooSmall(f"layer {cut.graph.nodes[-1].name}: the program takes {needed} instructions "
                       f"of {INSTR_BITS} bits, {(needed - arch.program_depth) * INSTR_BITS} bits "
                       f"more than PROGRAM of target {arch.name} has; raise program_depth to "
                       f"{needed}",
                       {"program_depth": needed})
    return cut.graph, min(fitting, key=lambda program: program.cycles)


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
    words = collections.Counter()
    for segment in Cutting(graph, untimed(arch), batch).plan(RUN_WORDS[0]).segments:
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


def _candidates(cut, arch, places):
    """Straight programs of a small network that fit, cut in several ways; else those of a large
    one."""
    lengths = set()
    for run_words in RUN_WORDS:
        plan = cut.plan(run_words)
        _check_parts(plan, arch)
        length = len(plan.instructions)
        if length > min(_MANY if lengths else _LONG, arch.program_depth):
            if not lengths:
                yield from _large(cut, plan, arch, places)
            return
        if length not in lengths:
            straight = _straight(cut, run_words, places)
            yield straight
            if not lengths and arch.loops and len(straight.code.lines) > arch.program_depth:
                with contextlib.suppress(CompileError):
                    yield _any_looped(cut, places)
                return
        lengths.add(length)


def _large(cut, plan, arch, places):
    """A program with loops, and a straight one if there is room for it, and the loops find no room
    for their values or leave all units idle, or the target has no loops."""
    fits = len(plan.instructions) <= arch.program_depth
    if not arch.loops:
        yield _straight(cut, RUN_WORDS[0], places)
        return
    try:
        looped = _any_looped(cut, places)
    except CompileError as problem:
        if not fits or places.deeper and isinstance(problem, TooSmall):
            raise
    else:
        yield looped
        fits = fits and looped.cycles > _IDLE * busiest(
            plan, kinds_of(places.arch, plan.instructions))
    if fits:
        yield _straight(cut, RUN_WORDS[0], places)


def _straight(cut, run_words, places):
    plan, lifetimes, external = cut.straight(run_words, spills=places.deeper is None)
    placed, where = places.of(plan, lifetimes)
    arch = places.arch
    needs = dependencies(placed.instructions, arch)
    return _candidate(placed, where, schedule(placed, arch, needs), needs, arch, external)


def _any_looped(cut, places):
    """A program with loops, with values in rings and outside if there is no room for all."""
    try:
        return _looped(cut.loops, places)
    except TooSmall:
        if places.deeper or (tight := cut.tight) is None:
            raise
    return _looped(tight, places)


def _looped(loops: Loops, places):
    placed, where = places.of(loops.plan, loops.lifetimes)
    needs = needs_of(units_of(placed.instructions), loops.touched.moved(loops.before, where))
    code = assemble(places.arch, placed.instructions, loops.parts, needs)
    return _candidate(placed, where, code, needs, places.arch, loops.external)


def _candidate(plan, where, code, needs, arch, external):
    waits = wait_distances(plan, code, needs)
    return Candidate(plan, where, code, waits, measure(arch, plan, code, waits), external)


def _check_parts(plan: Plan, arch: Arch):
    """The target has the parts of the machine that the network needs."""
    for instruction in plan.instructions:
        part = missing_part(arch, instruction.opcode, instruction.fields)
        if part is not None:
            layer = plan.layers[instruction.layer].name
            raise CompileError(f"layer {layer}: target {arch.name} has no {PARTS[part]}; take a "
                               f"target without {part} = false")


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
