"""Several images at once: every bit of each image, every cycle, one load of weights for all."""

import dataclasses

import numpy as np
import pytest
from hypothesis import strategies as st

from bivit.compiler.batch import batched
from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import GraphError
from bivit.compiler.padding import find_changed_padding
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.host.run import run_build
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.isa import Opcode
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.report import report
from bivit.sim.simulate import simulate
from graphs import GraphBuilder, random_image, random_vit_graph
from network_graphs import NetworkBuilder
from test_networks import KINDS, check_on_iss, many
from test_streamed import GRAPH, IMAGES, NARROW, WIDE, fetched_words

MEMORY = MemoryTiming(latency=30, interval=2, beats=(0, 3, 0, 9, 1), addresses=(2, 0, 5))


def some_images(graph, count):
    return np.stack([random_image((5, i), graph.input_shape) for i in range(count)])


def batch_test(kind, examples):
    @many(examples, st.tuples(KINDS[kind], st.integers(2, 4)))
    def test(arch, graph):
        graph, batch = graph
        program = lower(graph, arch, batch)
        check_on_iss(graph, program, some_images(graph, batch + 1))
        assert program.external or find_changed_padding(graph, arch, program.constants,
                                                        batch) is None
    return pytest.mark.parametrize("arch", [NARROW, TARGETS["odd"]], ids=lambda arch: arch.name)(
        test)


test_random_transformers = batch_test("transformers", 2)
test_random_networks_of_other_kinds = batch_test("others", 4)
test_more_transformers = pytest.mark.slow(batch_test("transformers", 8))
test_more_networks_of_other_kinds = pytest.mark.slow(batch_test("others", 8))


@pytest.mark.parametrize("prefix", [1, 3, 5, 9])
@pytest.mark.parametrize("patches", [(3, 5), (2, 2)])
def test_tokens_before_the_patches(prefix, patches):
    """Prefixes below, at and above the rows of a block; whole blocks of tokens, and parts."""
    net = NetworkBuilder(3, (1, 2 * patches[0], 2 * patches[1]))
    x = net.start(2, 10, prefix)
    q, k, v = (net.signs(f"{part}.sign", net.binary_linear(part, net.norm_bits(f"{part}.norm", x),
                                                           12)) for part in "qkv")
    scores = net.add("scores", "scores", q, k, num_heads=2)
    y = net.add("attend", "attend", net.add("softmax", "softmax_threshold", scores, delta=2), v)
    x = net.add_table("table", net.rescale("sum", net.binary_linear(
        "attn.proj", net.signs("sign", y), 10), x))
    x = net.norm_codes("norm", net.add("select", "select", x, token=prefix))
    net.rescale("logits", net.plane_linear("head", x, 4), bits=16)
    for arch in (NARROW, TARGETS["odd"]):
        check_on_iss(net.graph(), lower(net.graph(), arch, 3), some_images(net.graph(), 5))


def test_each_weight_is_fetched_once_for_all_images():
    graph = random_vit_graph(7, embed_dim=40, num_heads=2, image_shape=(1, 8, 8), mlp_dim=120,
                             num_classes=9)
    small = dataclasses.replace(NARROW, weight_depth=64, resid_depth=2048, imem_depth=1024)
    programs = [lower(graph, small, batch) for batch in (1, 4)]
    for memory in ("weight", "thr", "norm", "pos"):
        one, four = (fetched_words(program, memory) for program in programs)
        assert one == four > 0
    check_on_iss(graph, programs[1], some_images(graph, 4))


def test_the_head_is_multiplied_once_for_all_images():
    graph = random_vit_graph(4, embed_dim=11, image_shape=(1, 6, 6), num_classes=40)
    program = lower(graph, TARGETS["odd"], 3)
    layers = [layer.name for layer in program.layers]
    heads = [step for step in program.executed
             if step.opcode is Opcode.MM_ACC and layers[step.layer] == "head"]
    assert len(heads) == 1 and heads[0].fields["row_hi"] == 3
    check_on_iss(graph, program, some_images(graph, 3))


