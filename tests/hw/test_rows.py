"""Sums of rows against a plain model, bit for bit and cycle for cycle."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import gelu
from bivit.hw.blocks.gelu import GELU_CYCLES, Gelu
from bivit.hw.blocks.vector import timing
from bivit.hw.isa import FORMATS, LEVELS, Opcode, RowKind, RowOperation
from vector_model import VectorModel
from vector_programs import ARCHS, HIGH, check, random_model, random_program

ADD, OUT = Opcode.ROWS_ADD, Opcode.ROWS_OUT
ODD = ARCHS[0]
ONE_ROW = {"src_addr": 0} | {f"count_{level}": 1 for level in range(LEVELS)}


@pytest.mark.parametrize("arch", (*ARCHS, HIGH), ids=lambda arch: arch.name)
@pytest.mark.parametrize("seed", range(2))
def test_random_sums_back_to_back(arch, seed):
    rng = np.random.default_rng(seed)
    model = random_model(arch, rng)
    opcodes = [ADD] + [ADD if rng.random() < 0.5 else OUT for _ in range(14)] + [OUT]
    program, waits = random_program(model, opcodes, rng)
    assert not waits
    check(model, program)


@pytest.mark.parametrize("operation", RowOperation)
def test_one_sum_word_in_every_cycle(operation):
    """24 rows of one word into the same sums, and then into the one beside it in turn."""
    model = VectorModel(ODD, np.random.default_rng(3))
    model.bias[0, 0] = 2
    rows = ONE_ROW | {"count_0": 2, "count_1": 12, "rows_0": 1, "blocks_1": 1, "src_stride": 3,
                      "n_tiles": 1, "sum_tiles": 1, "operation": operation.value, "first": 1}
    out = {"kind": RowKind.NUMBERS.value, "count": 2, "sum_tiles": 1, "sat": 16, "shift": 2}
    program = [(ADD, rows), (OUT, out), (ADD, rows | {"sums_0": 1, "sum_row": 4}),
               (OUT, out | {"dst_addr": 9, "sum_row": 4})]
    check(model, program)
    assert model.sums[2].any(axis=1).all()


def test_largest_sums():
    """Products of the least numbers and scales, 32 of them, do not overflow."""
    model = VectorModel(ODD, np.random.default_rng(3))
    model.resid[:], model.scale[:], model.bias[:] = -2**15, -2**15, 3
    rows = ONE_ROW | {"count_0": 32, "n_tiles": 1, "sum_tiles": 1, "first": 1}
    fold = rows | {"operation": RowOperation.FOLD.value, "sum_row": 1}
    out = {"kind": RowKind.NUMBERS.value, "count": 2, "sum_tiles": 1, "sat": 16, "shift": 3}
    check(model, [(ADD, rows), (ADD, fold), (OUT, out), (OUT, out | {"kind": 2})])
    assert model.sums[0, 0, 0] == 2**35 and model.sums[0, 1, 3] == 5 * 2**35


def test_fold_of_groups_that_straddle_words():
    """Means of groups of 7 channels, 4 groups in 6 words of 5: masks make the steps."""
    rng, width, groups = np.random.default_rng(5), 7, 4
    model = VectorModel(ODD, rng)
    steps, before = [], (0, 0)
    for group in range(groups):
        for tile in range(group * width // 5, ((group + 1) * width - 1) // 5 + 1):
            columns = np.arange(tile * 5, tile * 5 + 5) // width == group
            steps.append((columns, group % 3 | (tile != before[0]) << 8
                          | (group // 3 != before[1]) << 9))
            before = tile, group // 3
    for n, (columns, step) in enumerate(steps):
        model.scale[n], model.bias[n, 0] = columns, step
    fold = ONE_ROW | {"src_row": 1, "src_stride": 1, "count_0": 2, "rows_0": 1, "sums_0": 1,
                      "count_1": 3, "blocks_1": 12, "n_tiles": len(steps), "sum_tiles": 2,
                      "operation": RowOperation.FOLD.value, "first": 1}
    check(model, [(ADD, fold)])
    for row in range(2):
        address, place = (1 + row) // 2, (1 + row) % 2
        rows = sum(model.resid[(address + 12 * i + np.arange(0, 12, 2)) % 64, place].ravel()
                   for i in range(3))
        expected = rows[:width * groups].reshape(groups, width).sum(1)
        got = model.sums[:2, row, :3].ravel()[:groups]
        assert got.tolist() == expected.tolist()
        assert not model.sums[:2, row, 3:].any()


def test_codes_of_segments():
    """Rows of two segments of 4 rows, 2 to go in the first, lie in blocks of their own."""
    model = random_model(ODD, np.random.default_rng(6))
    rows = ONE_ROW | {"count_0": 7, "rows_0": 1, "sums_0": 1, "src_stride": 5, "n_tiles": 2,
                      "sum_tiles": 2, "first": 1}
    out = {"kind": RowKind.CODES.value, "count": 7, "sum_tiles": 2, "shift": 1, "k_words": 1,
           "dst_addr": 1, "dst_row": 2, "dst_stride": 8, "segment": 4, "segment_left": 2}
    trace = check(model, [(ADD, rows), (OUT, out)])
    starts = [address for _, _, _, address in trace.writes[::16]]
    assert starts == [1, 9, 17, 17, 25, 33]


@pytest.mark.parametrize("source, sums, steps", [
    (0, 0, 5), (1, 1, 5), (3, 0, 6), (0, 3, 6), (3, 2, 6)])
def test_a_slide_takes_a_word_of_sums_in_a_cycle(source, sums, steps):
    """18 rows; where they lie further in their word than the sums, it is read before."""
    square = ARCHS[2]
    rows = dict.fromkeys(FORMATS[ADD], 0) | ONE_ROW | {
        "count_0": 18, "rows_0": 1, "sums_0": 1, "src_row": source, "sum_row": sums,
        "src_stride": 3, "n_tiles": 3, "sum_tiles": 3}
    assert timing(square, ADD, rows)[0] == 3 * steps
    assert timing(square, ADD, rows | {"rows_0": 0})[0] == 3 * -(-(sums + 18) // 4)
    assert timing(square, ADD, rows | {"sums_0": 0})[0] == 3 * -(-(source + 18) // 4)
    assert timing(square, ADD, rows | {"gelu": 1})[0] == 3 * 18


def test_a_word_of_codes_takes_eight_cycles():
    out = dict.fromkeys(FORMATS[OUT], 0) | {
        "kind": RowKind.CODES.value, "count": 8, "sum_tiles": 3}
    assert timing(ARCHS[2], OUT, out)[0] == 2 * 3 * 8 + 7
    assert timing(ARCHS[2], OUT, out | {"dst_row": 1})[0] == 4 * 3 * 8 + 7


@pytest.mark.parametrize("width", [16, 13, 6])
def test_gelu_of_any_number(width):
    half = 1 << (width - 1)
    numbers = np.arange(-half, half, max(1, width * width // 20)).tolist() + [half - 1, -1, 0]
    numbers += [n for n in (-4097, -4096, -4095, 4095, 4096) if -half <= n < half]
    block = Gelu(width=width)

    async def testbench(ctx):
        for index in range(len(numbers) + GELU_CYCLES):
            if index >= GELU_CYCLES:
                number = numbers[index - GELU_CYCLES]
                assert ctx.get(block.result) == gelu(number), number
            ctx.set(block.number, numbers[index % len(numbers)])
            await ctx.tick()

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
