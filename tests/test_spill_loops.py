"""Values of RESID that pass through windows in programs with loops: bits, cycles, length."""

import contextlib
import dataclasses
from unittest import mock

import numpy as np
import pytest
from hypothesis import strategies as st

from bivit.compiler import passes
from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError, TooSmall
from bivit.hw.encoding import decode
from bivit.hw.isa import Destination, Opcode
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.simulate import simulate
from graphs import random_image, random_vit_graph
from test_networks import KINDS, check_on_iss, many
from test_spill import MEMORIES, ODD, SMALL, TINY, least_depth, stores


@contextlib.contextmanager
def loops_alone():
    """Networks of any size become programs with loops if there is room."""
    with mock.patch.object(passes, "_LONG", 1), mock.patch.object(passes, "_IDLE", 1e9):
        yield


def looped_stores(words):
    """STOREs in loops."""
    found, depth = 0, 0
    for opcode, fields in map(decode, words):
        depth += (opcode is Opcode.LOOP) - (opcode is Opcode.END and not fields["more"])
        found += depth > 0 and opcode is Opcode.STORE
    return found


def spill_test(kind, examples):
    @many(examples, st.tuples(KINDS[kind], st.sampled_from((2, 3)), st.sampled_from((1, 2))))
    def test(arch, graph):
        graph, part, batch = graph
        whole = dataclasses.replace(arch, vmem_depth=8192)
        with loops_alone():
            depth = least_depth(graph, whole)
            less = dataclasses.replace(whole, resid_depth=max(1, depth // part))
            try:
                program = lower(graph, less, batch)
            except TooSmall as error:
                assert "bits more than target" in str(error)
                return
        images = np.stack([random_image((5, i), graph.input_shape) for i in range(2)])
        check_on_iss(graph, program, images)
    return pytest.mark.parametrize("arch", [TINY, ODD], ids=lambda arch: arch.name)(test)


test_random_transformers = spill_test("transformers", 3)
test_random_networks_of_other_kinds = spill_test("others", 3)
test_more_transformers = pytest.mark.slow(spill_test("transformers", 15))
test_more_networks_of_other_kinds = pytest.mark.slow(spill_test("others", 15))


def enough_test(kind, examples):
    @many(examples, KINDS[kind])
    def test(arch, graph):
        arch = dataclasses.replace(arch, resid_depth=1, hmem_depth=1, xmem_depth=1, vmem_depth=1)
        with loops_alone():
            while True:
                try:
                    program = lower(graph, arch)
                    break
                except TooSmall as problem:
                    assert all(getattr(arch, name) < depth
                               for name, depth in problem.needed.items()), str(problem)
                    arch = dataclasses.replace(arch, **problem.needed)
        images = np.stack([random_image((5, i), graph.input_shape) for i in range(2)])
        check_on_iss(graph, program, images)
    return pytest.mark.parametrize("arch", [TINY, TARGETS["tiny"]],
                                   ids=lambda arch: arch.name)(test)


test_what_transformers_ask_for_is_enough = enough_test("transformers", 3)
test_what_others_ask_for_is_enough = enough_test("others", 3)
test_what_more_transformers_ask_for_is_enough = pytest.mark.slow(enough_test("transformers", 15))
test_what_more_others_ask_for_is_enough = pytest.mark.slow(enough_test("others", 15))


def test_every_bit_and_cycle_in_rtl(tmp_path):
    graph = random_vit_graph(5, embed_dim=11, num_heads=2, image_shape=(1, 8, 12), mlp_dim=9,
                             num_classes=3)
    checkpoint.save(graph, tmp_path / "network.safetensors")
    with loops_alone():
        compile(tmp_path / "network.safetensors", SMALL, tmp_path / "build")
    assert looped_stores(load_build(tmp_path / "build").words)
    images = np.stack([random_image(number, (1, 8, 12)) for number in range(2)])
    for memory in MEMORIES[::2]:
        found = simulate(tmp_path / "build", images, memory=memory)
        assert found.mismatches == 0, found.first_mismatch
        assert found.cycles_per_image == found.predicted_cycles_per_image
    for options in ({"in_a_row": True}, {"stall_seed": 3}):
        found = simulate(tmp_path / "build", images, **options)
        assert found.mismatches == 0, found.first_mismatch


def micro(name, folder):
    images = photographs((3, 32, 32))
    convert_random(name, 1, folder / "net.safetensors", images)
    return checkpoint.load(folder / "net.safetensors"), images[:1].numpy()


def test_layers_stay_loops(tmp_path):
    """A network of two layers and 33 blocks; places for a few of them."""
    graph, image = micro("bivit_deit_micro", tmp_path)
    arch = dataclasses.replace(TINY, program_depth=400)
    whole = lower(graph, arch)
    for depth in (132, 36):
        program = lower(graph, dataclasses.replace(arch, resid_depth=depth))
        assert stores(whole) == 0 < stores(program) <= 3 * 33
        assert looped_stores(program.words)
        assert len(program.words) < len(whole.words) + 20
        check_on_iss(graph, program, image)
    with pytest.raises(CompileError, match=r"in RESID; .* takes \d+ bits more than target "
                                           "tiny-streamed has; raise resid_depth to"):
        lower(graph, dataclasses.replace(arch, resid_depth=24))


@pytest.mark.parametrize("arch", [TINY, TARGETS["tiny"]], ids=lambda arch: arch.name)
def test_bits_in_rings(arch, tmp_path):
    """Queries of all tokens, and a few blocks of what lives in a loop."""
    graph, image = micro("bivit_deit_micro", tmp_path)
    arch = dataclasses.replace(arch, program_depth=400, hmem_depth=152, xmem_depth=32)
    program = lower(graph, arch)
    used = [max(step.fields["dst_addr"] for step in program.executed
                if step.opcode is Opcode.MM_BITS and step.fields["dst"] == Destination.HMEM.value),
            max(step.fields["dst_addr"] for step in program.executed
                if step.opcode is Opcode.NORM_BITS)]
    assert used[0] < 152 and used[1] < 32
    check_on_iss(graph, program, image)
    with pytest.raises(CompileError, match="in HMEM; all that is needed at the same time takes"):
        lower(graph, dataclasses.replace(arch, hmem_depth=131))


def test_a_straight_program_that_spills_make_too_long(tmp_path):
    graph, image = micro("bivit_deit_micro", tmp_path)
    arch = dataclasses.replace(TINY, program_depth=1400)
    assert not any(decode(word)[0] is Opcode.LOOP for word in lower(graph, arch).words)
    program = lower(graph, dataclasses.replace(arch, resid_depth=132))
    assert looped_stores(program.words)
    check_on_iss(graph, program, image)


@pytest.mark.slow
@pytest.mark.parametrize("name, depth", [("bivit_w1a8_swin_micro", 2560),
                                         ("binaryvit_micro", 2048)])
def test_networks_with_stages(name, depth, tmp_path):
    graph, image = micro(name, tmp_path)
    arch = dataclasses.replace(TINY, program_depth=1400, resid_depth=depth)
    program = lower(graph, arch)
    assert looped_stores(program.words)
    check_on_iss(graph, program, image)
