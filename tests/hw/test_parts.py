"""Targets that leave out parts of the machine that a network does not need."""

import dataclasses

import pytest

from bivit.compiler import compile
from bivit.compiler.build import resolve_target
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.arch import PARTS, Arch, ArchError
from bivit.hw.blocks.checks import missing_part, opcodes_of
from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.choices import SoftmaxMode
from bivit.hw.isa import CONTROL, Opcode
from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINTS, SMALL_CHECKPOINT
from bivit.sim.images import held_out_digits
from bivit.sim.simulate import simulate
from network_graphs import random_window_graph

TINY = TARGETS["tiny"]
REFUSED = {
    "row_sums": "layer vit.encoder.layer.0.layernorm_before: .* no sums of rows",
    "row_moves": "layer vit.encoder.patch_embed1.gather: .* no moves of rows",
    "exponentials": "layer vit.encoder.layer.0.attention.attention.softmax: .* no shares of a sum",
    "bends": "layer vit.encoder.layer.0.attention.attention.reduction: .* no bends",
    "score_biases": "layer .*: .* no biases of scores",
}


def without(*parts):
    return dataclasses.replace(TINY, name="smaller", **dict.fromkeys(parts, False))


@pytest.mark.parametrize("part", REFUSED)
def test_networks_that_need_a_part(part):
    graph = (random_window_graph(3) if part == "score_biases"
             else checkpoint.load(CHECKPOINTS["binaryvit_digits"]))
    with pytest.raises(CompileError, match=REFUSED[part]) as refusal:
        lower(graph, without(part))
    assert str(refusal.value).endswith(f"take a target without {part} = false")


def test_programs_without_loops():
    graph = checkpoint.load(CHECKPOINTS["binaryvit_digits"])
    opcodes = {word & 31 for word in lower(graph, without("loops")).words}
    assert not opcodes & {opcode.value for opcode in CONTROL}
    short = dataclasses.replace(without("loops"), program_depth=100)
    with pytest.raises(CompileError, match="raise program_depth to"):
        lower(graph, short)


def test_instructions_of_parts():
    assert set(opcodes_of(TINY)) - set(opcodes_of(without(*PARTS))) == {
        Opcode.ROWS_ADD, Opcode.ROWS_OUT, Opcode.MOVE, *CONTROL}
    absolute = {"mode": SoftmaxMode.ABSOLUTE.value}
    assert missing_part(without("exponentials"), Opcode.SOFTMAX, absolute) == "exponentials"
    assert missing_part(without("bends"), Opcode.MM_ACC, {"bend": 1}) == "bends"
    assert missing_part(without("score_biases"), Opcode.MM_SCORE, {"use_bias": 1}) == "score_biases"
    assert missing_part(TINY, Opcode.MM_ACC, {"bend": 1}) is None


def test_parts_are_true_or_false():
    with pytest.raises(ArchError, match="loops of target x must be true or false, not 1"):
        Arch(name="x", rows=2, cols=4, lanes=16, loops=1)


def test_less_verilog():
    verilog = accelerator_verilog(without(*PARTS))
    for block in ("row_adder", "row_writer", "row_sums", "row_mover", "source_walk",
                  "destination_walk", "attention_row", "bend", "flow"):
        assert f"module bivit_{block}(" not in verilog
    assert "module bivit_straight_flow(" in verilog


@pytest.mark.slow
def test_the_small_network_on_its_board(tmp_path):
    """Every bit and every cycle, in RTL, of a machine without these parts."""
    compile(SMALL_CHECKPOINT, "colorlight-i5-digits", tmp_path / "small")
    images, _ = held_out_digits([1, 8, 8], 2)
    result = simulate(tmp_path / "small", images, check=True)
    assert result.passed
    assert result.cycles_per_image == result.predicted_cycles_per_image


@pytest.mark.parametrize("target, path, instructions", [
    ("ulx3s-85f-digits", CHECKPOINTS["bivit_digits"], 2610),
    ("colorlight-i5-digits", SMALL_CHECKPOINT, 684),
    ("tang-mega-138k-digits", CHECKPOINTS["bivit_digits"], 2610),
])
def test_networks_of_boards(target, path, instructions):
    arch = resolve_target(target)
    assert arch is BOARD_TARGETS[target]
    assert len(lower(checkpoint.load(path), arch).words) <= instructions <= arch.program_depth
