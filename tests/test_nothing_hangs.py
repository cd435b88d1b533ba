"""What goes wrong around a frame ends in an error code or a clean restart; the next one is right.

In RTL, on a small target whose weights are streamed and whose numbers are spilled: memory that
stops answering or answers with errors, bursts and image streams that end early or late, resets.
"""

import numpy as np
import pytest

from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.encoding import decode
from bivit.hw.isa import Opcode
from bivit.sim.cycles import simulate_cycles
from bivit.sim.rtl import MemoryFault, build_simulator
from bivit.sim.stream import image_stream
from test_spill import GRAPH, IMAGES, SMALL

BEAT = 4
"""Bytes of a beat of the image stream."""
QUICK, SLOW = MemoryTiming(), MemoryTiming(latency=60, interval=2, write_latency=60)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hangs")
    checkpoint.save(GRAPH, folder / "network.safetensors")
    compile(folder / "network.safetensors", SMALL, folder / "build")
    return load_build(folder / "build")


@pytest.fixture(scope="module")
def run(build):
    """Runs three frames: the first as told, the others as ever, which must be right."""
    simulator = build_simulator(build.folder / "accelerator.v", build.arch)
    streams = [image_stream(image, 2) for image in IMAGES]
    logits = [GRAPH.evaluate(image)["logits"].reshape(-1) for image in IMAGES]
    times = {memory: simulate_cycles(build.arch, build.words, memory=memory).cycles
             for memory in (QUICK, SLOW)}

    def run(status, *, first=None, memory=QUICK, stall_seed=None, **options):
        images = streams if first is None else [first(streams[0]), *streams[1:]]
        found = simulator.run(build.folder, images, memory=memory, stall_seed=stall_seed,
                              max_cycles=200_000, **options)
        assert found.status == [status, "done", "done"]
        assert np.array_equal(found.logits[1:], logits[1:])
        if stall_seed is None:
            assert found.cycles[2] == times[memory]
        return found.errors[0]
    return run


def instructions(build, opcode):
    return [number for number, word in enumerate(build.words) if decode(word)[0] is opcode]


@pytest.mark.parametrize("stall_seed", [None, 7])
@pytest.mark.parametrize("fault, numbers, opcode, code", [
    ("silent_from", (0, 1, 300), Opcode.FETCH, ErrorCode.MEMORY_SILENT),
    ("silent_writes", (0, 1, 50), Opcode.STORE, ErrorCode.MEMORY_SILENT),
    ("wrong_beat", (0, 1, 300), Opcode.FETCH, ErrorCode.MEMORY_ERROR),
    ("wrong_write", (0, 3), Opcode.STORE, ErrorCode.MEMORY_ERROR),
    ("short_burst", (0, 2, 9), Opcode.FETCH, ErrorCode.MEMORY_ERROR),
    ("long_burst", (0, 1, 9), Opcode.FETCH, ErrorCode.MEMORY_ERROR),
])
def test_external_memory_that_fails(build, run, fault, numbers, opcode, code, stall_seed):
    for number in numbers:
        error = run("error", fault=MemoryFault(**{fault: number}), stall_seed=stall_seed)
        assert error & 255 == code.value
        assert error >> 16 in instructions(build, opcode)


@pytest.mark.parametrize("stall_seed", [None, 7])
def test_an_image_that_ends_early_or_late(run, stall_seed):
    beats = len(image_stream(IMAGES[0], 2)) // BEAT
    for missing in (1, 3, beats - 1):
        error = run("error", first=lambda stream, count=missing: stream[:-count * BEAT],
                    stall_seed=stall_seed)
        assert error & 255 == ErrorCode.STREAM_SHORT.value
    for more in (1, 3):
        error = run("error", first=lambda stream, count=more: stream + stream[:count * BEAT],
                    stall_seed=stall_seed)
        assert error & 255 == ErrorCode.STREAM_LONG.value


@pytest.mark.parametrize("memory", [QUICK, SLOW], ids=["quick", "slow"])
def test_a_reset_in_the_middle_of_a_frame(build, run, memory):
    """At the start, while FETCHes and STOREs are in flight, and just before the end."""
    times = simulate_cycles(build.arch, build.words, memory=memory)
    fetch, store = (instructions(build, opcode)[0] for opcode in (Opcode.FETCH, Opcode.STORE))
    cycles = {6, times.pop[fetch] + 2, times.done[fetch] - 1, times.done[fetch] + 1,
              times.pop[store] + 2, times.pop[store] + 5, times.pop[store] + 8,
              (times.pop[store] + times.done[store]) // 2, times.done[store] - 1,
              times.done[store] + 20, times.cycles // 2, times.cycles - 2}
    for cycle in sorted(cycles):
        assert run("timeout", first_limit=cycle, memory=memory) == 0
