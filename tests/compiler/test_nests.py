"""Rows as nested loops: the loops visit the very rows that were asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bivit.compiler.accesses import accesses
from bivit.compiler.nests import Nest, find_nests, starts_cleanly
from bivit.hw.isa import FORMATS, Opcode
from bivit.hw.targets import TARGETS
from bivit.sim.walks import destination_of, destination_rows, source_of, source_rows

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20)), min_size=1, max_size=40)


def visited(nests):
    """Pairs in time order."""
    found = []
    for nest in nests:
        own = [(nest.sum, nest.row)]
        for count, sums, rows in nest.loops:
            own = [(s + i * sums, g + i * rows) for i in range(count) for s, g in own]
        found += own
    return found


@given(pairs=PAIRS)
def test_loops_visit_the_pairs_in_their_order(pairs):
    assert visited(find_nests(pairs)) == pairs


@given(pairs=PAIRS)
def test_sums_start_once_at_their_first_term(pairs):
    nests = find_nests(pairs)
    begun, right = set(), True
    for nest in nests:
        steps = visited([nest])
        assert [s for s, _ in steps] == [s for s, _ in nest.events()]
        for s, starts in nest.events():
            right &= starts == (s not in begun)
            begun.add(s)
    assert starts_cleanly(nests) == right


@pytest.mark.parametrize("ratio", (2, 3, 4))
def test_pooling_is_one_instruction(ratio):
    side = 3 * ratio
    squares = np.arange(side * side).reshape(3, ratio, 3, ratio).transpose(0, 2, 1, 3)
    pairs = [(i, int(g)) for i, square in enumerate(squares.reshape(9, -1)) for g in square]
    nests = find_nests(pairs)
    assert len(nests) == 1 and starts_cleanly(nests)


@settings(deadline=None)
@given(data=st.data())
def test_accesses_are_those_of_the_simulator(data):
    arch = TARGETS[data.draw(st.sampled_from(("tiny", "odd", "zynq-7020")))]

    def draw(high, low=0):
        return data.draw(st.integers(low, high))

    loops = tuple((draw(3, 1), draw(4), draw(5)) for _ in range(4))
    fields = dict.fromkeys(FORMATS[Opcode.ROWS_ADD], 0) | {
        "src_addr": draw(50), "src_row": draw(arch.rows - 1), "src_stride": draw(20, 1),
        "n_tiles": draw(3, 1), "sum_row": draw(3), "first": draw(1),
        **Nest(0, 0, loops).fields(arch.rows, sums=True)}
    fields["sum_tiles"] = fields["n_tiles"]
    found = accesses(arch, Opcode.ROWS_ADD, fields)
    address, row, sums, _ = source_rows(arch, source_of(fields))
    words = {int(a) + tile * arch.drain_cycles + int(r) // arch.post_rows
             for a, r in zip(address, row, strict=True) for tile in range(fields["n_tiles"])}
    assert set(found.reads[0][1]) == words
    touched = {(fields["sum_row"] + int(s)) // arch.post_rows * fields["sum_tiles"] + tile
               for s in sums for tile in range(fields["n_tiles"])}
    ((memory, places),) = found.writes or found.updates
    assert memory == "sums" and set(places) == touched

    segment = draw(7)
    left = draw(segment, 1) if segment else 0
    fields = dict.fromkeys(FORMATS[Opcode.ROWS_OUT], 0) | {
        "dst_addr": draw(50), "dst_row": draw(arch.rows - 1), "dst_stride": draw(20, 1),
        "segment": segment, "segment_left": left, "count": draw(20, 1), "sum_tiles": draw(3, 1)}
    found = accesses(arch, Opcode.ROWS_OUT, fields)
    address, row = destination_rows(destination_of(fields), fields["count"], arch.rows)
    assert set(found.writes[0][1]) == {
        int(a) + tile * arch.drain_cycles + int(r) // arch.post_rows
        for a, r in zip(address, row, strict=True) for tile in range(fields["sum_tiles"])}
