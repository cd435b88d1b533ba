"""What a network costs on a target, before anything is built: exact, and without its weights.

The passes of the compiler run as ever, but no word of a constant is made and nothing is written;
the cycle model follows the program as the passes leave it, before it becomes words.
"""

import dataclasses
import itertools

from bivit.compiler.encode import encode_program
from bivit.compiler.expand import Executed, Execution
from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import Candidate, choose
from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import units_of
from bivit.hw.blocks.fetch import MemoryTiming
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.isa import CONTROL, UNIT_OF, WAIT_FIELDS, Opcode, Unit
from bivit.hw.memories import constant_order
from bivit.sim.cycles import executed_cycles

__all__ = ["Estimate", "execution_of", "predict_cycles", "sent"]


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
    _, best = choose(graph, arch, batch)
    encode_program(best.plan, best.code, best.waits)  # what does not fit into its field is refused
    indices = [index for index, _ in sent(best)]
    report = executed_cycles(arch, execution_of(best), memory=memory)
    layers, instructions = best.plan.layers, best.plan.instructions
    window = [place for place, index in enumerate(indices)
              if UNIT_OF.get(instructions[index].opcode) is Unit.MM
              and layers[instructions[index].layer].binary]
    cycles, utilization = 0, None
    if window:
        cycles = report.done[window[-1]] + 1 - report.pop[window[0]]
        useful = sum(layer.macs for layer in layers if layer.binary)
        utilization = useful / arch.macs_per_cycle / cycles
    return Estimate(
        cycles=report.cycles, binary_cycles=cycles, utilization=utilization,
        units={unit.name: report.busy[unit] for unit in units_of(arch)},
        instructions=len(best.code.lines), executed=len(indices), memory=_memory(best))


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
