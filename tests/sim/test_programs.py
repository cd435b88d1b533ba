"""Random programs: RTL and the instruction-set simulator give the same, bit for bit."""

import functools
import random

import numpy as np
import pytest

from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.isa import Opcode, decode
from bivit.hw.targets import TARGETS
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import RESULT_OPCODES
from bivit.sim.replay import replayed_results
from bivit.sim.rtl import build_simulator
from programs import input_stream, random_constants, random_program, write_files

IMAGES = 2


@functools.cache
def simulator_of(target):
    arch = TARGETS[target]
    return build_simulator(accelerator_verilog(arch), arch)


def check(target, seed, length, folder):
    """Every result of every instruction, and the output stream."""
    arch, rng = TARGETS[target], random.Random(f"{target}/{seed}")
    program = random_program(rng, arch, length=length, ordered=True)
    constants = random_constants(rng, arch)
    streams = [input_stream(rng, program) for _ in range(IMAGES)]
    write_files(folder, program, constants)
    run = simulator_of(target).run(folder, streams, observe=IMAGES, max_cycles=10_000_000)
    assert run.status == ["done"] * IMAGES
    instructions = {pc: decode(word) for pc, word in enumerate(program[:-1])}
    observed = {pc: instruction for pc, instruction in instructions.items()
                if instruction[0] in RESULT_OPCODES}
    expected = InstructionSimulator(arch, program, constants).run(
        streams, observe=observed, batch=1)
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


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target(target, tmp_path):
    for seed in range(10):
        check(target, seed, 200, tmp_path / str(seed))
