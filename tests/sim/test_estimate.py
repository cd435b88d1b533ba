"""Predictions from graph and target alone are those of the compiled program, number by number."""

import dataclasses

import numpy as np
import pytest

from bivit.compiler import words
from bivit.compiler.expand import expand
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import choose, lower
from bivit.compiler.structures import CompileError
from bivit.hw.isa import UNIT_OF, Unit
from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINT
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.cycles import executed_cycles
from bivit.sim.estimate import execution_of, predict_cycles
from graphs import random_vit_graph
from network_graphs import random_headwise_graph, random_pyramid_graph, random_window_graph

ROOM = {name: 1 << 16 for name in (
    "program_depth", "thr_depth", "scale_depth", "norm_depth", "pos_depth", "bend_depth",
    "bias_depth", "imem_depth", "xmem_depth", "hmem_depth", "bmem_depth", "resid_depth",
    "vmem_depth")} | {"weight_depth": 1 << 18}
STREAMED = dataclasses.replace(TARGETS["tiny"], name="streamed", weights="streamed",
                               weight_depth=160, thr_depth=64, scale_depth=64, norm_depth=64,
                               pos_depth=160)


def check(graph, arch):
    """The estimate against the compiled program, number by number, or refusal by refusal."""
    try:
        program = lower(graph, arch)
    except CompileError as refusal:
        with pytest.raises(CompileError) as same:
            predict_cycles(graph, arch)
        assert str(same.value) == str(refusal)
        return None
    found, execution = predict_cycles(graph, arch), expand(arch, program.words)
    report = executed_cycles(arch, execution)
    binary = [place for place, instruction in enumerate(program.executed)
              if UNIT_OF.get(instruction.opcode) is Unit.MM
              and program.layers[instruction.layer].binary]
    assert found.cycles == report.cycles
    assert found.binary_cycles == report.done[binary[-1]] + 1 - report.pop[binary[0]]
    assert found.units == {name: report.busy[Unit[name]] for name in found.units}
    assert sum(found.units.values()) == sum(report.busy.values())
    assert found.instructions == len(program.words)
    assert found.executed == len(execution.instructions)
    for memory, values in program.constants.items():
        assert found.memory.get(memory, 1) == len(values)
    for own, sent in zip(execution_of(choose(graph, arch)[1]).instructions,
                         execution.instructions, strict=True):
        assert (own.opcode, own.counter, own.delay) == (sent.opcode, sent.counter, sent.delay)
        assert own.fields.items() <= sent.fields.items()
    return found


@pytest.mark.parametrize("target", ("tiny", "odd"))
@pytest.mark.parametrize("graph", [
    random_vit_graph(1, depth=2), random_pyramid_graph(2), random_window_graph(3),
    random_headwise_graph(4)], ids=("vit", "pyramid", "windows", "heads"))
def test_random_networks(graph, target):
    check(graph, TARGETS[target])


@pytest.mark.parametrize("depth", (60, 160))
def test_programs_with_loops(depth):
    graph = random_vit_graph(1, depth=3, embed_dim=24, num_heads=3, mlp_dim=40,
                             image_shape=(1, 8, 12), patch_size=2)
    arch = dataclasses.replace(TARGETS["odd"], name="small", program_depth=depth)
    found = check(graph, arch)
    assert (found is None) == (depth == 60)


@pytest.mark.parametrize("arch", [STREAMED, dataclasses.replace(
    TARGETS["tiny"], name="stem", stem_macs=8, stem_simd=2, stem_depth=256, stem_scale_depth=64)],
    ids=("streamed", "stem"))
def test_other_targets(arch):
    assert check(random_vit_graph(5, depth=2), arch) is not None


def test_refusals_are_the_same():
    graph = random_vit_graph(1, depth=2)
    for memory in ("weight_depth", "resid_depth", "program_depth"):
        assert check(graph, dataclasses.replace(TARGETS["tiny"], **{memory: 4})) is None


def test_trained_networks():
    for target in ("zynq-7020", "k26"):
        assert check(checkpoint.load(CHECKPOINT), TARGETS[target])


def test_no_weights_are_packed(monkeypatch):
    graph = random_vit_graph(1, depth=2)
    monkeypatch.setattr(words, "number_words", None)
    predict_cycles(graph, TARGETS["tiny"])
    with pytest.raises(TypeError):
        lower(graph, TARGETS["tiny"])


def test_constants_are_equal_where_they_are_made_alike():
    """And only there: equal ones share their place, so that no others may."""
    make, tiles = words.Words(TARGETS["tiny"]), ((0, 4),)
    zeros, ones = np.zeros(4, np.int64), np.ones(4, np.int64)
    assert make.scale(zeros, ones, tiles) == make.scale(zeros.copy(), ones, tiles)
    assert hash(make.scale(zeros, ones, tiles)) == hash(make.scale(zeros.copy(), ones, tiles))
    different = {make.scale(zeros, ones, tiles), make.scale(ones, zeros, tiles),
                 make.norm_kinds(zeros, ones, tiles), make.scale(zeros, ones, ((0, 3),))}
    assert len(different) == 4
    assert tuple(make.scale(zeros, ones, tiles)) != tuple(make.scale(ones, zeros, tiles))


@pytest.mark.parametrize("post_rows, rows", [(3, 8), pytest.param(6, 16, marks=pytest.mark.slow)])
def test_deit_tiny(post_rows, rows, tmp_path):
    convert_random("bivit_deit_tiny", 0, tmp_path / "net.safetensors",
                   photographs((3, 224, 224))[:1])
    arch = dataclasses.replace(TARGETS["k26"], name="large", rows=rows, cols=rows, tile_rows=4,
                               tile_cols=4, post_rows=post_rows, lanes=64, pop_stages=2,
                               **ROOM | {"program_depth": 100})
    found = check(checkpoint.load(tmp_path / "net.safetensors"), arch)
    assert found.utilization > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("target", ("zynq-7020-streamed", "k26-streamed"))
def test_deit_tiny_with_streamed_weights(target, tmp_path):
    convert_random("bivit_deit_tiny", 0, tmp_path / "net.safetensors",
                   photographs((3, 224, 224))[:1])
    assert check(checkpoint.load(tmp_path / "net.safetensors"), TARGETS[target]) is not None
