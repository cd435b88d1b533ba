"""How long instructions take, and programs; the exact model is in :mod:`bivit.sim.cycles`."""

from collections.abc import Sequence

import numpy as np

from bivit.compiler.code import Code
from bivit.compiler.kernels import follow
from bivit.compiler.structures import Plan
from bivit.hw.arch import Arch
from bivit.hw.blocks import fetch, matmul, softmax, stem, vector
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.isa import CONTROL, UNIT_OF, Opcode, Unit

__all__ = ["busiest", "duration", "kind_of", "measure"]

_TIMING = {Unit.LOAD: stem.input_timing, Unit.MM: matmul.timing, Unit.SOFTMAX: softmax.timing,
           Unit.VEC: vector.timing, Unit.FETCH: fetch.estimate}


def duration(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of an instruction, nothing before it."""
    return _TIMING[UNIT_OF[opcode]](arch, opcode, fields)


def kind_of(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int, int, int, int]:
    """What its fields decide of the time of an instruction: unit, occupancy, completion, and of
    products D_pass and words of K."""
    unit = UNIT_OF[opcode]
    drain = matmul.drain_of(arch, opcode, fields) if unit is Unit.MM else 0
    return unit, *duration(arch, opcode, fields), drain, fields.get("k_words", 0) if drain else 0


def busiest(arch: Arch, plan: Plan) -> int:
    """Cycles in which the busiest unit is occupied by one image."""
    work = dict.fromkeys(Unit, 0)
    for instruction in plan.instructions:
        if instruction.opcode in UNIT_OF and not instruction.fields.get("next"):
            own = duration(arch, instruction.opcode, instruction.fields)[0]
            work[UNIT_OF[instruction.opcode]] += own
    return max(work.values())


def measure(arch: Arch, plan: Plan, code: Code, waits: Sequence[dict[Unit, int]]) -> int:
    """Cycles until everything that a program does for one image is done."""
    lines, sends = len(code.lines), np.zeros(len(code.steps), bool)
    kinds, distances = np.zeros((lines, 5), np.int64), np.zeros((lines, len(Unit)), np.int64)
    cycles, known = np.ones(lines, np.int64), set()
    for place, line in enumerate(code.lines):
        if line.opcode in CONTROL:
            jumps = (line.opcode in (Opcode.END, Opcode.RETURN) and not line.fields.get("more")
                     or bool(line.fields.get("call")))
            cycles[place] = control_cycles(line.opcode, line.fields, jumps=jumps)
    for step, (place, index) in enumerate(code.steps):
        line = code.lines[place]
        if index is None or line.opcode is Opcode.HALT or line.fields.get("next"):
            continue
        sends[step] = True
        if place not in known:
            known.add(place)
            kinds[place] = kind_of(arch, line.opcode, plan.instructions[index].fields)
            for unit, distance in waits[place].items():
                distances[place, unit] = distance
    places = np.array([place for place, _ in code.steps], np.int64)
    return follow(arch.queue_depth, kinds, distances, cycles, places, sends)
