"""The memory map against a dictionary of words."""

import random
import re

import numpy as np
import pytest

from bivit.compiler.accesses import CONSTANTS, accesses
from bivit.compiler.expand import expand
from bivit.hw.targets import TARGETS
from bivit.sim.frame import frame_of
from bivit.sim.memory_map import _peak, memory_map
from bivit.sim.memory_picture import _areas, constant_strips, memory_areas
from bivit.sim.report import Report, make_report
from programs import random_program


def slow_map(frame):
    """Memory, word, layer, first and last cycle of everything that is held."""
    owner, held = {}, set()

    def release(word, end):
        layer, first, last = owner.pop(word)
        held.add((*word, layer, first, min(last, end)))

    for step in frame.steps:
        touched = accesses(frame.arch, step.opcode, step.fields)
        for memory, words in (*touched.reads, *touched.updates):
            for word in words:
                layer, first, last = owner.setdefault((memory, word),
                                                      (step.layer, step.pop, step.pop))
                owner[memory, word] = layer, first, max(last, step.end)
        for memory, words in (*touched.writes, *touched.updates):
            for word in words:
                key = memory, word
                if key in owner and owner[key][0] != step.layer:
                    release(key, step.pop - 1)
                layer, first, last = owner.get(key, (step.layer, step.pop, step.pop))
                owner[key] = layer, first, max(last, step.done)
    for word in list(owner):
        release(word, 1 << 62)
    return held


def check(frame, program_words):
    found, expected = memory_map(frame, program_words), slow_map(frame)
    held = {(name, *map(int, row)) for name, use in found.items()
            for row in zip(use.word, use.layer, use.first, use.last, strict=True)}
    assert held == expected
    for name, use in found.items():
        if name == "program":
            assert use.words == use.peak == program_words
            continue
        words = [row[1] for row in expected if row[0] == name]
        assert use.words == len(set(words))
        spans = [(row[3], row[4]) for row in expected if row[0] == name]
        fullest = max((sum(first <= cycle <= last for first, last in spans)
                       for cycle, _ in spans), default=0)
        assert use.peak == (use.words if name in CONSTANTS else fullest)


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(seed):
    rng, arch = random.Random(seed), TARGETS["tiny"]
    program = random_program(rng, arch, length=25, ordered=True)
    layers = [{"name": str(i), "op": "rescale", "binary": False, "macs": 0} for i in range(4)]
    entries = [{"layer": rng.randrange(4)} for _ in program]
    frame = frame_of(arch, expand(arch, program), layers, entries, {})
    check(frame, len(program))
    report = Report({}, frame, [], memory_map(frame, len(program)))
    assert memory_areas(report).count("<svg") + constant_strips(report).count("<svg") == sum(
        bool(len(use.word)) for use in report.memory.values())


def test_digits(digits_build):
    report = make_report(digits_build)
    check(report.frame, report.figures["memory"]["program"]["words"])


def test_the_fullest_moment():
    def peak(*spans):
        return _peak(*map(np.array, zip(*spans, strict=True)))

    assert peak((0, 5), (5, 9)) == 2 and peak((0, 5), (6, 9)) == 1
    assert peak((3, 3)) == 1 and peak((0, 9), (1, 2), (2, 3), (3, 4)) == 3


def test_areas_cover_what_is_held(digits_build):
    """The outlines, filled cycle by cycle, are what each layer holds."""
    report = make_report(digits_build)
    use, filled = report.memory["resid"], {}
    for layer, path, _ in _areas(use):
        for word, first, end in fill(path):
            filled.setdefault(layer, set()).add((word, first, end - 1))
    expected = {}
    for row in np.stack((use.layer, use.word, use.first, use.last), 1).tolist():
        expected.setdefault(row[0], set()).add(tuple(row[1:]))
    assert filled == expected


def fill(path):
    """Word, left and right edge of each row of an outline: down on the right, up on the left."""
    (x, y), rights, lefts = (0, 0), {}, {}
    for command, text in re.findall(r"([MHvz])([-\d ]*)", path):
        if command == "M":
            x, y = map(int, text.split())
        elif command == "H":
            x = int(text)
        elif command == "v":
            end = y + int(text)
            for word in range(min(y, end), max(y, end)):
                (rights if end > y else lefts)[word] = x
            y = end
    assert rights.keys() == lefts.keys()
    return [(word, lefts[word], rights[word]) for word in rights]
