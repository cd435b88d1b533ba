# amaranth: UnusedElaboratable=no
"""Several frames of one start, in the sequencer and in the cycle model."""

import random

import pytest

from bivit.compiler.expand import expand, frames_of
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.encoding import encode
from bivit.hw.isa import UNIT_OF, AddSource, Opcode, Unit
from bivit.sim.cycles import simulate_cycles
from programs import random_fields, random_program, random_waits
from sequencer_run import TIMINGS, Run, small_arch


def stem(rng, arch, **fields):
    return encode(Opcode.STEM, **random_fields(rng, arch, Opcode.STEM, {}), **fields)


def program_of(rng, arch):
    """Random instructions with a loop, a wait for what the frame before did, and what follows."""
    body = random_program(rng, arch, length=30)[:-1]
    at = rng.randrange(5, 20)
    body[at:at + 4] = [encode(Opcode.LOOP, count=3), *body[at:at + 4], encode(Opcode.END)]
    if not arch.stem_macs:
        return [*body, encode(Opcode.HALT)]
    for place in sorted(rng.sample(range(len(body)), 2), reverse=True):
        body.insert(place, stem(rng, arch, next=1, **random_waits(rng, False)))
    start = [stem(rng, arch) for _ in range(rng.randint(1, 3))]
    return [*start, *body, encode(Opcode.HALT, entry=len(start))]


@pytest.mark.parametrize("stem_macs", (0, 3))
@pytest.mark.parametrize("frames", (1, 2, 5))
@pytest.mark.parametrize("seed", range(3))
def test_random_programs(stem_macs, frames, seed):
    arch, rng = small_arch(stem_macs=stem_macs), random.Random(f"{stem_macs}/{frames}/{seed}")
    program = program_of(rng, arch)
    run = Run(arch, program, frames=frames)
    report = simulate_cycles(arch, program, frames=frames, timings=TIMINGS)
    assert (run.error, run.cycles, run.finished) == ((ErrorCode.NONE, 0), report.cycles, 1)
    assert len(report.frame_cycles) == frames
    expected = {unit: [] for unit in Unit}
    for start, execution in zip(report.frame_starts, frames_of(arch, program, frames),
                                strict=True):
        for tag, executed in enumerate(execution.instructions[:-1]):
            expected[UNIT_OF[executed.opcode]].append(
                (report.pop[start + tag], tag, executed.counter))
    assert run.taken == expected
    assert sum(map(len, expected.values())) > 20 * frames


def test_what_belongs_to_the_following_image():
    """It is skipped in the last frame, and what comes before `entry` in all but the first."""
    arch, rng = small_arch(stem_macs=3), random.Random(5)
    program = [stem(rng, arch), stem(rng, arch, next=1), encode(Opcode.HALT, entry=1)]
    counters = [[executed.counter for executed in execution.instructions]
                for execution in frames_of(arch, program, 3)]
    assert counters == [[0, 1, 2], [1, 2], [2]]
    assert [executed.counter for executed in expand(arch, program).instructions] == [0, 2]
    assert len(Run(arch, program, frames=3).taken[Unit.LOAD]) == 3
    assert len(Run(arch, program).taken[Unit.LOAD]) == 1


@pytest.mark.parametrize("fields, good", (
    ({"add_src": AddSource.SMEM}, True), ({"add2_src": AddSource.SMEM}, False)))
def test_numbers_of_the_engine_are_a_first_addend(fields, good):
    word = encode(Opcode.MM_ACC, n_tiles=1, k_words=1, a_planes=1, b_planes=1, **fields)
    arch = small_arch(stem_macs=3)
    run = Run(arch, [word, encode(Opcode.HALT)])
    assert run.error == ((ErrorCode.NONE if good else ErrorCode.COUNT), 0)
    assert (expand(arch, [word, encode(Opcode.HALT)]).error is None) == good


@pytest.mark.parametrize("opcode, stem_macs", ((Opcode.STEM, 0), (Opcode.LOAD, 3)))
def test_the_other_input_is_illegal(opcode, stem_macs):
    arch = small_arch(stem_macs=stem_macs)
    word = encode(opcode, tokens=1, pixels=1)
    run = Run(arch, [word, encode(Opcode.HALT)])
    assert run.error == (ErrorCode.OPCODE, 0)
    assert expand(arch, [word]).error.code == ErrorCode.OPCODE.value
