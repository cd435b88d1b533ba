"""The cycle model against RTL: every pop, every done, every counter."""

import functools
import random

import pytest

from bivit.compiler.expand import expand
from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.blocks.checks import units_of
from bivit.hw.isa import UNIT_OF, Opcode
from bivit.hw.targets import TARGETS
from bivit.sim.cycles import simulate_cycles
from bivit.sim.rtl import build_simulator
from looped_programs import looped_program
from programs import (
    input_stream,
    random_constants,
    random_program,
    roomy,
    unit_opcodes,
    write_files,
)

POP, DONE = 0, 1


@functools.cache
def simulator_of(target):
    arch = roomy(TARGETS[target])
    return build_simulator(accelerator_verilog(arch), arch)


def check(target, seed, length, folder):
    """Predicted and simulated times of a random program are equal."""
    arch, rng = roomy(TARGETS[target]), random.Random(f"{target}/{seed}/{length}")
    check_program(arch, rng, random_program(rng, arch, length=length), folder)


def check_loops(target, seed, longest, folder):
    """The same of a program with loops."""
    arch, rng = roomy(TARGETS[target]), random.Random(f"{target}/{seed}/{longest}")
    opcodes = [opcode for opcode in unit_opcodes(arch) if opcode is not Opcode.LOAD]
    check_program(arch, rng, looped_program(rng, arch, longest=longest, opcodes=opcodes), folder)


def check_program(arch, rng, program, folder):
    write_files(folder, program, random_constants(rng, arch))
    run = simulator_of(arch.name).run(folder, [input_stream(rng, program)], observe=1,
                                      max_cycles=1_000_000)
    executed = expand(arch, program).instructions[:-1]
    report = simulate_cycles(arch, program)
    assert (run.status, run.cycles.tolist()) == (["done"], [report.cycles])
    events = run.unit_events[0]
    pops = {int(event["tag"]): int(event["cycle"]) for event in events if event["kind"] == POP}
    assert [pops.get(tag) for tag in range(len(executed))] == report.pop[:-1]
    units = [UNIT_OF[opcode] for opcode, _, _, _ in executed]
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


@pytest.mark.parametrize("seed, longest", [(0, 100), (1, 400), (2, 1500)])
def test_random_loops(seed, longest, tmp_path):
    check_loops("tiny", seed, longest, tmp_path / "build")


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_programs_on_every_target(target, tmp_path):
    for seed in range(20):
        check(target, seed, (10, 100, 1000)[seed % 3], tmp_path / str(seed))
        check_loops(target, seed, 400, tmp_path / f"loops-{seed}")


@pytest.mark.parametrize("program, message", [
    ([], "the machine stops at instruction 0 with error 1: the program ends without HALT"),
    ([0], "the machine stops at instruction 0 with error 1: opcode 0 does not exist"),
])
def test_programs_without_an_end(program, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        simulate_cycles(TARGETS["tiny"], program)
