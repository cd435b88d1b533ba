"""What the cycle model says of a network on an array, no build folder written."""

import dataclasses

from bivit.compiler.expand import expand
from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import lower
from bivit.compiler.structures import Program
from bivit.hw.arch import Arch
from bivit.sim.accounting import product_slots
from bivit.sim.frame import frame_of, product_lengths
from bivit.sim.report import analyse

__all__ = ["figures_of", "program_of"]


def program_of(graph: Graph, arch: Arch, batch: int = 1) -> tuple[Program, dict]:
    """A network's program on an array, and the report's figures of one isolated image, or batch."""
    program = lower(graph, arch, batch)
    return program, figures_of(program)


def figures_of(program: Program) -> dict:
    """What :func:`bivit.sim.report.analyse` says of a program."""
    frame = frame_of(program.arch, expand(program.arch, program.words),
                     [dataclasses.asdict(layer) for layer in program.layers],
                     [instruction.description() for instruction in program.executed],
                     product_lengths(program.graph))
    return analyse(frame, product_slots(frame), program.batch)
