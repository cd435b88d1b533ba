"""From a network to instructions and their loops: the passes in front of places.

None of them depends on when things happen, so designs that differ in :data:`TIMING` alone can share
what they give.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

from bivit.compiler.batch import batched
from bivit.compiler.code import Pipeline, Straight
from bivit.compiler.constant_reads import constant_reads
from bivit.compiler.depend import needs_of, units_of
from bivit.compiler.fuse import fuse
from bivit.compiler.ir.graph import Graph
from bivit.compiler.lifetimes import Lifetimes, lifetimes_of_loops
from bivit.compiler.lift import lift_signs
from bivit.compiler.pipeline import find_pipelines
from bivit.compiler.place import spread
from bivit.compiler.spill_parts import PLACES, spill_parts
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
        self._plans = {}

    def plan(self, run_words: int) -> Plan:
        """The instructions in canonical order, matrix products in pieces of so many word pairs."""
        if run_words not in self._plans:
            plan = tile(self.graph, self._fused, self._arch, run_words)
            _check_plan(plan)
            self._plans[run_words] = plan
        return self._plans[run_words]

    @functools.cached_property
    def loops(self) -> Loops:
        """The instructions in loops."""
        if fetched_memories(self._arch):
            plan, parts, _ = self._parts
            return self._fetched(plan, parts)
        cuts = cuts_for_loops(self.graph, self._fused, self._arch)
        plan = (tile(self.graph, self._fused, self._arch, RUN_WORDS[0], cuts=cuts) if cuts
                else self.plan(RUN_WORDS[0]))
        apart, before, touched, needs = self._apart(plan)
        parts = find_pipelines(apart.instructions, find_rolls(apart.instructions), needs,
                               plan.layers)
        return Loops(plan, parts, touched, before,
                     lifetimes_of_loops(plan, parts, touched, before), b"")

    @functools.cached_property
    def spilled(self) -> Loops | None:
        """The same, with values of RESID in external memory where it has too little room for all of
        them; None if that does not help."""
        plan, parts, needs = self._parts
        for count in PLACES:
            found = spill_parts(plan, parts, needs, self._arch, count)
            room = self._arch.pos_depth - found.rings()[1] if found else 0
            if room > 0:
                with contextlib.suppress(TooSmall):
                    return self._fetched(found.plan, found.parts, found, room)
        return None

    @functools.cached_property
    def _parts(self):
        """The plan of a streamed target, its parts and what its instructions need."""
        plan, arch = self.plan(RUN_WORDS[0]), self._arch
        apart, _, _, needs = self._apart(plan)
        reads = constant_reads(plan, arch)
        rolls = cut_rolls(plan, find_rolls(apart.instructions), arch, apart.instructions, reads)
        return plan, find_pipelines(apart.instructions, rolls, needs, plan.layers,
                                    loop_room(plan, arch, reads)), needs

    def _fetched(self, plan, parts, spilled=None, room=0):
        """The loops with their FETCHes; of `spilled` values if there are any, which leave so much
        `room` in POS."""
        arch = dataclasses.replace(self._arch, pos_depth=room) if spilled else self._arch
        plan, parts, external = stream_parts(
            plan, parts, arch, spread(plan)[0].instructions, constant_reads(plan, arch),
            spilled.words if spilled else 0)
        if spilled:
            plan = spilled.placed(plan, room)
        apart, before = spread(plan)
        touched = touched_words(apart.instructions, self._arch, share_sums=False)
        return Loops(plan, parts, touched, before,
                     lifetimes_of_loops(plan, parts, touched, before), external)

    def _apart(self, plan):
        """The plan where every region has a place of its own; these places; what instructions touch
        there, and on what they depend."""
        apart, before = spread(plan)
        touched = touched_words(apart.instructions, self._arch, share_sums=False)
        return apart, before, touched, needs_of(units_of(apart.instructions), touched)


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
