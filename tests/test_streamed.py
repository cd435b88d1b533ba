"""Networks whose constants come from external memory: bits, cycles, stalls."""

import dataclasses
import re

import numpy as np
import pytest

from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.encoding import decode
from bivit.hw.isa import ConstantMemory, Opcode, Unit
from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.cycles import simulate_cycles
from bivit.sim.external import memory_timing, stall_trace
from bivit.sim.images import held_out_digits
from bivit.sim.rtl import build_simulator
from bivit.sim.simulate import simulate
from bivit.sim.stream import image_stream
from graphs import random_image, random_vit_graph
from test_networks import check_on_iss

NARROW = dataclasses.replace(TARGETS["tiny"], name="tiny-streamed", weights="streamed",
                             port_bits=16, program_depth=1024)
WIDE = dataclasses.replace(TARGETS["odd"], name="odd-streamed", weights="streamed", port_bits=128,
                           port_burst=8, port_reads=2)
MEMORIES = [MemoryTiming(), MemoryTiming(latency=150, interval=3),
            MemoryTiming(latency=20, **stall_trace(4))]
GRAPH = {"embed_dim": 11, "num_heads": 2, "image_shape": (1, 4, 6), "mlp_dim": 9, "num_classes": 3}
IMAGES = [random_image(number, (1, 4, 6)) for number in range(3)]


def build_graph(folder, arch, **changes):
    graph = random_vit_graph(5, **GRAPH | changes)
    checkpoint.save(graph, folder / "network.safetensors")
    compile(folder / "network.safetensors", arch, folder / "build")
    return load_build(folder / "build")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return build_graph(tmp_path_factory.mktemp("streamed"), NARROW)


@pytest.fixture(scope="module")
def simulator(build):
    return build_simulator(build.folder / "accelerator.v", build.arch)


@pytest.fixture(scope="module")
def streams():
    return [image_stream(image, 2) for image in IMAGES]


def logits(build):
    return np.array([build.graph.evaluate(image)["logits"].reshape(-1) for image in IMAGES])


@pytest.mark.parametrize("arch", [NARROW, pytest.param(WIDE, marks=pytest.mark.slow)],
                         ids=lambda arch: arch.name)
def test_digits(arch, tmp_path):
    compile(CHECKPOINT, arch, tmp_path)
    pixels, _ = held_out_digits(load_build(tmp_path).manifest["input"]["shape"], 2)
    cycles = []
    for memory in MEMORIES:
        report = simulate(tmp_path, pixels, memory=memory)
        assert report.mismatches == 0, report.first_mismatch
        assert report.cycles_per_image == report.predicted_cycles_per_image
        cycles.append(report.cycles_per_image)
    assert len(set(cycles)) == 3
    stalled = simulate(tmp_path, pixels, stall_seed=3)
    assert stalled.mismatches == 0, stalled.first_mismatch
    assert simulate(tmp_path, pixels, engine="iss").mismatches == 0


QUICK = ("bivit_deit_micro", "binaryvit_micro")
"""Networks of the short run, on one target; the long one has others, and another target."""


@pytest.mark.parametrize("name, arch", [
    *((name, NARROW) for name in QUICK),
    *(pytest.param(name, WIDE, marks=pytest.mark.slow) for name in QUICK),
    *(pytest.param(name, arch, marks=pytest.mark.slow)
      for name in ("bivit_w1a8_swin_micro", "bivit_nest_micro") for arch in (NARROW, WIDE))])
def test_micro_networks(name, arch, tmp_path):
    images = photographs((3, 32, 32))
    convert_random(name, 1, tmp_path / "net.safetensors", images)
    compile(tmp_path / "net.safetensors", arch, tmp_path / "build")
    for memory in MEMORIES[1:]:
        report = simulate(tmp_path / "build", images[:1].numpy(), memory=memory, observe=1)
        assert report.mismatches == 0, report.first_mismatch


@pytest.mark.parametrize("memory", MEMORIES, ids=range(3))
def test_every_event_is_where_the_model_has_it(build, simulator, streams, memory):
    run = simulator.run(build.folder, streams, observe=2, memory=memory)
    predicted = simulate_cycles(build.arch, build.words, memory=memory)
    assert run.status == ["done"] * 3 and np.array_equal(run.logits, logits(build))
    assert run.cycles.tolist() == [predicted.cycles] * 3
    assert (run.counters.sum(2) == predicted.cycles).all()
    for events in run.unit_events:
        for kind, wanted in ((0, predicted.pop), (1, predicted.done)):
            of_kind = {int(event["tag"]): int(event["cycle"]) for event in events
                       if event["kind"] == kind}
            assert [of_kind[pc] for pc in range(len(build.words) - 1)] == wanted[:-1]
    fetched = [pc for pc, word in enumerate(build.words) if decode(word)[0] is Opcode.FETCH]
    assert {int(event["tag"]) for event in run.unit_events[0]
            if event["unit"] == Unit.FETCH} == set(fetched)


def test_unknown_stalls_change_no_bit(build, simulator, streams):
    predicted = simulate_cycles(build.arch, build.words)
    runs = [simulator.run(build.folder, streams, stall_seed=seed) for seed in (0, 1)]
    for run in runs:
        assert np.array_equal(run.logits, logits(build))
        assert (run.cycles >= predicted.cycles).all()
    assert runs[0].cycles.tolist() != runs[1].cycles.tolist()


