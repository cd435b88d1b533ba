"""Seventh pass, second half: the lines of a program, with one body for loops that are alike.

Loops whose streams are equal but for indexed fields are calls of one subroutine, which lies behind
HALT. Registers that differ from call to call are set by the call, the others in the subroutine.
"""

import dataclasses
from collections.abc import Sequence

from bivit.compiler.code import Code, Line, Order, Pipeline, Straight
from bivit.compiler.order import find_order
from bivit.compiler.registers import Indexing, Unrolled, index_fields, signature
from bivit.compiler.repeats import call_repeats
from bivit.compiler.structures import Instruction
from bivit.hw.arch import Arch
from bivit.hw.isa import SETS, Opcode, register_of

__all__ = ["assemble"]

_EFFORT = 2_400_000
"""Instructions that may be looked at to find the orders of all loops; each gets its share."""


@dataclasses.dataclass(frozen=True)
class _Body:
    """One loop and how its calls begin."""

    order: Order
    indexing: Indexing
    calls: tuple[Pipeline, ...]


def assemble(arch: Arch, instructions: Sequence[Instruction],
             parts: Sequence[Straight | Pipeline], needs: Sequence[dict[int, bool]]) -> Code:
    """The program of the parts, in their order."""
    bodies = _bodies(arch, instructions, parts, needs)
    main, subroutines, targets = [], [], {}
    length = sum(len(_of_part(part, bodies, instructions, 0)[0]) for part in parts)
    for part in parts:
        body = bodies.get(id(part))
        if isinstance(body, _Body) and len(body.calls) > 1 and id(body) not in targets:
            targets[id(body)] = length + len(subroutines)
            subroutines += [*_loop(body, instructions), Line(Opcode.RETURN)]
    steps = []
    for part in parts:
        body = bodies.get(id(part))
        lines, own = _of_part(part, bodies, instructions, targets.get(id(body)))
        steps += [(len(main) + place, index) for place, index in own]
        main += lines
        if id(body) in targets:
            steps += _run(body, part, targets[id(body)])
            steps.append((targets[id(body)] + len(_loop(body, instructions)), None))
    assert len(main) == length
    return call_repeats(Code((*main, *subroutines), tuple(steps)))


def _bodies(arch, instructions, parts, needs):
    """What becomes of each loop, by the identity of the part: a body, an order to unroll, or None
    for canonical order."""
    found, alike = {}, {}
    for part in parts:
        if isinstance(part, Pipeline):
            alike.setdefault(signature(instructions, part), []).append(part)
    work = {key: sum(len(stream.indices) for call in calls for stream in call.streams)
            for key, calls in alike.items()}
    for key, calls in alike.items():
        effort = _EFFORT * work[key] // sum(work.values())
        order = find_order(arch, instructions, needs, calls, effort)
        if order is None:
            found |= {id(call): None for call in calls}
            continue
        for group in (calls, *([call] for call in calls)):
            if all(id(call) in found for call in group):
                continue
            try:
                body = _Body(order, index_fields(instructions, group, order), tuple(group))
            except Unrolled:
                body = order
                if len(group) > 1:
                    continue
            found |= {id(call): body for call in group}
    return found


def _of_part(part, bodies, instructions, target):
    """Lines of a part, and its steps: line, instruction."""
    body = bodies.get(id(part))
    if isinstance(part, Straight):
        indices = part.instructions
    elif body is None:
        indices = [*part.before,
                   *sorted(index for stream in part.streams for index in stream.indices)]
    elif isinstance(body, Order):
        indices = [*part.before, *(part.streams[step[0]].at(step[1])
                                   for step in body.steps(part.streams)
                                   if step is not None and step[1] is not None)]
    elif len(body.calls) == 1:
        lines = _loop(body, instructions)
        return lines, _run(body, part, 0)
    else:
        call = next(number for number, other in enumerate(body.calls) if other is part)
        lines = _sets({register: values[call]
                       for register, values in body.indexing.given.items()}, target)
        return lines, [(place, None) for place in range(len(lines))]
    return ([Line(instructions[index].opcode, instructions[index].fields, index)
             for index in indices], list(enumerate(indices)))


def _sets(values, target=None):
    """SETs of registers, the last of them a call if there is a target."""
    items, lines = sorted(values.items()), []
    for start in range(0, max(len(items), 1), SETS):
        fields = {}
        for place, (register, value) in enumerate(items[start:start + SETS]):
            fields |= {f"reg_{place}": register, f"value_{place}": value}
        lines.append(Line(Opcode.SET, {"used": len(fields) // 2} | fields))
    if target is not None:
        last = lines[-1]
        lines[-1] = Line(Opcode.SET, last.fields | {"call": 1, "target": target})
    return lines


def _loop(body, instructions):
    """Lines of a loop, with what it sets itself."""
    order, indexing, first = body.order, body.indexing, body.calls[0]
    lines = _sets(indexing.fixed) if indexing.fixed else []
    lines += [_line(instructions, index, fields)
              for index, fields in zip(first.before, indexing.before, strict=True)]
    lines.append(Line(Opcode.LOOP, {"count": order.turns(first.streams)}))
    guards = order.guards(first.streams)
    lines += [_line(instructions, first.streams[stream].indices[0], indexing.fields[stream],
                    *guards[stream]) for stream in order.body]
    for number, steps in enumerate(indexing.ends):
        end = {"used": len(steps), "more": int(number + 1 < len(indexing.ends))}
        for place, step in enumerate(steps):
            end |= {f"{name}_{place}": value
                    for name, value in zip(("reg", "add", "limit", "on_wrap"), step, strict=True)}
        lines.append(Line(Opcode.END, end))
    return lines


def _line(instructions, index, indexed, stage=0, rest=0):
    """An instruction of a body, with its registers."""
    fields = instructions[index].fields | {"stage": stage, "rest": rest}
    for name, (immediate, register) in indexed.items():
        fields |= {name: immediate, register_of(name): register}
    return Line(instructions[index].opcode, fields, index)


def _run(body, part, start):
    """Steps of a loop whose lines begin at `start`."""
    sets = -(-len(body.indexing.fixed) // SETS)
    first = start + sets + len(part.before) + 1
    end = first + len(body.order.body)
    place = {stream: first + position for position, stream in enumerate(body.order.body)}
    steps = [(start + line, None) for line in range(sets)]
    steps += [(start + sets + line, index) for line, index in enumerate(part.before)]
    steps.append((first - 1, None))
    for step in body.order.steps(part.streams):
        if step is None:
            steps += [(end + line, None) for line in range(len(body.indexing.ends))]
        else:
            stream, iteration = step
            steps.append((place[stream],
                          None if iteration is None else part.streams[stream].at(iteration)))
    return steps
