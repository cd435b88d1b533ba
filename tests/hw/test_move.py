"""Moves of rows of bits against a plain model, bit for bit and cycle for cycle."""

import numpy as np
import pytest

from bivit.hw.blocks.vector import timing
from bivit.hw.isa import FORMATS, LEVELS, MoveSource, Opcode
from vector_model import VectorModel
from vector_programs import ARCHS, HIGH, check, random_model, random_program

ONE_ROW = {f"count_{level}": 1 for level in range(LEVELS)}


@pytest.mark.parametrize("arch", (*ARCHS, HIGH), ids=lambda arch: arch.name)
def test_random_moves_back_to_back(arch):
    rng = np.random.default_rng(1)
    model = random_model(arch, rng)
    program, waits = random_program(model, [Opcode.MOVE] * 25, rng)
    assert not waits
    check(model, program)


@pytest.mark.parametrize("to_keys", [0, 1])
def test_windows_of_an_image(to_keys):
    """4 x 4 tokens of two words into windows of 2 x 2: segments that do not fill their blocks."""
    arch = ARCHS[0]
    model = VectorModel(arch, np.random.default_rng(2))
    image = np.stack([model.hmem[2 * (i // 3):2 * (i // 3) + 2, i % 3] for i in range(16)])
    # Steps of 1, 4, 2 and 8 tokens; 3 tokens are a block.
    loops = {"rows_0": 1, "blocks_1": 1, "rows_1": 1, "rows_2": 2, "blocks_3": 2, "rows_3": 2}
    fields = {f"count_{level}": 2 for level in range(LEVELS)} | loops | {
        "src": MoveSource.HMEM.value, "src_stride": 2, "words": 2, "to_keys": to_keys,
        "dst_stride": 2, "segment": 4, "segment_left": 4}
    check(model, [(Opcode.MOVE, fields)])
    got = model.kmem if to_keys else model.xmem
    for window in range(4):
        y, x = 2 * (window // 2), 2 * (window % 2)
        tokens = [(y + i) * 4 + x + j for i in range(2) for j in range(2)]
        for place, token in enumerate(tokens):
            block = 2 * window + place // 3
            assert (got[2 * block:2 * block + 2, place % 3] == image[token]).all()


def test_steps_take_a_cycle():
    fields = dict.fromkeys(FORMATS[Opcode.MOVE], 0) | ONE_ROW
    fields |= {"count_0": 7, "count_3": 7, "words": 3}
    assert timing(ARCHS[0], Opcode.MOVE, fields)[0] == 7 * 7 * 3 + 6
    # 7 rows from 0 on to 0, 0 to 7 and 7 to 0: words of 5 and 2, of blocks of 7.
    run = fields | {"rows_0": 1, "count_3": 2, "rows_3": 0}
    assert timing(HIGH, Opcode.MOVE, run)[0] == 2 * 2 * 3 + 6
    assert timing(HIGH, Opcode.MOVE, run | {"src_row": 3})[0] == 2 * 3 * 3 + 6