def test_loops():
    graph = random_vit_graph(2, depth=3, embed_dim=24, num_heads=2, image_shape=(1, 12, 12))
    arch = dataclasses.replace(TARGETS["tiny"], name="short", program_depth=300)
    program = lower(graph, arch, 3)
    assert len(program.words) < len(program.executed) / 2
    check_on_iss(graph, program, some_images(graph, 3))


def test_the_stem_engine():
    arch = dataclasses.replace(TARGETS["tiny"], name="stem", stem_macs=5, stem_pixels=64)
    graph = random_vit_graph(4, embed_dim=11, image_shape=(1, 6, 6))
    program = lower(graph, arch, 3)
    assert sum(step.opcode is Opcode.STEM for step in program.executed) == 1
    check_on_iss(graph, program, some_images(graph, 3))
    net = GraphBuilder(1, (1, 6, 6))
    x = net.plane_linear("proj", net.add("patches", "patchify", "input", patch_size=2), 8)
    x = net.add("select", "select", net.embed("embed", x, 9), token=0)
    net.rescale("logits", net.plane_linear("head", net.norm_codes("norm", x), 4), bits=16)
    lower(net.graph(), arch)
    with pytest.raises(CompileError, match="layer embed: whole blocks of 2 tokens before"):
        lower(net.graph(), arch, 2)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    checkpoint.save(random_vit_graph(5, **GRAPH), folder / "net.safetensors")
    compile(folder / "net.safetensors", NARROW, folder / "build", batch=2)
    return folder / "build"


def test_rtl(build):
    """Every bit and cycle, with a last group that is not full, alone and in a row."""
    images = np.stack(IMAGES)
    for options in ({}, {"memory": MEMORY}, {"in_a_row": True, "memory": MEMORY},
                    {"stall_seed": 4}):
        found = simulate(build, images, **options)
        assert found.mismatches == 0, found.first_mismatch
        assert (found.images, found.batch, found.observed_images) == (3, 2, 3)
        assert len(found.logits) == 3
        if "in_a_row" in options:
            assert len(found.frame_cycles) == 2
            assert found.frame_cycles == found.predicted_frame_cycles
        elif "stall_seed" not in options:
            assert found.cycles_per_image == found.predicted_cycles_per_image
    other = simulate(build, images[1:], engine="iss")
    assert other.mismatches == 0 and np.array_equal(other.logits, found.logits[1:])


def test_a_wrong_bit_of_the_second_image_is_found(build, monkeypatch):
    from bivit.sim import simulate as module

    def changed(*arguments):
        found = real(*arguments)
        found["blocks.0.mlp.add"][0, -1, 0] ^= 1
        return found
    real = module.observations
    monkeypatch.setattr(module, "observations", changed)
    found = simulate(build, np.stack(IMAGES), engine="iss")
    assert found.mismatches == 1 and "of image 1 is" in found.first_mismatch


@pytest.mark.slow
@pytest.mark.parametrize("name, arch", [("bivit_deit_micro", NARROW),
                                        ("bivit_w1a8_swin_micro", WIDE),
                                        ("binaryvit_micro", NARROW), ("bivit_nest_micro", WIDE)])
def test_micro_networks(name, arch, tmp_path):
    images = photographs((3, 32, 32))
    convert_random(name, 1, tmp_path / "net.safetensors", images)
    compile(tmp_path / "net.safetensors", arch, tmp_path / "build", batch=2)
    images = np.stack([np.roll(images[i % 2], i, axis=-1) for i in range(3)])
    found = simulate(tmp_path / "build", images, memory=MEMORY)
    assert found.mismatches == 0, found.first_mismatch


def test_the_report_counts_for_one_image(build):
    found = report(build)
    assert found["batch"] == 2 and found["cycles_per_image"] == found["cycles"] / 2
    assert load_build(build).manifest["input"]["shape"] == [1, 4, 6]


def test_what_is_refused(build):
    graph = random_vit_graph(5, **GRAPH)
    with pytest.raises(CompileError, match="a batch of 65 images cannot be"):
        lower(graph, NARROW, 65)
    with pytest.raises(UserError, match="takes 2 images at once, and boards take one"):
        run_build(build, simulated=True)
    wrong = dataclasses.replace(batched(graph, 2), images=1)
    with pytest.raises(GraphError, match="is for 2 images, and the input holds 1"):
        wrong.infer()
