"""Targets with a stem engine, and images in a row: every bit and every cycle, on both engines."""

import dataclasses

import numpy as np
import pytest

from bivit.compiler.build import compile
from bivit.compiler.ir import checkpoint
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.simulate import simulate
from both_engines import check_engines
from graphs import random_image, random_vit_graph

ENGINES = {"tiny": {"stem_macs": 5}, "odd": {"stem_macs": 6, "stem_simd": 2}}
"""The stem engine beside each target."""


def with_engine(target):
    return dataclasses.replace(TARGETS[target], name=f"{target}-stem", stem_pixels=192,
                               stem_depth=4096, **ENGINES[target])


def different_images(count):
    images = photographs((3, 32, 32)).numpy()
    return np.stack([np.roll(images[index % 2], index, axis=-1) for index in range(count)])


@pytest.fixture(scope="module", params=[
    pytest.param(("bivit_deit_micro", "tiny"), id="bivit_deit_micro"),
    pytest.param(("bivit_w1a8_swin_micro", "odd"), id="bivit_w1a8_swin_micro",
                 marks=pytest.mark.slow)])
def network(request, tmp_path_factory):
    """A checkpoint, its target with an engine and without, and the folder of the former."""
    name, target = request.param
    folder = tmp_path_factory.mktemp(name)
    convert_random(name, 1, folder / "net.safetensors", photographs((3, 32, 32)))
    check_engines(folder / "net.safetensors", with_engine(target), folder / "build",
                  different_images(1))
    return folder / "net.safetensors", TARGETS[target], folder / "build"


def check_row(folder, images):
    """The intervals, all alike."""
    report = simulate(folder, images, in_a_row=True)
    assert report.mismatches == 0, report.first_mismatch
    assert report.frame_cycles == report.predicted_frame_cycles
    alone = simulate(folder, images[:1])
    assert alone.cycles_per_image == report.frame_cycles[0]
    intervals = set(np.diff(report.frame_cycles).tolist())
    assert len(intervals) == 1
    return alone.cycles_per_image, intervals.pop()


def test_the_stem_hides_behind_the_image_before(network):
    latency, interval = check_row(network[2], different_images(5))
    stem = next(layer for layer in simulate(network[2], different_images(1), engine="iss").layers
                if layer["name"].endswith("proj"))
    cycles = stem["last_cycle"] - stem["first_cycle"]
    assert cycles > 10000
    longer = max(cycles, latency - cycles)
    assert longer - 32 < interval < longer * 1.15  # the first dispatches lie beside the stem


def test_stalls_of_the_streams_change_no_bit(network):
    report = simulate(network[2], different_images(4), in_a_row=True, stall_seed=3)
    assert report.mismatches == 0, report.first_mismatch
    assert report.frame_cycles[-1] > report.predicted_frame_cycles[-1]


@pytest.mark.slow
def test_pixels_that_fill_no_step(tmp_path):
    """Patches of 9 pixels, two a cycle, and channels that fill no group."""
    graph = random_vit_graph(3, embed_dim=11, image_shape=(1, 6, 6), patch_size=3)
    checkpoint.save(graph, tmp_path / "net.safetensors")
    images = np.stack([random_image(seed, graph.input_shape) for seed in range(3)])
    check_engines(tmp_path / "net.safetensors", with_engine("odd"), tmp_path / "build", images)
    check_row(tmp_path / "build", images)


@pytest.mark.slow
def test_a_stem_that_takes_longer_than_the_frame(tmp_path):
    """Its end lies in the next frame, which need not be observed."""
    graph = random_vit_graph(3, embed_dim=30, image_shape=(3, 24, 24), patch_size=8, mlp_dim=8)
    checkpoint.save(graph, tmp_path / "net.safetensors")
    compile(tmp_path / "net.safetensors", with_engine("odd"), tmp_path / "build")
    images = np.stack([random_image(seed, graph.input_shape) for seed in range(3)])
    for observe in (1, 3):
        found = simulate(tmp_path / "build", images, in_a_row=True, observe=observe)
        assert found.mismatches == 0, found.first_mismatch
        stem = found.layers[0]["last_cycle"] - found.layers[0]["first_cycle"]
        assert stem > found.frame_cycles[0] - stem


def test_without_an_engine_frames_follow_each_other(network, tmp_path):
    path, target, _ = network
    compile(path, target, tmp_path / "build")
    latency, interval = check_row(tmp_path / "build", different_images(3))
    assert latency <= interval + 20 and interval <= latency + 20
