"""When instructions run: the units' timing, their queues and waits, followed step by step."""

from collections.abc import Sequence

from bivit.compiler.structures import Code, Plan
from bivit.hw.arch import Arch
from bivit.hw.blocks import fetch, matmul, softmax, stem, vector
from bivit.hw.blocks.flow import control_cycles
from bivit.hw.isa import CONTROL, UNIT_OF, Opcode, Unit

__all__ = ["Timeline", "busiest", "duration", "measure"]

_TIMING = {Unit.LOAD: stem.input_timing, Unit.MM: matmul.timing, Unit.SOFTMAX: softmax.timing,
           Unit.VEC: vector.timing, Unit.FETCH: fetch.estimate}


def duration(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion of an instruction, nothing before it."""
    return _TIMING[UNIT_OF[opcode]](arch, opcode, fields)


class Timeline:
    """Follows instructions in the order of dispatch."""

    def __init__(self, arch: Arch):
        self._depth, self._time = arch.queue_depth, 0
        self._moved = [[] for _ in Unit]
        self._done = [[] for _ in Unit]
        self._popped = [0] * len(Unit)
        self._free = [0] * len(Unit)
        self._drain = 0

    @staticmethod
    def kind(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int, int, int]:
        """What :meth:`send` has to know of an instruction, which its fields alone decide."""
        drain = matmul.drain_of(arch, opcode, fields) if UNIT_OF[opcode] is Unit.MM else 0
        return *duration(arch, opcode, fields), drain, fields.get("k_words", 0) if drain else 0

    def control(self, cycles: int) -> None:
        """Cycles of the sequencer's own, or of an instruction that is skipped."""
        self._time += cycles

    def send(self, unit: Unit, kind: tuple[int, int, int, int], waits) -> int:
        """An instruction, and (unit, distance) of what it waits for; gives its start."""
        occupancy, completion, drain, words = kind
        self._time += 1
        moved, needed = self._moved[unit], 0
        for other, distance in waits:
            done = self._done[other]
            if distance <= len(done) and done[-distance] >= needed:
                needed = done[-distance] + 1
        if len(moved) >= self._depth and moved[-self._depth] >= self._time:
            self._time = moved[-self._depth] + 1
        head = max(self._time + 1, self._popped[unit])
        moved.append(head)
        start = max(head + 1, self._free[unit], needed)
        if drain:
            more = max(self._drain - (start - self._free[unit]) - words, 0)
            occupancy, completion, self._drain = occupancy + more, completion + more, drain
        self._popped[unit], self._free[unit] = start, start + occupancy
        self._done[unit].append(start + completion)
        return start

    @property
    def sent(self) -> int:
        """The cycle of the last dispatch."""
        return self._time

    @property
    def finished(self) -> int:
        """When everything is done."""
        return max(done[-1] for done in self._done if done)


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
    timeline, kinds = Timeline(arch), {}
    for line, index in code.steps:
        opcode, fields = code.lines[line].opcode, code.lines[line].fields
        if opcode in CONTROL:
            jumps = (opcode in (Opcode.END, Opcode.RETURN) and not fields.get("more")
                     or bool(fields.get("call")))
            timeline.control(control_cycles(opcode, fields, jumps=jumps))
        elif index is None or opcode is Opcode.HALT or fields.get("next"):
            timeline.control(1)
        else:
            if line not in kinds:
                kinds[line] = Timeline.kind(arch, opcode, plan.instructions[index].fields)
            timeline.send(UNIT_OF[opcode], kinds[line], waits[line].items())
    return timeline.finished
