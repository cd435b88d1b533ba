"""Programs for targets with a stem engine: what they hold, and what is refused."""

import dataclasses

import pytest

from bivit.compiler import passes
from bivit.compiler.check import IllegalProgram, check_program
from bivit.compiler.padding import find_changed_padding
from bivit.compiler.passes import lower
from bivit.compiler.structures import CompileError
from bivit.hw.arch import ArchError
from bivit.hw.encoding import encode
from bivit.hw.isa import AddSource, Opcode
from bivit.sim.cycles import simulate_cycles
from graphs import GraphBuilder, random_vit_graph
from lowering import SQUARE

ARCH = dataclasses.replace(SQUARE, stem_macs=12)


@pytest.fixture(scope="module")
def program():
    return lower(random_vit_graph(1, depth=2, embed_dim=20), ARCH)


def check(words, program):
    check_program(words, ARCH, {name: len(values) for name, values in program.constants.items()})


def changed(program, position, **fields):
    words = list(program.words)
    instruction = program.instructions[position]
    words[position] = encode(instruction.opcode, **instruction.fields | fields)
    return words


def test_one_stem_for_each_image_and_moves_between(program):
    opcodes = [instruction.opcode for instruction in program.instructions]
    stems = [position for position, opcode in enumerate(opcodes) if opcode is Opcode.STEM]
    moves = [position for position, instruction in enumerate(program.instructions)
             if instruction.fields.get("add_src") == AddSource.SMEM.value]
    assert Opcode.LOAD not in opcodes
    assert len(stems) == 2 and stems[0] == 0
    assert moves and stems[0] < min(moves) and max(moves) < stems[1]
    assert program.instructions[moves[0]].fields["wait_load"] == 1
    assert program.instructions[stems[1]].fields["wait_mm"] >= 1
    assert program.instructions[-1].fields["entry"] == 1
    assert {"stem", "stem_scale"} <= program.constants.keys()
    check(program.words, program)


def test_padding_bits_of_its_constants():
    graph = random_vit_graph(1, depth=2, embed_dim=20)  # 3 tiles of 8 columns, 2 groups of 12
    check_padding(graph, ARCH, ("stem_scale", 20, 39), ("stem", 4, 8 * 8))
    graph = random_vit_graph(1, embed_dim=20, image_shape=(1, 6, 6), patch_size=3)
    simd = dataclasses.replace(ARCH, stem_macs=24, stem_simd=2)  # 9 pixels: 5 words of 2 a group
    check_padding(graph, simd, ("stem", 4, 8), ("stem", 5, 8 * 2 * 8))


def check_padding(graph, arch, *places):
    """A change of a bit, (memory, word, bit), is found."""
    constants = lower(graph, arch).constants
    assert find_changed_padding(graph, arch, constants) is None
    for memory, word, bit in places:
        changed = {name: list(words) for name, words in constants.items()}
        changed[memory][word] ^= 1 << bit
        assert find_changed_padding(graph, arch, changed) == (memory, word)


def test_frames_must_join(program):
    second = next(position for position, instruction in enumerate(program.instructions)
                  if instruction.fields.get("next"))
    last = len(program.words) - 1
    shift = program.instructions[second].fields["shift"]
    for position, fields, message in (
            (last, {"entry": 0}, "not what the first does"),
            (last, {"entry": 2}, "not what the first does"),
            (last, {"entry": 60000}, "ends without HALT"),
            (second, {"next": 0}, "not what the first does"),
            (second, {"shift": shift ^ 1}, "not what the first does"),
            (second, {"wait_mm": 0}, "without waiting")):
        with pytest.raises(IllegalProgram, match=message):
            check(changed(program, position, **fields), program)


@pytest.mark.parametrize("field, value, message", (
    ("stem_depth", 7, "raise stem_depth to"), ("stem_scale_depth", 19, "raise stem_scale_depth"),
    ("smem_depth", 5, "raise smem_depth to"), ("stem_pixels", 3, "raise stem_pixels to"),
))
def test_too_small_an_engine(field, value, message):
    arch = dataclasses.replace(ARCH, **{field: value})
    with pytest.raises(CompileError, match=message):
        lower(random_vit_graph(1, depth=2, embed_dim=20), arch)


def test_pixels_are_taken_once():
    net = GraphBuilder(3, (1, 8, 8))
    net.add("patches", "patchify", "input", patch_size=4)
    for name, addend in (("one", ()), ("two", ("one",))):
        net.plane_linear(f"{name}.dot", "patches", 8)
        net.rescale(name, f"{name}.dot", *addend)
    net.add("last", "select", "two", token=0)
    with pytest.raises(CompileError, match="takes them once"):
        lower(net.graph(), ARCH)


@pytest.mark.parametrize("value", (-1, 1.5, 2000))
def test_multipliers_are_a_number(value):
    with pytest.raises(ArchError, match="stem_macs"):
        dataclasses.replace(ARCH, stem_macs=value)


@pytest.mark.parametrize("macs, simd, message", (
    (12, 3, "stem_simd must be one of 1, 2, 4"), (13, 2, "stem_macs must be a multiple of"),
    (12, 0, "stem_simd of target")))
def test_pixels_a_cycle_divide_the_multipliers(macs, simd, message):
    with pytest.raises(ArchError, match=message):
        dataclasses.replace(ARCH, stem_macs=macs, stem_simd=simd)


def test_streamed_constants_are_refused():
    with pytest.raises(ArchError, match="the constants of a stem engine cannot be streamed"):
        dataclasses.replace(ARCH, weights="streamed")


def test_programs_with_loops(monkeypatch):
    """The first instruction is STEM, and frames join; check_program has seen that."""
    monkeypatch.setattr(passes, "_LONG", 10)
    monkeypatch.setattr(passes, "_IDLE", 1e9)
    program = lower(random_vit_graph(1, depth=6, embed_dim=20), ARCH)
    opcodes = [instruction.opcode for instruction in program.instructions]
    assert Opcode.LOOP in opcodes
    assert opcodes[0] is Opcode.STEM and opcodes.count(Opcode.STEM) == 2
    assert len(simulate_cycles(ARCH, program.words, frames=3).frame_cycles) == 3