def test_weights_larger_than_the_memory_stay_for_all_tokens():
    """Weights are cut into groups of tiles, and each word is fetched once."""
    graph = random_vit_graph(7, embed_dim=40, num_heads=2, image_shape=(1, 8, 8), mlp_dim=120,
                             num_classes=9)
    small = dataclasses.replace(NARROW, weight_depth=64, thr_depth=48, scale_depth=32,
                                norm_depth=16, pos_depth=64)
    program, whole = lower(graph, small), lower(graph, NARROW)
    images = np.stack([random_image((5, i), graph.input_shape) for i in range(2)])
    check_on_iss(graph, program, images)
    assert fetched_words(program, "weight") <= 1.1 * fetched_words(whole, "weight")
    assert fetched_words(program, "weight") > 6 * small.weight_depth


def fetched_words(program, memory):
    number = ConstantMemory[memory.upper()].value
    return sum(fields["words"] for opcode, fields in map(decode, program.words)
               if opcode is Opcode.FETCH and fields["memory"] == number)


@pytest.mark.parametrize("memory", ["weight", "scale", "pos"])
def test_what_does_not_fit_says_by_how_much(memory):
    graph = random_vit_graph(5, **GRAPH | {"embed_dim": 30})
    width, fitting = 0, None
    for depth in (1, 2, 3, 5):
        arch = dataclasses.replace(NARROW, **{f"{memory}_depth": depth})
        with pytest.raises(CompileError, match=f"in {memory.upper()} are .* bits more than target "
                           f"tiny-streamed has; raise {memory}_depth to ") as caught:
            lower(graph, arch)
        fitting = int(str(caught.value).rsplit(" ", 1)[1])
        width = width or int(str(caught.value).split(" bits; with")[0].rsplit(" ", 1)[1])
        assert f"{(fitting - depth) * width} bits more" in str(caught.value)
    lower(graph, dataclasses.replace(NARROW, **{f"{memory}_depth": fitting}))


@pytest.mark.parametrize("memory", ["weight", "thr", "scale", "norm", "pos"])
def test_what_does_not_fit_a_program_with_loops_says_by_how_much(memory, tmp_path):
    with pytest.raises(CompileError) as caught:
        looped("bivit_deit_micro", dataclasses.replace(NARROW, **{f"{memory}_depth": 1}), tmp_path)
    width, more, name, needed = re.search(
        r"^layer .*: its constants in .* words of (\d*) bits; .* they take (\d*) bits more than "
        r"target tiny-streamed has; raise (\w*) to (\d*)$", str(caught.value)).groups()
    assert name == f"{memory}_depth" and int(more) == (int(needed) - 1) * int(width)
    program, graph = looped("bivit_deit_micro", dataclasses.replace(
        NARROW, **{name: int(needed)}), tmp_path)
    assert len(program.words) < 500 and max(
        fields["const_addr"] + fields["words"] for fields in executed_fetches(program)
        if fields["memory"] == ConstantMemory[memory.upper()].value) <= int(needed)
    check_on_iss(graph, program, photographs((3, 32, 32))[:1].numpy())


def looped(name, arch, tmp_path):
    """A network as a program with loops; the graph too."""
    convert_random(name, 1, tmp_path / "net.safetensors", photographs((3, 32, 32)))
    graph = checkpoint.load(tmp_path / "net.safetensors")
    return lower(graph, arch), graph


def test_equal_layers_fetch_in_one_body():
    """FETCHes are behind HALT, with registers, and each weight is fetched once in a frame."""
    graph = random_vit_graph(7, embed_dim=16, num_heads=2, image_shape=(1, 16, 16), mlp_dim=20,
                             num_classes=3, depth=5)
    program = lower(graph, dataclasses.replace(NARROW, program_depth=120))
    halt = [opcode for opcode, _ in map(decode, program.words)].index(Opcode.HALT)
    fetches = [fields for opcode, fields in map(decode, program.words[halt:])
               if opcode is Opcode.FETCH]
    assert {fields["memory"] for fields in fetches} >= {1, 2, 3, 4}
    assert all(fields["ext_addr_reg"] and fields["const_addr_reg"] for fields in fetches)
    calls = sum(opcode is Opcode.SET and fields["call"]
                for opcode, fields in map(decode, program.words))
    assert calls >= 3
    words = sum(fields["words"] for fields in executed_fetches(program)
                if fields["memory"] == ConstantMemory.WEIGHT.value)
    assert words <= 1.1 * len(lower(graph, TARGETS["tiny"]).constants["weight"])
    check_on_iss(graph, program, np.stack([random_image((3, i), graph.input_shape)
                                           for i in range(2)]))


def executed_fetches(program):
    return [instruction.fields for instruction in program.executed
            if instruction.opcode is Opcode.FETCH]


def test_memories_in_words():
    assert memory_timing("latency=7,interval=2") == MemoryTiming(latency=7, interval=2)
    assert memory_timing("stalls=4") == MemoryTiming(**stall_trace(4))
