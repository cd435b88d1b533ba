"""Values of RESID that wait in external memory: bits, cycles, stalls."""

import dataclasses

import numpy as np
import pytest
from hypothesis import strategies as st

from bivit.compiler.build import compile, load_build
from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.encoding import decode, encode
from bivit.hw.isa import Opcode
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.external import memory_timing, stall_trace
from bivit.sim.simulate import simulate
from graphs import random_image, random_vit_graph
from test_networks import KINDS, check_on_iss, many

TINY = dataclasses.replace(TARGETS["tiny"], name="tiny-streamed", weights="streamed", port_bits=16)
ODD = dataclasses.replace(TARGETS["odd"], name="odd-streamed", weights="streamed", port_bits=128,
                          port_burst=8, port_reads=2)
SMALL = dataclasses.replace(TINY, resid_depth=12)
MEMORIES = [MemoryTiming(write_latency=1), MemoryTiming(latency=50, interval=3, write_latency=90),
            MemoryTiming(latency=20, **stall_trace(4))]
GRAPH = random_vit_graph(5, embed_dim=11, num_heads=2, image_shape=(1, 4, 6), mlp_dim=9,
                         num_classes=3)
IMAGES = np.stack([random_image(number, (1, 4, 6)) for number in range(3)])


def stores(program):
    return sum(step.opcode is Opcode.STORE for step in program.executed)


def least_depth(graph, arch):
    """The RESID that the network asks for, if nothing is spilled."""
    program = lower(graph, arch)
    words = [fields["dst_addr"] + fields["n_tiles"] * arch.drain_cycles
             for step in program.executed if step.opcode is Opcode.MM_ACC
             for fields in (step.fields,)]
    return max(words)


def spill_test(kind):
    @many(5, st.tuples(KINDS[kind], st.sampled_from((2, 3)), st.sampled_from((1, 2))))
    def test(arch, graph):
        graph, part, batch = graph
        whole = dataclasses.replace(arch, vmem_depth=8192)
        less = dataclasses.replace(whole, resid_depth=max(1, least_depth(graph, whole) // part))
        images = np.stack([random_image((5, i), graph.input_shape) for i in range(2)])
        try:
            program = lower(graph, less, batch)
        except CompileError as error:
            assert "bits more than target" in str(error) and "raise resid_depth to" in str(error)
            return
        check_on_iss(graph, program, images)
    return pytest.mark.parametrize("arch", [TINY, ODD], ids=lambda arch: arch.name)(test)


test_random_transformers = spill_test("transformers")
test_random_networks_of_other_kinds = spill_test("others")


def test_a_transformer_in_a_block_of_words():
    """All but the tokens in work are outside, weights in groups of tiles as well."""
    graph = random_vit_graph(7, embed_dim=40, num_heads=2, image_shape=(1, 8, 8), mlp_dim=120,
                             num_classes=9)
    arch = dataclasses.replace(TINY, weight_depth=64, imem_depth=1024)
    depth = least_depth(graph, arch)
    program = lower(graph, dataclasses.replace(arch, resid_depth=depth // 4))
    assert stores(lower(graph, arch)) == 0 < stores(program)
    images = np.stack([random_image((5, i), graph.input_shape) for i in range(2)])
    check_on_iss(graph, program, images)
    with pytest.raises(CompileError, match=r"in RESID; .* takes \d+ bits more than target "
                                           "tiny-streamed has; raise resid_depth to"):
        lower(graph, dataclasses.replace(arch, resid_depth=3))


def test_words_are_not_fetched_before_they_are_stored():
    program = lower(GRAPH, SMALL)
    for position, word in enumerate(program.words):
        opcode, fields = decode(word)
        if opcode is Opcode.FETCH and fields["wait_vec"]:
            words = list(program.words)
            words[position] = encode(opcode, **fields | {"wait_vec": 0})
            with pytest.raises(IllegalProgram, match="EXTERNAL word .* without waiting for it"):
                check_program(words, SMALL, {})
            return
    raise AssertionError("no FETCH waits for a STORE")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spill")
    checkpoint.save(GRAPH, folder / "network.safetensors")
    compile(folder / "network.safetensors", SMALL, folder / "build")
    return load_build(folder / "build")


def test_every_bit_and_cycle_in_rtl(build):
    assert any(decode(word)[0] is Opcode.STORE for word in build.words)
    cycles = set()
    for memory in MEMORIES:
        found = simulate(build.folder, IMAGES, memory=memory)
        assert found.mismatches == 0, found.first_mismatch
        assert found.cycles_per_image == found.predicted_cycles_per_image
        cycles.add(found.cycles_per_image)
    assert len(cycles) == 3
    for options in ({"in_a_row": True}, {"stall_seed": 3}):
        found = simulate(build.folder, IMAGES, **options)
        assert found.mismatches == 0, found.first_mismatch
    assert simulate(build.folder, IMAGES, engine="iss").mismatches == 0


@pytest.mark.slow
@pytest.mark.parametrize("name, arch", [
    ("bivit_deit_micro", TINY), ("bivit_w1a8_swin_micro", ODD), ("binaryvit_micro", TINY)])
def test_micro_networks(name, arch, tmp_path):
    images = photographs((3, 32, 32))
    graph_file = tmp_path / "net.safetensors"
    convert_random(name, 1, graph_file, images)
    graph = checkpoint.load(graph_file)
    depth = least_depth(graph, dataclasses.replace(arch, vmem_depth=1 << 14))
    arch = dataclasses.replace(arch, resid_depth=depth // 2, vmem_depth=1 << 14)
    compile(graph_file, arch, tmp_path / "build")
    assert stores(lower(graph, arch))
    found = simulate(tmp_path / "build", images[:1].numpy(), memory=MEMORIES[2])
    assert found.mismatches == 0, found.first_mismatch


def test_write_latency_in_words():
    assert memory_timing("write_latency=9") == MemoryTiming(write_latency=9)
