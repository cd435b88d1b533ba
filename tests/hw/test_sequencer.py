# amaranth: UnusedElaboratable=no
"""The sequencer against the cycle model's recurrence, and every error it must find."""

import random

import pytest
from amaranth.sim import Simulator

from bivit.compiler.expand import expand
from bivit.hw.arch import ArchError
from bivit.hw.blocks.checks import ErrorCode, units_of
from bivit.hw.blocks.sequencer import InstructionQueue
from bivit.hw.encoding import decode, encode, reserved_bits
from bivit.hw.isa import AddSource, Destination, Opcode, RowKind, SoftmaxMode
from bivit.sim.cycles import simulate_cycles
from programs import WAIT_BITS, random_program
from sequencer_run import TIMINGS, Run, small_arch, unit_timing


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("queue_depth", [2, 3, 8])
def test_random_programs(seed, queue_depth):
    arch = small_arch(queue_depth=queue_depth)
    rng = random.Random(f"{seed}/{queue_depth}")
    program = random_program(rng, arch, length=120)
    run, report = Run(arch, program), simulate_cycles(arch, program, timings=TIMINGS)
    count = len(program) - 1
    assert [run.pop[tag] for tag in range(count)] == report.pop[:count]
    assert [run.done[tag] for tag in range(count)] == report.done[:count]
    assert (run.cycles, run.finished) == (report.cycles, 1)
    assert run.error == (ErrorCode.NONE, 0)
    assert [run.words[tag] for tag in range(count)] == [
        word & ~WAIT_BITS for word in program[:count]]
    for unit in units_of(arch):
        assert run.counters[unit][0] == report.busy[unit]
        assert sum(run.counters[unit]) == run.cycles


def test_waits_hold_however_far_a_unit_runs_ahead():
    """More than 255 instructions complete while the head of another queue waits."""
    arch = small_arch(program_depth=512)
    program = [encode(Opcode.OUTPUT, count=1), encode(Opcode.LOAD, tokens=1, pixels=1, k_words=1)]
    program += [encode(Opcode.SOFTMAX, n_tiles=1, wait_load=1, wait_vec=1)]
    program += [encode(Opcode.LOAD, tokens=1, pixels=1, k_words=1)] * 300
    program += [encode(Opcode.SOFTMAX, n_tiles=1, wait_load=255), encode(Opcode.HALT)]
    run, report = Run(arch, program), simulate_cycles(arch, program, timings=TIMINGS)
    assert [run.pop[tag] for tag in range(len(program) - 1)] == report.pop[:-1]
    assert run.cycles == report.cycles


def test_one_dispatch_a_cycle():
    arch = small_arch(queue_depth=8)
    program = [encode(Opcode.SOFTMAX, n_tiles=1, delta=3)] * 100 + [encode(Opcode.HALT)]
    assert unit_timing(arch, *decode(program[0]))[0] == 1
    pops = Run(arch, program).pop
    assert [pops[tag] - pops[0] for tag in range(100)] == list(range(100))


LOAD = {"tokens": 1, "pixels": 1, "k_words": 1}
MATMUL = {"n_tiles": 1, "k_words": 1}
ACC = MATMUL | {"a_planes": 1, "b_planes": 1}
NORM = {"n_tiles": 1, "channels": 1, "groups": 1}
V = MATMUL | {"dst": Destination.V, "rows": 1}
WALK = {f"count_{level}": 1 for level in range(4)}
ADD = WALK | {"n_tiles": 1, "sum_tiles": 1}
OUT = {"count": 1, "sum_tiles": 1}
CODES = OUT | {"kind": RowKind.CODES, "k_words": 1}
MOVE = WALK | {"words": 1}
STEM = {"tokens": 65535, "pixels": 768, "channels": 1}


