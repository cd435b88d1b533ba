"""Eighth pass: wait distances from dependencies, and lines to words."""

from collections.abc import Sequence

from bivit.compiler.clock import KnownDone
from bivit.compiler.code import Code, looped
from bivit.compiler.structures import CompileError, Instruction, Plan
from bivit.hw.encoding import encode
from bivit.hw.isa import FORMATS, HEADER, UNIT_OF, WAIT_FIELDS, Unit

__all__ = ["encode_program", "wait_distances"]

_LONGEST = (1 << HEADER["wait_mm"]) - 1


def encode_program(plan: Plan, code: Code, waits: Sequence[dict[Unit, int]],
                   ) -> tuple[list[int], tuple[Instruction, ...]]:
    """Words, and what is on each line, with what :func:`wait_distances` gives for it."""
    words, instructions = [], []
    layers = [set() for _ in code.lines]
    for place, index in code.steps:
        if index is not None:
            layers[place].add(plan.instructions[index].layer)
    for place, (line, own) in enumerate(zip(code.lines, waits, strict=True)):
        layer = layers[place].pop() if len(layers[place]) == 1 else None
        fields = line.fields | {WAIT_FIELDS[unit]: distance for unit, distance in own.items()}
        try:
            words.append(encode(line.opcode, **fields))
        except ValueError as error:
            name = plan.layers[plan.instructions[line.instruction or -1].layer].name
            raise CompileError(f"layer {name}: {error}; make the "
                               "network or the memories of the target smaller") from None
        fields = dict.fromkeys(FORMATS[line.opcode], 0) | fields
        instructions.append(Instruction(line.opcode, fields, layer))
    return words, tuple(instructions)


def wait_distances(plan: Plan, code: Code,
                   needs: Sequence[dict[int, bool]]) -> list[dict[Unit, int]]:
    """For each line, how far back the instructions lie that it waits for.

    A line that runs several times waits as its strictest time asks for, but for what lines outside
    of loops have waited for. Of a line that runs once, a wait that follows from others is left
    out. A distance over the longest becomes that: the instruction then waits for a later one of an
    in-order unit.
    """
    targets = _targets(plan, code, needs)
    runs = [0] * len(code.lines)
    for line, *_ in targets:
        runs[line] += 1
    nearest = [{} for _ in code.lines]
    in_loop = looped(code.lines)
    clock = KnownDone()  # of lines outside of loops alone
    for position, (line, opcode, distances, wanted) in enumerate(targets):
        if runs[line] == 1:
            waits = {WAIT_FIELDS[unit]: min(distance, _LONGEST)
                     for unit, distance in distances.items()}
        else:
            waits, known = {}, clock.before(UNIT_OF[opcode])
            for unit, distance in distances.items():
                if known[unit] < wanted[unit]:
                    nearest[line][unit] = min(nearest[line].get(unit, _LONGEST), distance)
                    if not in_loop[line]:
                        waits[WAIT_FIELDS[unit]] = min(distance, _LONGEST)
        clock.add(position, opcode, waits)
    clock = KnownDone()
    for position, (line, opcode, _, wanted) in enumerate(targets):
        if runs[line] == 1:
            nearest[line] = _shortest(clock, UNIT_OF[opcode], wanted)
        known = clock.add(position, opcode, {WAIT_FIELDS[unit]: distance
                                             for unit, distance in nearest[line].items()})
        assert all(known[unit] >= number for unit, number in wanted.items()), opcode
    return nearest


def _targets(plan, code, needs):
    """For each instruction that runs: line, opcode, and distances and numbers of its targets."""
    place, sent, result = {}, [0] * len(Unit), []
    for line, index in code.steps:
        if index is None or plan.instructions[index].opcode not in UNIT_OF:
            continue
        opcode, wanted = plan.instructions[index].opcode, {}
        for other, hazard in needs[index].items():
            unit, number = place[other]
            if hazard:
                wanted[unit] = max(wanted.get(unit, -1), number)
        distances = {unit: sent[unit] - number for unit, number in wanted.items()}
        result.append((line, opcode, distances, wanted))
        place[index] = UNIT_OF[opcode], sent[UNIT_OF[opcode]]
        sent[UNIT_OF[opcode]] += 1
    return result


def _shortest(clock, unit, wanted):
    """Waits for what is not known to be done.

    A target that another wait implies is left out: take the furthest reaching ones first.
    """
    known, waits = clock.before(unit), {}
    for kind in sorted(wanted, key=lambda kind: -clock.sent[kind][wanted[kind]]):
        if known[kind] < wanted[kind]:
            waits[kind] = min(len(clock.sent[kind]) - wanted[kind], _LONGEST)
            known = clock.waited(known, kind, len(clock.sent[kind]) - waits[kind])
    return waits
