# amaranth: UnusedElaboratable=no
"""Loops, calls, guards and registers, against the expansion and the cycle model."""

import random

import pytest

from bivit.compiler.expand import EndlessProgram, expand
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.encoding import encode
from bivit.hw.isa import REGISTERS, SETS, STACK, STEPS, Opcode
from bivit.sim.cycles import simulate_cycles
from looped_programs import looped_program, straightened
from programs import WAIT_BITS
from sequencer_run import TIMINGS, Run, small_arch

HALT, RETURN = encode(Opcode.HALT), encode(Opcode.RETURN)


def check(arch, program):
    """Run a program; everything must be as expanded and as predicted."""
    run, report = Run(arch, program), simulate_cycles(arch, program, timings=TIMINGS)
    count = len(report.pop) - 1
    assert [run.words[tag] for tag in range(count)] == [
        word & ~WAIT_BITS for word in straightened(arch, program)[:count]]
    assert [run.counters_of[tag] for tag in range(count)] == [
        executed.counter for executed in expand(arch, program).instructions[:count]]
    assert [run.pop[tag] for tag in range(count)] == report.pop[:count]
    assert [run.done[tag] for tag in range(count)] == report.done[:count]
    assert (run.error, run.cycles, run.finished) == ((ErrorCode.NONE, 0), report.cycles, 1)
    return run


def output(row=0, **fields):
    return encode(Opcode.OUTPUT, count=1, row=row, **fields)


def addresses_of(arch, program):
    """Addresses of the OUTPUT instructions that are executed, in order."""
    check(arch, program)
    return [executed.fields["src_addr"] for executed in expand(arch, program).instructions[:-1]]


def steps(*entries, more=0):
    names = ("reg", "add", "limit", "on_wrap")
    return encode(Opcode.END, used=len(entries), more=more, **{
        f"{name}_{k}": value for k, entry in enumerate(entries)
        for name, value in zip(names, entry, strict=False)})


def values(pairs, **fields):
    return encode(Opcode.SET, used=len(pairs), **fields, **{
        f"{name}_{k}": value for k, pair in enumerate(pairs)
        for name, value in zip(("reg", "value"), pair, strict=True)})


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("queue_depth", [2, 8])
def test_random_programs(seed, queue_depth):
    arch = small_arch(queue_depth=queue_depth)
    check(arch, looped_program(random.Random(f"{seed}/{queue_depth}"), arch, longest=400))