@pytest.mark.parametrize("opcode, fields, code", [
    (Opcode.LOAD, LOAD | {"tokens": 0}, ErrorCode.COUNT),
    (Opcode.LOAD, LOAD | {"tokens": 5}, ErrorCode.COUNT),
    (Opcode.LOAD, LOAD | {"tokens": 2, "row": 3}, ErrorCode.COUNT),
    (Opcode.LOAD, LOAD | {"tokens": 2, "row": 2}, None),
    (Opcode.LOAD, LOAD | {"pixels": 0}, ErrorCode.COUNT),
    (Opcode.LOAD, LOAD | {"k_words": 0}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"add_src": AddSource.SMEM}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"add2_src": AddSource.SMEM}, ErrorCode.COUNT),
    (Opcode.STEM, STEM | {"row": 3}, None),
    *((Opcode.STEM, STEM | wrong, ErrorCode.COUNT) for wrong in (
        {"tokens": 0}, {"pixels": 0}, {"pixels": 769}, {"channels": 0}, {"row": 4})),
    (Opcode.MM_BITS, MATMUL, None),
    (Opcode.MM_BITS, MATMUL | {"n_tiles": 0}, ErrorCode.COUNT),
    (Opcode.MM_BITS, V | {"rows": 4}, None),
    (Opcode.MM_BITS, V | {"rows": 0}, ErrorCode.COUNT),
    (Opcode.MM_BITS, V | {"rows": 5}, ErrorCode.COUNT),
    (Opcode.MM_SCORE, MATMUL | {"k_words": 0}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"a_planes": 8, "b_planes": 8}, None),
    (Opcode.MM_ACC, ACC | {"a_planes": 9}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"b_planes": 0}, ErrorCode.COUNT),
    (Opcode.SOFTMAX, {"n_tiles": 0}, ErrorCode.COUNT),
    (Opcode.NORM_BITS, NORM | {"groups": 2}, None),
    (Opcode.NORM_BITS, NORM | {"groups": 3}, ErrorCode.COUNT),
    (Opcode.NORM_CODES, NORM | {"k_words": 1, "channels": 0}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"row_lo": 4, "row_hi": 4}, None),
    (Opcode.MM_ACC, ACC | {"row_hi": 5}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"dst": 3}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"add_tiles": 3, "add_phase": 2}, None),
    (Opcode.MM_ACC, ACC | {"add_tiles": 3, "add_phase": 3}, ErrorCode.COUNT),
    (Opcode.MM_ACC, ACC | {"add_phase": 3}, None),
    (Opcode.MM_BITS, MATMUL | {"b_src": 3}, ErrorCode.COUNT),
    (Opcode.MM_BITS, MATMUL | {"rows": 5}, None),
    (Opcode.MM_SCORE, MATMUL | {"n_tiles": 6, "slot": 2}, None),
    (Opcode.MM_SCORE, MATMUL | {"n_tiles": 7}, ErrorCode.COUNT),
    (Opcode.MM_SCORE, MATMUL | {"slot": 3}, ErrorCode.COUNT),
    (Opcode.SOFTMAX, {"n_tiles": 6, "mode": SoftmaxMode.ABSOLUTE}, None),
    (Opcode.SOFTMAX, {"n_tiles": 7}, ErrorCode.COUNT),
    (Opcode.SOFTMAX, {"n_tiles": 1, "slot": 3}, ErrorCode.COUNT),
    (Opcode.SOFTMAX, {"n_tiles": 1, "mode": 3}, ErrorCode.COUNT),
    (Opcode.NORM_NUMBERS, NORM, None),
    (Opcode.NORM_NUMBERS, NORM | {"groups": 3}, ErrorCode.COUNT),
    (Opcode.ROWS_ADD, ADD | {"rows_0": 3, "src_row": 3, "sum_row": 9, "sum_tiles": 10}, None),
    *((Opcode.ROWS_ADD, ADD | wrong, ErrorCode.COUNT) for wrong in (
        {"count_0": 0}, {"count_1": 0}, {"count_2": 0}, {"count_3": 0}, {"n_tiles": 0},
        {"rows_3": 4}, {"src_row": 4}, {"sum_row": 10}, {"sum_tiles": 0}, {"sum_tiles": 11},
        {"operation": 3})),
    (Opcode.ROWS_OUT, OUT | {"dst_row": 3, "segment": 5, "segment_left": 5}, None),
    (Opcode.ROWS_OUT, CODES, None),
    (Opcode.ROWS_OUT, CODES | {"k_words": 0}, ErrorCode.COUNT),
    *((Opcode.ROWS_OUT, OUT | wrong, ErrorCode.COUNT) for wrong in (
        {"count": 0}, {"sum_tiles": 0}, {"dst_row": 4}, {"kind": 3}, {"segment": 5},
        {"segment_left": 1}, {"segment": 5, "segment_left": 6})),
    (Opcode.MOVE, MOVE | {"dst_row": 3}, None),
    (Opcode.MOVE, MOVE | {"dst_row": 7, "to_keys": 1}, None),
    *((Opcode.MOVE, MOVE | wrong, ErrorCode.COUNT) for wrong in (
        {"words": 0}, {"count_2": 0}, {"rows_1": 4}, {"src_row": 4}, {"dst_row": 4},
        {"dst_row": 8, "to_keys": 1})),
    (Opcode.OUTPUT, {"count": 1, "row": 3}, None),
    (Opcode.OUTPUT, {"count": 1, "row": 4}, ErrorCode.COUNT),
    (Opcode.OUTPUT, {"count": 0}, ErrorCode.COUNT),
    (Opcode.OUTPUT, {"count": 1, "wait_vec": 1}, None),
    (Opcode.OUTPUT, {"count": 1, "wait_softmax": 1}, None),
    (Opcode.OUTPUT, {"count": 1, "wait_softmax": 2}, None),
    (Opcode.HALT, {"wait_load": 1}, None),
])
def test_checks(opcode, fields, code):
    program = [encode(Opcode.SOFTMAX, n_tiles=1), encode(opcode, **fields), encode(Opcode.HALT)]
    arch = small_arch(stem_macs=3 * (opcode is Opcode.STEM))
    run = Run(arch, program)
    assert run.error == ((ErrorCode.NONE, 0) if code is None else (code, 1))
    assert run.finished == (code is None)
    error = expand(arch, program).error
    assert (error and error.code) == (code and code.value)


