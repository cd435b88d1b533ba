"""Words that a plan touches, where its values lie elsewhere; dependencies word by word."""

import dataclasses

import numpy as np
import pytest

from bivit.compiler.accesses import CONSTANTS, accesses
from bivit.compiler.depend import dependencies
from bivit.compiler.fuse import fuse
from bivit.compiler.lifetimes import lifetimes_of_order
from bivit.compiler.lift import lift_signs
from bivit.compiler.place import place, spread
from bivit.compiler.tile import tile
from bivit.compiler.touched import touched_words
from bivit.hw.isa import UNIT_OF, Unit
from bivit.hw.targets import TARGETS
from graphs import random_vit_graph
from network_graphs import random_pyramid_graph, random_window_graph


@pytest.fixture(params=("vit", "pyramid", "windows"))
def plan(request):
    graph = lift_signs({"vit": random_vit_graph(1), "pyramid": random_pyramid_graph(2),
                        "windows": random_window_graph(3)}[request.param])
    return tile(graph, fuse(graph, TARGETS["odd"]), TARGETS["odd"], 1 << 20)


@pytest.mark.parametrize("share_sums", (False, True))
def test_moved_words_are_those_of_the_moved_plan(plan, share_sums):
    arch = TARGETS["odd"]
    apart, before = spread(plan)
    placed, where = place(plan, arch, lifetimes_of_order(plan))
    expected = touched_words(placed.instructions, arch, share_sums=share_sums)
    found = touched_words(apart.instructions, arch, share_sums=share_sums).moved(before, where)
    assert found.names == expected.names
    for own, other in zip(found[:-1], expected[:-1], strict=True):
        assert np.array_equal(own, other)


def test_dependencies_are_those_of_single_words(plan):
    arch = TARGETS["odd"]
    placed, _ = place(plan, arch, lifetimes_of_order(plan))
    needs, writer, readers, load = dependencies(placed.instructions, arch), {}, {}, None
    for index, instruction in enumerate(placed.instructions):
        unit, wanted = UNIT_OF.get(instruction.opcode), {}
        touched = accesses(arch, instruction.opcode, instruction.fields)
        reads, writes = ({(memory, word) for memory, words in ranges for word in words
                          if memory not in CONSTANTS}
                         for ranges in (touched.reads, touched.writes + touched.updates))
        for word in reads & writer.keys():
            wanted[writer[word]] = True
        for word in writes:
            for other in {writer.get(word), *readers.pop(word, ())} - {None, index}:
                wanted.setdefault(other, UNIT_OF[placed.instructions[other].opcode] is not unit)
        for word in reads - writes:
            readers.setdefault(word, set()).add(index)
        writer |= dict.fromkeys(writes, index)
        if unit is Unit.LOAD:
            if load is not None:
                wanted.setdefault(load, False)
            load = index
        assert needs[index] == wanted, dataclasses.asdict(instruction)
