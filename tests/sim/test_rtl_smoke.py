"""The RTL simulator: one network on the smallest target, and what it says when it cannot work."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.hw.blocks.checks import units_of
from bivit.hw.targets import TARGETS
from bivit.sim.cycles import simulate_cycles
from bivit.sim.rtl import SimulatorError, build_simulator
from bivit.sim.stream import image_stream
from graphs import random_image, random_vit_graph

IMAGES = [random_image(number, (1, 4, 6)) for number in range(3)]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtl")
    graph = random_vit_graph(5, embed_dim=11, num_heads=2, image_shape=(1, 4, 6), mlp_dim=9,
                             num_classes=3)
    checkpoint.save(graph, folder / "network.safetensors")
    compile(folder / "network.safetensors", "tiny", folder / "build")
    return load_build(folder / "build")


@pytest.fixture(scope="module")
def simulator(build):
    return build_simulator(build.folder / "accelerator.v", build.arch)


@pytest.fixture
def streams():
    return [image_stream(image, 2) for image in IMAGES]


def logits(build):
    return np.array([build.graph.evaluate(image)["logits"].reshape(-1) for image in IMAGES])


def test_logits_cycles_and_events(build, simulator, streams):
    calls = []
    run = simulator.run(build.folder, streams, observe=2,
                        progress=lambda done, total: calls.append((done, total)))
    predicted = simulate_cycles(build.arch, build.words)
    assert run.status == ["done"] * 3 and not run.errors.any() and not run.frame_open.any()
    assert np.array_equal(run.logits, logits(build))
    assert run.cycles.tolist() == [predicted.cycles] * 3
    assert run.frames.tolist() == [1] * 3
    assert run.beats_taken.tolist() == [len(stream) // 4 for stream in streams]
    present = list(units_of(build.arch))
    assert (run.counters[:, present].sum(2) == predicted.cycles).all()
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(run.events) == len(run.unit_events) == 2
    for events in run.unit_events:
        for kind, wanted in ((0, predicted.pop), (1, predicted.done)):
            of_kind = events[events["kind"] == kind]
            assert len(of_kind) == len(build.words) - 1
            assert all(wanted[event["tag"]] == event["cycle"] for event in of_kind)
    writes = run.writes(1)
    assert set(writes) <= set(range(len(build.words)))
    assert {write[0] for some in writes.values() for write in some} == {
        "hmem", "bmem", "resid", "pmem", "xmem"}


def test_stalls_change_no_bit(build, simulator, streams):
    runs = [simulator.run(build.folder, streams, stall_seed=seed) for seed in (0, 1, 1)]
    for run in runs:
        assert np.array_equal(run.logits, logits(build))
        assert (run.cycles >= simulate_cycles(build.arch, build.words).cycles).all()
    assert runs[1].cycles.tolist() == runs[2].cycles.tolist() != runs[0].cycles.tolist()


def test_errors_and_limits_end_a_run(build, simulator, streams):
    short = streams[0][:-4]
    run = simulator.run(build.folder, [short, streams[1], streams[2]], max_cycles=100_000)
    assert run.status == ["error", "done", "done"] and run.errors[0] & 255 == 5
    assert np.array_equal(run.logits[1:], logits(build)[1:])
    run = simulator.run(build.folder, streams, max_cycles=50)
    assert run.status == ["timeout"] * 3


def test_files_that_are_missing_or_wrong(build, simulator, streams, tmp_path):
    with pytest.raises(SimulatorError, match="program.bin cannot be read"):
        simulator.run(tmp_path, streams)
    (tmp_path / "program.bin").write_bytes((build.folder / "program.bin").read_bytes())
    (tmp_path / "rom").mkdir()
    (tmp_path / "rom" / "weight.hex").write_text("spoiled\n")
    with pytest.raises(SimulatorError, match="weight.hex is not a list of hexadecimal words"):
        simulator.run(tmp_path, streams)


def test_waves_need_a_simulator_for_them(build, simulator, streams, tmp_path):
    with pytest.raises(SimulatorError, match="built without waves"):
        simulator.run(build.folder, streams, trace=tmp_path / "waves.fst")


@pytest.mark.slow
def test_waves(build, streams, tmp_path):
    tracer = build_simulator(build.folder / "accelerator.v", build.arch, trace=True)
    run = tracer.run(build.folder, streams, trace=tmp_path / "waves.fst")
    assert np.array_equal(run.logits, logits(build))
    waves, blocks, at = (tmp_path / "waves.fst").read_bytes(), {}, 0
    while at < len(waves):  # a type, a length that counts itself
        kind, length = waves[at], int.from_bytes(waves[at + 1:at + 9], "big")
        blocks[kind] = waves[at + 9:at + 1 + length]
        at += 1 + length
    assert at == len(waves) and {0, 6} <= set(blocks)
    first, last = (int.from_bytes(blocks[0][k:k + 8], "big") for k in (0, 8))
    assert first == 0 and last >= 2 * run.cycles[0]
    assert b"m_axis_tdata" in blocks[6]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fails(message, verilog="module accelerator(input clk); endmodule"):
    with pytest.raises(SimulatorError, match=message) as caught:
        build_simulator(verilog, TARGETS["tiny"])
    assert str(caught.value).count("\n") == 0


def test_no_compiler(cache, monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    fails("no C\\+\\+ compiler was found")
    assert not cache.exists()


def test_wrong_verilog(cache):
    fails("translating the Verilog failed: %Error", "module accelerator(input clk; endmodule")
    assert list(cache.iterdir()) == []


def test_full_disk(cache, monkeypatch, tmp_path):
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\necho 'x.o: No space left on device' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    fails("the disk is full")
    assert list(cache.iterdir()) == []


def test_killed_build_leaves_nothing_that_counts(cache):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    abandoned, alive = (cache / f"building-{pid}-x" for pid in (gone.pid, os.getpid()))
    abandoned.mkdir(parents=True)
    alive.mkdir()
    (abandoned / "simulator").write_text("half")
    fails("translating the Verilog failed", "module accelerator(input clk; endmodule")
    assert list(cache.iterdir()) == [alive]
