"""Programs with loops: the same results and fields as straight ones, in few instructions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bivit.compiler.expand import expand
from bivit.compiler.ir import checkpoint
from bivit.compiler.kernels import stages_of
from bivit.compiler.streams import Course, Pulse, Wrap, course_of
from bivit.hw.isa import Opcode
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from graphs import random_vit_graph
from lowering import verify
from network_graphs import NetworkBuilder, neighbours, squares

ROOM = 700
"""Instructions that the program memory has room for; straight programs are longer."""


def check_loops(graph, arch, room=ROOM):
    """A program with loops does at every point what the graph does; gives it."""
    arch = dataclasses.replace(arch, name="small", program_depth=room)
    program = verify(graph, arch, images=1)
    assert any(instruction.opcode is Opcode.LOOP for instruction in program.instructions)
    assert len(program.executed) > len(program.words)
    sent = expand(arch, program.words).instructions
    for executed, canonical in zip(sent, program.executed, strict=True):
        assert executed.opcode is canonical.opcode
        assert canonical.fields.items() <= executed.fields.items()
    return program


@pytest.mark.parametrize("target", ("tiny", "odd"))
@pytest.mark.parametrize("seed", range(3))
def test_random_networks(seed, target):
    graph = random_vit_graph(seed, depth=3, embed_dim=24, num_heads=2 + seed % 2, mlp_dim=40,
                             image_shape=(1, 8, 12), patch_size=2)
    program = check_loops(graph, TARGETS[target], room=160)
    assert any(i.opcode is Opcode.RETURN for i in program.instructions)


@pytest.mark.parametrize("name, target, room", [
    ("bivit_deit_micro", "tiny", 200), ("bi_vit_deit_micro", "odd", ROOM),
    pytest.param("bibert_deit_micro", "odd", ROOM, marks=pytest.mark.slow),
    pytest.param("bivit_swin_micro", "odd", ROOM, marks=pytest.mark.slow),
    pytest.param("bivit_nest_micro", "odd", 5000, marks=pytest.mark.slow),
    pytest.param("binaryvit_micro", "tiny", 1500, marks=pytest.mark.slow)])
def test_micro_networks(name, target, room, tmp_path):
    convert_random(name, 1, tmp_path / "net.safetensors", photographs((3, 32, 32)))
    check_loops(checkpoint.load(tmp_path / "net.safetensors"), TARGETS[target], room)


def values_of(course, first, count):
    """What a field holds in the iterations of a loop."""
    if course.pulse:
        return [int((i + course.pulse.phase) % course.pulse.period == 0) for i in range(count)]
    return [first + course.step * i + sum(wrap.add * ((i + wrap.phase) // wrap.period)
                                          for wrap in course.wraps) for i in range(count)]


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(2, 9), st.integers(0, 8),
       st.integers(12, 60))
@example(0, 1, 6, 0, 12)
@settings(max_examples=200, deadline=None)
def test_courses_are_found(step, wrap, period, phase, count):
    values = values_of(Course(step, (Wrap(wrap, period, phase % period),)), 0, count)
    found = course_of(values)
    assert found is not None
    assert values_of(found, values[0], count) == values


@pytest.mark.parametrize("windows", [4, 8])
def test_courses_of_shifted_windows(windows):
    """Rows of biases by the kind of window: inside, last of a row, last row, both."""
    values = [5 * row + 100 * (column == windows - 1) + 200 * (line == windows - 1)
              for line in range(windows) for column in range(windows) for row in range(7)]
    found = course_of(values)
    assert len(found.wraps) > 1 and values_of(found, 0, len(values)) == values


@given(st.lists(st.integers(0, 1), min_size=2, max_size=12))
@example([0, 1, 1, 1])
@example([0, 0, 1, 0, 1, 0])
@settings(max_examples=500, deadline=None)
def test_a_course_gives_back_what_it_was_found_in(values):
    if found := course_of(values):
        assert values_of(found, values[0], len(values)) == values


def test_pulses_are_found():
    assert course_of([1, 0, 0, 1, 0, 0, 1]) == Course(pulse=Pulse(3, 0))
    assert course_of([0, 0, 1, 0, 0, 1, 0]) == Course(pulse=Pulse(3, 1))
    assert course_of([1, 0, 0, 1, 0]) is not None
    assert course_of([1, 0, 1, 1, 0]) is None
    assert course_of([0, 5, 1, 7]) is None


def test_two_wraps():
    """Rows of a block of eight, seven tokens on at every fourth iteration."""
    tokens = [i // 4 * 7 for i in range(28)]
    for values in ([token % 8 for token in tokens], [token // 8 for token in tokens]):
        found = course_of(values)
        assert len(found.wraps) == 2
        assert values_of(found, values[0], len(values)) == values


def test_stages_follow_from_the_order():
    def stages(body, edges, late=()):
        kept = np.isin(np.arange(len(body)), late)
        return stages_of(np.array(body), kept, np.array(edges), 7).tolist()

    edges = [(0, 1, 0, 1), (1, 2, 0, 0), (0, 2, 2, 1)]
    assert stages((0, 1, 2), edges) == [0, 0, 2]
    assert stages((2, 1, 0), edges) == [0, 1, 3]
    assert stages((0, 1, 2), edges, late=(2,)) == [0, 0, 3]
    assert stages((0, 1), [(0, 1, 0, 1), (1, 0, 0, 1)]) == []


@pytest.mark.parametrize("heads, together", [(6, 3), (8, 4)])
def test_heads_go_group_by_group(heads, together):
    """More heads than SOFTMAX has slots: a body has the scores of a group of them alone."""
    graph = random_vit_graph(heads, depth=2, embed_dim=24, num_heads=heads, mlp_dim=40,
                             image_shape=(1, 6, 8))
    program = check_loops(graph, TARGETS["tiny"], room=300)
    scores = [0]  # of each loop
    for instruction in program.instructions:
        scores += [0] if instruction.opcode is Opcode.LOOP else []
        scores[-1] += instruction.opcode is Opcode.MM_SCORE
    assert set(scores) == {0, together}


@pytest.mark.parametrize("pooled", [False, True])
def test_numbers_that_are_gathered_into_windows(pooled):
    """The last block of each window is filled in part: what nothing wrote there is not read.

    As many tokens that are pooled before are cut into lines of an image.
    """
    net = NetworkBuilder(1, (1, 16, 16))
    x = net.start(2, 8)
    if pooled:
        x = net.add("pool", "max_pool", x, tensors={"index": neighbours(8, 8, (3, 3))})
    x = net.gather("windows", x, squares(8, 8, 2).reshape(-1, 1))
    bits = net.norm_bits("norm", x)
    q, k, v = (net.signs(f"{part}.sign", net.binary_linear(part, bits, 8)) for part in "qkv")
    scores = net.add("scores", "window_scores", q, k, num_heads=2, windows=16)
    attention = net.add("softmax", "softmax_threshold", scores, delta=3)
    bits = net.signs("sign", net.add("attend", "attend", attention, v))
    check_loops(net.finish(net.product("attn.proj", bits, 8, x, width=12)), TARGETS["odd"],
                room=300)
