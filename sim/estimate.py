"""What a network costs on a target, before anything is built: exact, and without its weights.

The passes of the compiler run as ever, but no word of a constant is made and nothing is written;
the cycle model follows the program as the passes leave it, before it becomes words.
"""

import dataclasses
import itertools

import numpy as np

from bivit.compiler.encode import encode_program
from bivit.compiler.expand import Executed, Execution
from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import Candidate, choose, uncollected
from bivit.compiler.timeline import kinds_of, queue_of
from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import units_of
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.blocks.rows import settling_cycles
from bivit.hw.blocks.sequencer import END_CYCLES, FIRST_DECODE, REST_CYCLES
from bivit.hw.isa import CONTROL, UNIT_OF, WAIT_FIELDS, Opcode, Unit
from bivit.hw.memories import constant_order
from bivit.sim.cycle_kernel import follow_exactly
from bivit.sim.cycles import executed_cycles

__all__ = ["Estimate", "execution_of", "predict_cycles", "sent"]

_STATEFUL = (Opcode.FETCH, Opcode.STORE)
"""Opcodes whose time depends on what external memory did before."""
_PRODUCTS = tuple(opcode for opcode, unit in UNIT_OF.items() if unit is Unit.MM)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one isolated run of a program costs; every number is that of the compiled program.

    Parameters
    ----------
    cycles : int
        Of the run, as the CYCLES register shows them.
    binary_cycles : int
        From the first binary product to the last one's end; 0 without binary layers.
    utilization : float or None
        Binary multiply-accumulates over those of a full array in these cycles.
    units : dict of str to int
        Cycles in which each unit is occupied.
    instructions : int
        Of the program.
    executed : int
        Instructions that are dispatched, HALT included.
    memory : dict of str to int
        Words that are needed in each memory.
    """

    cycles: int
    binary_cycles: int
    utilization: float | None
    units: dict[str, int]
    instructions: int
    executed: int
    memory: dict[str, int]


def predict_cycles(graph: Graph, arch: Arch, *, batch: int = 1,
                   memory: MemoryTiming | None = None) -> Estimate:
    """The cost of a network on a target; exactly that of the program that the compiler makes.

    Parameters
    ----------
    batch : int
        Images of a program.
    memory : MemoryTiming, optional
        External memory of a `streamed` target.

    Raises
    ------
    CompileError
        With the words of the compiler, if the target cannot run the network: the layer, the memory
        or the limit that does not suffice, what to change.
    """
    with uncollected():
        return _estimate(arch, choose(graph, arch, batch)[1], memory)


def _estimate(arch, best, memory):
    encode_program(best.plan, best.code, best.waits)  # what does not fit into its field is refused
    layers, instructions = best.plan.layers, best.plan.instructions
    steps = list(sent(best))
    executed = [instructions[index] for index, _ in steps]
    if any(instruction.opcode in _STATEFUL for instruction in executed):
        report = executed_cycles(arch, execution_of(best), memory=memory)
        pop, done, end, busy = report.pop, report.done, report.cycles, report.busy
    else:
        pop, done, end, busy = _follow(arch, best, steps, executed)
    window = [place for place, instruction in enumerate(executed)
              if instruction.opcode in _PRODUCTS and layers[instruction.layer].binary]
    cycles, utilization = 0, None
    if window:
        cycles = int(done[window[-1]] + 1 - pop[window[0]])
        useful = sum(layer.macs for layer in layers if layer.binary)
        utilization = useful / arch.macs_per_cycle / cycles
    return Estimate(
        cycles=end, binary_cycles=cycles, utilization=utilization,
        units={unit.name: int(busy[unit]) for unit in units_of(arch)},
        instructions=len(best.code.lines), executed=len(steps), memory=_memory(best))


def _follow(arch, program, steps, executed):
    """When instructions are popped and done, cycles of the run, and those of each unit."""
    waits = np.zeros((len(program.waits), len(Unit)), np.int64)
    for line, own in enumerate(program.waits):
        for unit, distance in own.items():
            waits[line, unit] = distance
    lines, delays = np.array([step for _, step in steps], np.int64).T.copy()
    sums = np.array([instruction.opcode is Opcode.ROWS_ADD for instruction in executed])
    pop, done, end, busy = follow_exactly(
        queue_of(arch), FIRST_DECODE, REST_CYCLES, (Unit.VEC.value, settling_cycles(arch)),
        kinds_of(arch, executed[:-1]), sums, delays, lines, waits)
    return pop, done, end + END_CYCLES + 1, busy


def execution_of(program: Candidate) -> Execution:
    """What a program does in one run: as :func:`bivit.compiler.expand.expand` of its words."""
    found, none = [], dict.fromkeys(WAIT_FIELDS.values(), 0)
    waits = [none | {WAIT_FIELDS[unit]: distance for unit, distance in own.items()}
             for own in program.waits]
    for index, (line, delay) in sent(program):
        instruction = program.plan.instructions[index]
        found.append(Executed(instruction.opcode, instruction.fields | waits[line], line, delay))
    return Execution(found, None, None, set(range(len(program.code.lines))))


def sent(program: Candidate):
    """Instructions in the order of dispatch: their number in canonical order, their line, and what
    the sequencer spends on other lines before each."""
    lines, delay = program.code.lines, 0
    following = itertools.chain((line for line, _ in program.code.steps[1:]), (None,))
    for (place, index), behind in zip(program.code.steps, following, strict=True):
        line = lines[place]
        if line.opcode in CONTROL:
            delay += control_cycles(line.opcode, line.fields, jumps=behind != place + 1)
        elif index is None or line.fields.get("next"):
            delay += 1
        else:
            yield index, (place, delay)
            delay = 0


def _memory(program):
    """Words that each memory must have, by name."""
    needed = {"program": len(program.code.lines)}
    for memory, start, words in program.where.values():
        needed[memory] = max(needed.get(memory, 0), start + words)
    for instruction in program.plan.instructions:
        if instruction.opcode is Opcode.FETCH:
            fields = instruction.fields
            memory = constant_order[fields["memory"]]
            needed[memory] = max(needed.get(memory, 0), fields["const_addr"] + fields["words"])
    return needed
