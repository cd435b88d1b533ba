"""The cycle model against RTL: every pop, every done, every counter."""

import functools
import random
import time

import pytest

from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.blocks.checks import units_of
from bivit.hw.isa import UNIT_OF, Opcode, decode, encode
from bivit.hw.targets import TARGETS
from bivit.sim.cycles import simulate_cycles
from bivit.sim.rtl import build_simulator
from programs import input_stream, random_constants, random_program, write_files

POP, DONE = 0, 1


@functools.cache
def simulator_of(target):
    arch = TARGETS[target]
    return build_simulator(accelerator_verilog(arch), arch)


def check(target, seed, length, folder):
    """Predicted and simulated times of a random program are equal."""
    arch, rng = TARGETS[target], random.Random(f"{target}/{seed}/{length}")
    program = random_program(rng, arch, length=length)
    write_files(folder, program, random_constants(rng, arch))
    run = simulator_of(target).run(folder, [input_stream(rng, program)], observe=1,
                                   max_cycles=1_000_000)
    report = simulate_cycles(arch, program)
    assert (run.status, run.cycles.tolist()) == (["done"], [report.cycles])
    events = run.unit_events[0]
    pops = {int(event["tag"]): int(event["cycle"]) for event in events if event["kind"] == POP}
    assert [pops.get(tag) for tag in range(length)] == report.pop[:length]
    units = [UNIT_OF[decode(word)[0]] for word in program[:length]]
    for unit in units_of(arch):
        assert [int(event["cycle"]) for event in events
                if (event["kind"], event["unit"]) == (DONE, unit)] == [
                    cycle for cycle, owner in zip(report.done, units, strict=False)
                    if owner is unit]
        counters = run.counters[0][unit].tolist()
        assert (counters[0], sum(counters)) == (report.busy[unit], report.cycles)


@pytest.mark.parametrize("seed, length", [(0, 3), (1, 40), (2, 400), (3, 1500)])
def test_random_programs(seed, length, tmp_path):
    check("tiny", seed, length, tmp_path / "build")


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_programs_on_every_target(target, tmp_path):
    for seed in range(20):
        check(target, seed, (10, 100, 1000)[seed % 3], tmp_path / str(seed))


def test_speed():
    """A program of DeiT's size is predicted in seconds."""
    arch = TARGETS["zynq-7020"]
    program = random_program(random.Random(1), arch, length=20000)
    begin = time.process_time()
    simulate_cycles(arch, program)
    assert time.process_time() - begin < 50e-6 * len(program)


@pytest.mark.parametrize("program, message", [
    ([], "the program has no HALT"),
    ([0], "opcode 0 is illegal"),
    ([encode(Opcode.HALT, wait_mm=1)], "instruction 0 waits beyond what was dispatched"),
])
def test_programs_without_an_end(program, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        simulate_cycles(TARGETS["tiny"], program)
