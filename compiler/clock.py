"""What is known to be done when an instruction starts, from waits and the order of units."""

from collections.abc import Sequence

from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Opcode, Unit

__all__ = ["KnownDone"]

_NOTHING = (-1,) * len(Unit)


class KnownDone:
    """Follows a program and knows, for each instruction, which earlier ones must be done.

    A unit runs in order, so one number for each unit is enough: the position, among the
    instructions of that unit, of the last that is surely done. An instruction knows what the one
    before it in its unit knew, and what those that it waits for knew; nothing else.
    """

    def __init__(self):
        self.sent = {unit: [] for unit in Unit}  # program positions
        self._known = {unit: [] for unit in Unit}

    def before(self, unit: Unit) -> tuple[int, ...]:
        """What the next instruction of a unit knows without waits."""
        return self._known[unit][-1] if self._known[unit] else _NOTHING

    def waited(self, known: Sequence[int], unit: Unit, index: int) -> tuple[int, ...]:
        """`known`, and that instruction `index` of `unit` is done, with all that it knew."""
        merged = list(map(max, known, self._known[unit][index]))
        merged[unit] = max(merged[unit], index)
        return tuple(merged)

    def add(self, position: int, opcode: Opcode, fields: dict[str, int]) -> tuple[int, ...]:
        """Take the next instruction with its waits; give what it knows."""
        unit = UNIT_OF[opcode]
        known = self.before(unit)
        for other, name in WAIT_FIELDS.items():
            if 0 < (distance := fields.get(name, 0)) <= len(self.sent[other]):
                known = self.waited(known, other, len(self.sent[other]) - distance)
        self.sent[unit].append(position)
        self._known[unit].append(known)
        return known