def test_two_levels():
    """start + a * (i % m) + b * (i // m)."""
    start, a, b, m = 100, 7, 20, 4
    program = [values([(2, 0), (3, start)]), encode(Opcode.LOOP, count=11), output(src_addr_reg=3),
               steps((3, a), (2, 1, m), (3, b - a * m + 2**24, 0, 1)), HALT]
    assert addresses_of(small_arch(), program) == [start + a * (i % m) + b * (i // m)
                                              for i in range(11)]


def test_a_wrapped_step_starts_the_next():
    """A counter of two digits: the second counts the wraps of the first, and wraps itself."""
    program = [values([(1, 0), (2, 0)]), encode(Opcode.LOOP, count=13),
               output(src_addr_reg=1), output(src_addr_reg=2),
               steps((1, 1, 3), (2, 1, 4, 1)), HALT]
    assert addresses_of(small_arch(), program) == [
        digit for index in range(13) for digit in (index % 3, index // 3 % 4)]


def test_register_0_stays_0():
    program = [values([(0, 9), (REGISTERS - 1, 8)]), encode(Opcode.LOOP, count=2),
               output(src_addr=7), output(src_addr=2**16 - 2, src_addr_reg=REGISTERS - 1),
               steps((0, 1)), HALT]
    assert addresses_of(small_arch(), program) == [7, 6, 7, 6]


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_guards(count):
    guards = [(stage, rest) for stage in (0, 1, 3, 15) for rest in (0, 1, 15)]
    body = [output(src_addr=number, stage=stage, rest=rest)
            for number, (stage, rest) in enumerate(guards)]
    program = [encode(Opcode.LOOP, count=count), *body, steps(), HALT]
    assert addresses_of(small_arch(), program) == [
        number for i in range(count) for number, (stage, rest) in enumerate(guards)
        if stage <= i < count - rest]


def test_steps_within_an_iteration():
    program = [values([(1, 0), (2, 0)]), encode(Opcode.LOOP, count=5), output(src_addr_reg=1),
               steps((1, 1, 2), more=1), output(src_addr_reg=1),
               steps((2, 3, 0, 1)), output(src_addr_reg=2), HALT]
    assert addresses_of(small_arch(), program) == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0]


def test_a_call_hides_the_loop_around_it():
    program = [encode(Opcode.LOOP, count=3), values([], call=1, target=4), steps(), HALT,
               output(src_addr=1), encode(Opcode.LOOP, count=2),
               output(src_addr=2, stage=1), steps(), RETURN]
    assert addresses_of(small_arch(), program) == [1, 2] * 3


def test_as_deep_as_the_stack():
    depth = STACK - 1
    program = [*[encode(Opcode.LOOP, count=2)] * depth, values([(1, 3)], call=1,
                                                              target=2 * depth + 3),
               output(src_addr_reg=1), *[steps()] * depth, HALT, output(src_addr=9), RETURN]
    assert addresses_of(small_arch(), program) == [9, 3] * 2**depth


def test_cycles_of_control():
    """What stands in docs/loops.md: straight on a cycle a step and two more, without steps
    1, LOOP and END 2, jumps at least 6."""
    def delays(*program):
        return [executed.delay for executed in expand(small_arch(), program).instructions]

    assert delays(values([(k, k) for k in range(SETS)]), HALT) == [SETS + 2]
    assert delays(encode(Opcode.LOOP, count=2), output(), steps(), HALT) == [2, 6, 2]
    full = steps(*[(1, 1)] * STEPS)
    assert delays(encode(Opcode.LOOP, count=2), output(), full, HALT) == [2, 9, 9]
    assert delays(encode(Opcode.LOOP, count=1), steps(more=1), output(), steps(), HALT) == [4, 2]
    assert delays(values([], call=1, target=2), HALT, RETURN) == [12]


@pytest.mark.parametrize(("program", "code", "counter"), [
    ([encode(Opcode.LOOP)], ErrorCode.COUNT, 0),
    ([encode(Opcode.SET, used=SETS + 1)], ErrorCode.COUNT, 0),
    ([values([], call=1, target=256)], ErrorCode.COUNT, 0),
    ([encode(Opcode.LOOP, count=1, wait_mm=1)], ErrorCode.RESERVED, 0),
    ([output(), encode(Opcode.END, stage=1)], ErrorCode.RESERVED, 1),
    ([output(), steps()], ErrorCode.STACK, 1),
    ([output(), RETURN], ErrorCode.STACK, 1),
    ([encode(Opcode.LOOP, count=1), RETURN], ErrorCode.STACK, 1),
    ([values([], call=1, target=1), steps()], ErrorCode.STACK, 1),
    ([encode(Opcode.LOOP, count=1)] * (STACK + 1), ErrorCode.STACK, STACK),
    ([output(), values([], call=1)], ErrorCode.STACK, 1),
    ([output(stage=1)], ErrorCode.STAGE, 0),
    ([output(rest=1)], ErrorCode.STAGE, 0),
    ([encode(Opcode.LOOP, count=3), steps((1, 1), more=1), steps(), output(stage=2)],
     ErrorCode.STAGE, 3),
    ([values([], call=1, target=1), steps(more=1)], ErrorCode.STACK, 1),
    ([output(), steps(more=1)], ErrorCode.STACK, 1),
    ([values([(1, 3)]), output(row_reg=1), output(row=1, row_reg=1)], ErrorCode.COUNT, 2),
    ([values([], call=1, target=255), HALT], ErrorCode.OPCODE, 255),
])
def test_errors(program, code, counter):
    arch = small_arch()
    run, error = Run(arch, program), expand(arch, [*program, *[0] * (256 - len(program))]).error
    assert (run.error, run.finished) == ((code, counter), 0)
    assert (error.code, error.program_counter) == (code.value, counter)


def test_endless_program():
    program = [*[encode(Opcode.LOOP, count=65535)] * 3, output(), *[steps()] * 3, HALT]
    with pytest.raises(EndlessProgram, match="more than 1048576 instructions; change the counts"):
        expand(small_arch(), program)


def test_registers_that_were_not_set():
    program = [values([(1, 0)]), output(src_addr_reg=1), output(src_addr_reg=2), HALT]
    assert expand(small_arch(), program).unset == 2
    assert expand(small_arch(), [encode(Opcode.LOOP, count=1), steps((3, 1)), HALT]).unset == 1
