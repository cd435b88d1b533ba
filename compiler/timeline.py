"""How long instructions take, and programs; the exact model is in :mod:`bivit.sim.cycles`."""

from collections.abc import Sequence

import numpy as np

from bivit.compiler.code import Code
from bivit.compiler.kernels import follow
from bivit.compiler.structures import Instruction, Plan
from bivit.hw.arch import Arch
from bivit.hw.blocks import fetch, matmul, softmax, stem, vector
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.blocks.sequencer import QUEUE_CYCLES, ROOM_CYCLES, WAIT_CYCLES
from bivit.hw.isa import CONTROL, UNIT_OF, Opcode, Unit

__all__ = ["busiest", "duration", "kind_of", "kinds_of", "measure", "queue_of"]

_TIMING = {Unit.LOAD: stem.input_timing, Unit.MM: matmul.timing, Unit.SOFTMAX: softmax.timing,
           Unit.VEC: vector.timing, Unit.FETCH: fetch.estimate}
_PRODUCTS = [opcode for opcode, unit in UNIT_OF.items() if unit is Unit.MM]
_DECISIVE = ("n_tiles", "k_words", "a_planes", "b_planes", "add_src", "add2_src")
"""Fields of a product that its time depends on."""


def duration(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of an instruction, nothing before it."""
    return _TIMING[UNIT_OF[opcode]](arch, opcode, fields)


def queue_of(arch: Arch) -> tuple[int, int, int, int]:
    """Depth of the queues; cycles from a dispatch until an instruction heads its queue, from that
    until another may be dispatched in its place, and from the end of an instruction to a pop that
    waited for it."""
    return arch.queue_depth, QUEUE_CYCLES, ROOM_CYCLES, WAIT_CYCLES


def kind_of(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int, int, int, int]:
    """What its fields decide of the time of an instruction: unit, occupancy, completion, and of
    products D_pass and words of K."""
    unit = UNIT_OF[opcode]
    drain = matmul.drain_of(arch, opcode, fields) if unit is Unit.MM else 0
    return unit, *duration(arch, opcode, fields), drain, fields.get("k_words", 0) if drain else 0


def kinds_of(arch: Arch, instructions: Sequence[Instruction]) -> np.ndarray:
    """What :func:`kind_of` gives for each instruction, zeros for HALT."""
    known, rows = {}, []
    for instruction in instructions:
        opcode, fields = instruction.opcode, instruction.fields
        if opcode is Opcode.HALT:
            rows.append((0,) * 5)
        elif opcode in _PRODUCTS:
            key = opcode, *map(fields.get, _DECISIVE)
            if key not in known:
                known[key] = kind_of(arch, opcode, fields)
            rows.append(known[key])
        else:
            rows.append(kind_of(arch, opcode, fields))
    return np.array(rows, np.int64).reshape(-1, 5)


def busiest(plan: Plan, kinds: np.ndarray) -> int:
    """Cycles in which the busiest unit is occupied by one image.

    Parameters
    ----------
    kinds : int array (instructions, 5)
        What :func:`kinds_of` gives.
    """
    counts = [not instruction.fields.get("next") for instruction in plan.instructions]
    return int(np.bincount(kinds[counts, 0], kinds[counts, 1]).max())


def measure(arch: Arch, plan: Plan, code: Code, waits: Sequence[dict[Unit, int]]) -> int:
    """Cycles until everything that a program does for one image is done."""
    lines, sends = len(code.lines), np.zeros(len(code.steps), bool)
    kinds, distances = np.zeros((lines, 5), np.int64), np.zeros((lines, len(Unit)), np.int64)
    cycles, known = np.ones(lines, np.int64), {}
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
            known[place] = plan.instructions[index]
            for unit, distance in waits[place].items():
                distances[place, unit] = distance
    kinds[list(known)] = kinds_of(arch, list(known.values()))
    places = np.array([place for place, _ in code.steps], np.int64)
    return follow(queue_of(arch), kinds, distances, cycles, places, sends)
