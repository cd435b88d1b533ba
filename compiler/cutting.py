"""From a network to instructions and their loops: the passes in front of places.

None of them depends on when things happen, so designs that differ in :data:`TIMING` alone can share
what they give.
"""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from bivit.compiler.batch import batched
from bivit.compiler.code import Pipeline, Straight
from bivit.compiler.constant_reads import constant_reads
from bivit.compiler.depend import needs_of, units_of
from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import Graph
from bivit.compiler.lifetimes import Lifetimes, lifetimes_of_loops, lifetimes_of_order
from bivit.compiler.lift import lift_signs
from bivit.compiler.pipeline import find_pipelines
from bivit.compiler.place import spread
from bivit.compiler.spill import spill
from bivit.compiler.spill_parts import PLACES, tightened
from bivit.compiler.stream import stream
from bivit.compiler.stream_parts import stream_parts
from bivit.compiler.stream_rolls import cut_rolls, loop_room
from bivit.compiler.streams import find_rolls
from bivit.compiler.structures import Plan, TooSmall
from bivit.compiler.tile import cuts_for_loops, tile
from bivit.compiler.touched import Touched, touched_words
from bivit.compiler.verify import verify
from bivit.hw.arch import Arch
from bivit.hw.memories import fetched_memories

__all__ = ["RUN_WORDS", "TIMING", "Cutting", "Loops", "untimed"]

RUN_WORDS = (1 << 20, 64, 32)
"""Longest matrix instructions that are tried, in cycles: short ones fill gaps better."""
TIMING = {"tile_rows": 1, "tile_cols": 1, "pop_stages": 1, "queue_depth": 8, "fabric": "generic"}
"""Parameters on which only depends when things happen; and what the passes here see of them."""


class Loops(NamedTuple):
    """A plan whose instructions are in loops.

    Parameters
    ----------
    plan : Plan
        Constants in external memory have their places, all else has none.
    parts : sequence of Straight or Pipeline
    touched : Touched
        What the instructions touch where every region has a place of its own.
    before : dict
        These places: memory, first word, number of words.
    lifetimes : Lifetimes
    external : bytes
        The image in external memory, if the constants lie there.
    """

    plan: Plan
    parts: Sequence[Straight | Pipeline]
    touched: Touched
    before: dict[str, tuple[str, int, int]]
    lifetimes: Lifetimes
    external: bytes


def untimed(arch: Arch) -> Arch:
    """What the passes here see of a target."""
    return dataclasses.replace(arch, **TIMING)


class _Last:
    """A function of a plan and a target that keeps its last result."""

    def __init__(self, function, arch):
        self._function, self._arch, self._plan, self._result = function, arch, None, None

    def __call__(self, plan):
        if self._plan is not plan:
            self._plan, self._result = plan, self._function(plan, self._arch)
        return self._result


def _spread(plan, arch):
    """The plan with a place of its own for every region, these places, and what the instructions
    touch then."""
    apart, before = spread(plan)
    return apart, before, touched_words(apart.instructions, arch, share_sums=False)


class Cutting:
    """The ways to cut a network into instructions for a target; each is made when it is asked for.

    Parameters
    ----------
    graph : Graph
    arch : Arch
        As :func:`untimed` gives it.
    batch : int
        Images of a program.

    Attributes
    ----------
    graph : Graph
        The one that is compiled.

    Raises
    ------
    CompileError
        Here and in all methods, if the target cannot run the network.
    """

    def __init__(self, graph: Graph, arch: Arch, batch: int = 1):
        verify(graph, arch)
        self.graph, self._arch = lift_signs(batched(graph, batch)), arch
        self._fused = fuse(self.graph, arch)
        _check_operations(self._fused[0])
        self._plans, self._straight = {}, {}
        self._apart, self._reads = _Last(_spread, arch), _Last(constant_reads, arch)

    def plan(self, run_words: int) -> Plan:
        """The instructions in canonical order, matrix products in pieces of so many word pairs."""
        if run_words not in self._plans:
            plan = tile(self.graph, self._fused, self._arch, run_words)
            _check_plan(plan)
            self._plans[run_words] = plan
        return self._plans[run_words]

    def straight(self, run_words: int, *, spills: bool) -> tuple[Plan, Lifetimes, bytes]:
        """The instructions of :meth:`plan` with FETCHes for streamed constants, when regions are in
        use, and the image in external memory.

        Parameters
        ----------
        spills : bool
            Whether values for which there is no room may wait in external memory.
        """
        key = run_words, spills
        if key not in self._straight:
            plan, external = self.plan(run_words), b""
            if fetched_memories(self._arch):
                plan, external = stream(spill(plan, self._arch) if spills else plan, self._arch)
            self._straight[key] = plan, lifetimes_of_order(plan), external
        return self._straight[key]

    @functools.cached_property
    def loops(self) -> Loops:
        """The instructions in loops."""
        plan, parts, _ = self._parts
        return self._placed(plan, parts)

    @functools.cached_property
    def tight(self) -> Loops | None:
        """The same for memories without room: values in rings, and numbers in external memory if
        the target has one; None if constants have no room beside them then."""
        least = tightened(*self._parts, self._arch, 1)
        more = (tightened(*self._parts, self._arch, count) for count in PLACES if least[1])
        for turned, fits in itertools.chain(more, [least]):
            if fits or turned is least[0]:
                with contextlib.suppress(TooSmall):
                    return self._placed(turned.plan, turned.parts, turned)
        return None

    @functools.cached_property
    def _parts(self):
        """The plan, its parts, and what its instructions need."""
        plan, arch = self.plan(RUN_WORDS[0]), self._arch
        if not fetched_memories(arch):
            cuts = cuts_for_loops(self.graph, self._fused, arch)
            if cuts:
                plan = tile(self.graph, self._fused, arch, RUN_WORDS[0], cuts=cuts)
        apart, _, touched = self._apart(plan)
        needs = needs_of(units_of(apart.instructions), touched)
        rolls = find_rolls(apart.instructions)
        if not fetched_memories(arch):
            return plan, find_pipelines(apart.instructions, rolls, needs, plan.layers), needs
        reads = self._reads(plan)
        rolls = cut_rolls(plan, rolls, arch, apart.instructions, reads)
        return plan, find_pipelines(apart.instructions, rolls, needs, plan.layers,
                                    loop_room(plan, arch, reads)), needs

    def _placed(self, plan, parts, turned=None):
        """The loops, with FETCHes for streamed constants; those of values outside and in rings
        leave them less of POS."""
        external, arch = b"", self._arch
        if fetched_memories(arch):
            room = arch.pos_depth - (turned.rings()[1] if turned else 0)
            plan, parts, external = stream_parts(
                plan, parts, dataclasses.replace(arch, pos_depth=room),
                self._apart(plan)[0].instructions, self._reads(plan),
                turned.words if turned else 0)
            plan = turned.placed(plan, room) if turned else plan
        _, before, touched = self._apart(plan)
        return Loops(plan, parts, touched, before,
                     lifetimes_of_loops(plan, parts, touched, before), external)


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
    for instruction, addresses in zip(plan.instructions, plan.addresses, strict=True):
        for _, address in addresses:
            assert 0 <= address.offset < sizes[address.region], instruction
