"""One image through the machine, instruction by instruction: what was done when, and why so late.

The report, its page and the trace are all made from this.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from bivit.compiler.expand import Execution
from bivit.compiler.ir.graph import Graph
from bivit.hw.arch import Arch
from bivit.hw.blocks.sequencer import QUEUE_CYCLES, WAIT_CYCLES
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Opcode, Unit
from bivit.sim.cycles import executed_cycles

__all__ = ["Frame", "Step", "Wait", "frame_of", "product_lengths"]


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Why a unit stood still before an instruction.

    Parameters
    ----------
    cycles : int
        From the end of the unit's instruction before (or the first cycle in which the machine can
        start one) to the pop.
    source : int or None
        The step that had to be done first; None if the instruction itself was not there yet.
    """

    cycles: int
    source: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One executed instruction.

    Parameters
    ----------
    counter : int
        Its place in the program.
    layer : int
        Row of the table of layers.
    dispatch, pop, done : int
        Cycles, as :class:`bivit.sim.cycles.CycleReport` has them.
    occupancy : int
        Cycles from the pop to the next possible pop; the array works in those behind the pop.
    wait : Wait or None
        None if the unit took it as soon as it was free.
    work : tuple of int, or None
        Of a product: rows, columns and length of the results that are wanted, None if none is.
    """

    opcode: Opcode
    fields: dict[str, int]
    counter: int
    layer: int
    dispatch: int
    pop: int
    occupancy: int
    done: int
    wait: Wait | None
    work: tuple[int, int, int] | None

    @property
    def unit(self) -> Unit:
        """The unit that runs it."""
        return UNIT_OF[self.opcode]

    @property
    def end(self) -> int:
        """First cycle in which the unit can pop again."""
        return self.pop + self.occupancy


@dataclasses.dataclass(frozen=True)
class Frame:
    """The steps of one isolated image in the order of dispatch.

    Parameters
    ----------
    layers : sequence of dict
        ``name``, ``op``, ``binary`` and useful ``macs`` of each layer, as the manifest has them.
    steps : list of Step
        HALT left out.
    cycles : int
        Of the whole frame.
    busy : dict of Unit to int
        Cycles in which each unit is occupied.
    start : int
        First cycle in which a unit can pop.
    """

    arch: Arch
    layers: Sequence[dict]
    steps: list[Step]
    cycles: int
    busy: dict[Unit, int]
    start: int

    @functools.cached_property
    def matrix(self) -> list[Step]:
        """The steps of the matrix unit."""
        return [step for step in self.steps if step.unit is Unit.MM]


_FIRST_POP = QUEUE_CYCLES + 1
"""Cycles from a dispatch to the first possible pop."""


def frame_of(arch: Arch, execution: Execution, layers: Sequence[dict], entries: Sequence[dict],
             lengths: Mapping[str, int]) -> Frame:
    """Run the cycle model on a program.

    Parameters
    ----------
    execution : Execution
        What the program does.
    layers, entries : sequence of dict
        ``layers`` and ``executed`` of the manifest.
    lengths : mapping of str to int
        Length of the dot products of each binary layer (:func:`product_lengths`).
    """
    timing = executed_cycles(arch, execution)
    instructions = execution.instructions[:-1]  # without HALT
    works = _works(instructions, entries, layers, lengths)
    start = timing.dispatch[0] + _FIRST_POP
    free, sent, steps = dict.fromkeys(Unit, start), {unit: [] for unit in Unit}, []
    for index, (opcode, fields, counter, _) in enumerate(instructions):
        unit, pop = UNIT_OF[opcode], timing.pop[index]
        wait = None
        if pop > free[unit]:
            wait = Wait(pop - free[unit], _source(fields, sent, timing, index))
        steps.append(Step(opcode, fields, counter, entries[index]["layer"],
                          timing.dispatch[index], pop, timing.occupancy[index],
                          timing.done[index], wait, works[index]))
        free[unit] = steps[-1].end
        sent[unit].append(index)
    return Frame(arch, layers, steps, timing.cycles, timing.busy, start)


def _source(fields, sent, timing, index):
    """The step whose end was the last condition to come true, None for the dispatch."""
    ready, source = timing.dispatch[index] + _FIRST_POP, None
    for unit, name in WAIT_FIELDS.items():
        if 0 < fields[name] <= len(sent[unit]):
            other = sent[unit][-fields[name]]
            if timing.done[other] + WAIT_CYCLES > ready:
                ready, source = timing.done[other] + WAIT_CYCLES, other
    return source


def product_lengths(graph: Graph) -> dict[str, int]:
    """Length of the dot products of each layer whose operands are bits, by its name."""
    types, lengths = graph.infer(), {}
    for node in graph.nodes:
        if node.op == "binary_linear":
            lengths[node.name] = node.tensors["weight"].shape[1]
        elif node.op in ("scores", "window_scores"):
            lengths[node.name] = types[node.inputs[0]].shape[1] // types[node.name].shape[0]
        elif node.op in ("attend", "attend_levels"):
            lengths[node.name] = types[node.inputs[0]].shape[2]
    return lengths


def _works(instructions, entries, layers, lengths):
    """Wanted rows, columns and length of every product of a binary layer.

    Rows and columns are those of the observed rectangle; scores, which are not observed, have the
    rows of the attention bits that are made of them. A product without either makes constants.
    """
    works, scores = [None] * len(instructions), {}
    for index, (opcode, fields, _, _) in enumerate(instructions):
        entry, layer = entries[index], layers[entries[index]["layer"]]
        observe = entry.get("observe") or entry.get("observe_bits")
        if opcode is Opcode.SOFTMAX and fields["slot"] in scores and observe:
            first = scores.pop(fields["slot"])
            length = lengths.get(layers[entries[first]["layer"]]["name"])
            if length:
                works[first] = (_rows(observe), instructions[first].fields["keys"], length)
        elif opcode is Opcode.MM_SCORE:
            scores[fields["slot"]] = index
        elif UNIT_OF[opcode] is Unit.MM and observe and layer["name"] in lengths:
            works[index] = (_rows(observe), _columns(observe), lengths[layer["name"]])
    return works


def _rows(observe):
    return observe["rows"][1] - observe["rows"][0]


def _columns(observe):
    if observe.get("pieces"):
        return sum(count for _, _, count in observe["pieces"])
    return observe["cols"][1] - observe["cols"][0]
