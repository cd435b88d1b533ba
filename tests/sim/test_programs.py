"""Random programs: RTL and the instruction-set simulator give the same, bit for bit."""

import functools
import random

import numpy as np
import pytest

from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.encoding import decode
from bivit.hw.isa import Opcode
from bivit.hw.targets import TARGETS
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import RESULT_OPCODES
from bivit.sim.replay import replayed_results
from bivit.sim.rtl import build_simulator
from looped_programs import looped_program, straightened
from programs import (
    input_stream,
    random_constants,
    random_program,
    roomy,
    unit_opcodes,
    write_files,
)

IMAGES = 2


@functools.cache
def simulator_of(target):
    arch = roomy(TARGETS[target])
    return build_simulator(accelerator_verilog(arch), arch)


def check(target, seed, length, folder):
    """Every result of every instruction, and the output stream."""
    arch, rng = roomy(TARGETS[target]), random.Random(f"{target}/{seed}")
    check_program(arch, rng, random_program(rng, arch, length=length, ordered=True), folder)


def check_loops(target, seed, longest, folder):
    """The same of a program with loops, which does what its expansion does."""
    arch, rng = roomy(TARGETS[target]), random.Random(f"{target}/{seed}")
    opcodes = [opcode for opcode in unit_opcodes(arch) if opcode is not Opcode.LOAD]
    program = looped_program(rng, arch, longest=longest, ordered=True, opcodes=opcodes)
    check_program(arch, rng, program, folder)


def check_program(arch, rng, program, folder):
    constants = random_constants(rng, arch)
    streams = [input_stream(rng, program) for _ in range(IMAGES)]
    write_files(folder, program, constants)
    run = simulator_of(arch.name).run(folder, streams, observe=IMAGES, max_cycles=10_000_000)
    assert run.status == ["done"] * IMAGES
    straight = straightened(arch, program)
    instructions = {number: decode(word) for number, word in enumerate(straight[:-1])}
    observed = {number: instruction for number, instruction in instructions.items()
                if instruction[0] in RESULT_OPCODES}
    expected, same = (InstructionSimulator(arch, words, constants).run(
        streams, observe=observed, batch=1) for words in (program, straight))
    assert expected.observed.keys() == same.observed.keys()
    assert all(np.array_equal(same.observed[key], result)
               for key, result in expected.observed.items())
    found = replayed_results(arch, observed, run.events)
    for (pc, key), wanted in expected.observed.items():
        opcode, fields = instructions[pc]
        rows = slice(None)
        if opcode is Opcode.MM_ACC and key == "observe":  # other rows were not written
            rows = slice(fields["row_lo"], fields["row_hi"])
        assert np.array_equal(found[pc, key][:, rows], wanted[:, rows]), (pc, key, opcode, fields)
    assert np.array_equal(run.logits, expected.logits)


@pytest.mark.parametrize("seed", range(3))
def test_smallest_target(seed, tmp_path):
    check("tiny", seed, 150, tmp_path / "build")


@pytest.mark.parametrize("seed", range(3))
def test_loops(seed, tmp_path):
    check_loops("tiny", seed, 300, tmp_path / "build")


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target(target, tmp_path):
    for seed in range(10):
        check(target, seed, 200, tmp_path / str(seed))
        check_loops(target, seed, 200, tmp_path / f"loops-{seed}")