@pytest.mark.parametrize("opcode", Opcode)
def test_reserved_bits(opcode):
    good = encode(opcode, **{Opcode.LOAD: LOAD, Opcode.MM_BITS: V, Opcode.MM_SCORE: MATMUL,
                             Opcode.MM_ACC: ACC, Opcode.NORM_BITS: NORM, Opcode.NORM_CODES:
                             NORM | {"k_words": 1}, Opcode.SOFTMAX: {"n_tiles": 1},
                             Opcode.NORM_NUMBERS: NORM, Opcode.ROWS_ADD: ADD, Opcode.ROWS_OUT: OUT,
                             Opcode.MOVE: MOVE, Opcode.STEM: STEM,
                             Opcode.OUTPUT: {"count": 1}}.get(opcode, {}))
    reserved = 1 << reserved_bits(opcode).bit_length() - 1
    arch = small_arch(stem_macs=3 * (opcode is Opcode.STEM),
                      weights="streamed" if opcode in (Opcode.FETCH, Opcode.STORE) else "rom")
    run = Run(arch, [good | reserved, encode(Opcode.HALT)])
    assert run.error == (ErrorCode.RESERVED, 0)


@pytest.mark.parametrize("weights, memory, words, code", [
    ("streamed", 1, 1, None), ("streamed", 0, 1, ErrorCode.COUNT),
    ("streamed", 1, 0, ErrorCode.COUNT), ("rom", 1, 1, ErrorCode.OPCODE)])
def test_fetch_is_for_streamed_targets(weights, memory, words, code):
    arch = small_arch(weights=weights)
    program = [encode(Opcode.FETCH, memory=memory, words=words), encode(Opcode.HALT)]
    run, error = Run(arch, program), expand(arch, program).error
    assert run.error == (code or ErrorCode.NONE, 0)
    assert (error and error.code) == (code and code.value)


@pytest.mark.parametrize("word", [0, 18, 31])
def test_illegal_opcode(word):
    run = Run(small_arch(), [encode(Opcode.SOFTMAX, n_tiles=1), word])
    assert run.error == (ErrorCode.OPCODE, 1)
    assert not run.finished


def test_program_without_halt():
    run = Run(small_arch(program_depth=5), [encode(Opcode.SOFTMAX, n_tiles=1)] * 5)
    assert run.error == (ErrorCode.OPCODE, 5)


def test_error_of_a_unit():
    program = [encode(Opcode.SOFTMAX, n_tiles=1)] * 100 + [encode(Opcode.HALT)]
    run = Run(small_arch(), program, unit_error_at=30)
    assert run.error == (ErrorCode.STREAM_LONG, 77)
    assert (run.cycles, run.finished) == (31, 0)
    assert max(run.pop.values()) <= 30


def test_wrong_program_depth():
    with pytest.raises(ArchError, match="^target test: program_depth must be at most 65536, "):
        small_arch(program_depth=65537)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_queue(depth):
    rng, dut = random.Random(depth), InstructionQueue(width=8, depth=depth)
    items, got = [rng.getrandbits(8) for _ in range(100)], []

    async def testbench(ctx):
        sent = 0
        while len(got) < len(items):
            ctx.set(dut.i.valid, sent < len(items) and rng.random() < 0.7)
            ctx.set(dut.i.payload, items[min(sent, len(items) - 1)])
            ctx.set(dut.o.ready, rng.random() < 0.6)
            _, _, push, room, full, ready, item = await ctx.tick().sample(
                dut.i.valid, dut.i.ready, dut.o.valid, dut.o.ready, dut.o.payload)
            assert room or sent - len(got) >= depth
            sent += push & room
            if full & ready:
                got.append(item)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert got == items
