"""Dot-product unit on Lattice's carry cells: three lanes in two LUT4, the XOR included.

See ``docs/popcount.md``. A chain is a row of half cells. Each adder begins with an inject cell,
which puts out the carry of the adder before it and takes in a lane of its own as carry.
"""

import dataclasses
import functools

from amaranth.utils import bits_for

from bivit.hw.fabric.netlist import Delay, Netlist, Sum, Unit

__all__ = ["ECP5", "NEXUS", "CarryCell", "netlist", "unit"]

CHAIN, FAST_CHAIN, WIDE_CHAIN = 8, 4, 9
"""Half cells after which an adder begins a new chain: mostly, in units of ``FAST`` stages and more,
and in units of more than ``WIDE`` lanes.

A tile of the device has eight of them. Longer chains save LUTs, but are hard to place, and wires
into them go round (``docs/synthesis.md``, clock rate). Timing analysis sees a path from every cell
of a chain to every later one. So the adders of a chain are of one register stage and ordered by
height: an adder's operands never come from a later cell.
"""

FAST = 3
"""Stages from which on the clock rate counts more than LUTs."""

WIDE = 128
"""Lanes up to which the array is large, and its clock rate what counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarryCell:
    """A carry cell with two LUT4, ``S = LUT4 ^ CIN`` and ``COUT = LUT4 ? CIN : tap``.

    Parameters
    ----------
    kind : str
        The primitive.
    inject : tuple of str
        Parameters that switch the carry on.
    initial : str
        How a table is written.
    compares_two : bool
        Whether the tap ignores C, so that one LUT4 can add two lanes.
    """

    kind: str
    inject: tuple[str, ...]
    initial: str
    compares_two: bool


ECP5 = CarryCell(kind="CCU2C", inject=("INJECT1_0", "INJECT1_1"), initial="16'h{:04x}",
                 compares_two=True)
NEXUS = CarryCell(kind="CCU2", inject=("INJECT",), initial='"0x{:04X}"', compares_two=False)

INJECT, NOTHING = 0x0066, 0x0000
ADD, ADD_CLEARED, ADD_LANE, ADD_LANES = 0x66AA, 0xA6AA, 0x96AA, 0x6996
"""Tables. D is 1 in all but the last, which leaves the rows with D = 0 to the tap."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
    """An adder of two counts and a lane of its own; a count of one lane is the lane itself.

    Parameters
    ----------
    lanes : int
        Lanes counted.
    left, right : Node, optional
        The counts added, where there are any.
    cells : int
        Half cells and LUTs of the adder and all below it.
    height : int
        Adders on the longest way from a lane.
    """

    lanes: int
    left: "Node | None" = None
    right: "Node | None" = None
    cells: int = 0
    height: int = 0

    @property
    def width(self) -> int:
        """Bits of the count."""
        return bits_for(self.lanes)


@functools.cache
def tree(lanes: int, cell: CarryCell) -> Node:
    """The adders with the fewest half cells, and of those the lowest."""
    if lanes == 1:
        return Node(lanes=1)
    nodes = []
    for count in range((lanes - 1) // 2 + 1):
        left, right = tree(lanes - 1 - count, cell), tree(count, cell) if count else None
        compare = left.lanes == count == 1 and not cell.compares_two
        nodes.append(Node(
            lanes=lanes, left=left, right=right,
            cells=left.cells + (right.cells if right else 0) + 1 + left.width + compare,
            height=1 + max(left.height, right.height if right else 0)))
    return min(nodes, key=lambda node: (node.cells, node.height))


def unit(*, lanes: int, stages: int, count_bits: int, cell: CarryCell) -> Unit:
    """What to add when, with the registers spread evenly over the adders on the longest way.

    From ``FAST`` stages on the wire from the operand registers, which feed several units, counts
    as an adder, so that the first stage is short.
    """
    root = tree(lanes - 1, cell)
    wire = int(stages >= FAST)
    levels = wire + root.height + 1
    steps, late = [], [stages] * lanes

    def stage_of(node):
        return (wire + node.height - 1) * (stages + 1) // levels

    def number(node, low, stage):
        """Name of the count of lanes from `low` on in this stage."""
        name, width = f"count_{low}_{node.lanes}", node.width
        own = stage_of(node)
        terms, direct, first = [], [], low
        for child in filter(None, (node.left, node.right)):
            if child.lanes == 1:
                direct.append(first)
            else:
                terms.append(number(child, first, own))
            first += child.lanes
        direct.append(first)
        for lane in direct:
            late[lane] = own
        steps.append((node.height, Sum(name=name, width=width, terms=tuple(terms),
                                       lanes=tuple(direct))))
        source = name
        for later in range(own + 1, stage + 1):
            delay = Delay(name=f"{name}_at_{later}", width=width, source=source)
            steps.append((node.height + 0.5, delay))
            source = delay.name
        return source

    terms, direct = (), (0,)
    if root.lanes > 1:
        terms, direct = (number(root, 0, stages),), ()
    total = Sum(name="total", width=count_bits, terms=terms, lanes=(*direct, lanes - 1))
    return Unit(lanes=lanes, stages=stages, count_bits=count_bits,
                steps=tuple(step for _, step in sorted(steps, key=lambda pair: pair[0])),
                total=total, late=tuple(late))


class _Chain:
    """Half cells in a row, and the carry that the next one has to put out."""

    def __init__(self, netlist, cell, length):
        self.netlist, self.cell, self.length = netlist, cell, length
        self.halves, self.carry = [], None

    def half(self, table, *, a="1'b0", b="1'b0", c="1'b0", d="1'b1", total=None):
        """A half cell; returns what it puts out."""
        total = total or self.netlist.wire()
        self.halves.append((table, a, b, c, d, total))
        return total

    def begin(self, lane):
        """Begin an adder that takes `lane`."""
        if len(self.halves) >= self.length:
            self.end()
        self.half(INJECT, a=f"a[{lane}]", b=f"b[{lane}]", total=self.carry)
        self.carry = None

    def carry_out(self):
        """The carry of the adder."""
        self.carry = self.netlist.wire()
        return self.carry

    def end(self):
        """Put the cells so far into the netlist, and begin a new chain."""
        if self.carry is not None:
            self.half(NOTHING, total=self.carry)
            self.carry = None
        if len(self.halves) % 2:
            self.half(NOTHING)
        carry = None
        for pair in zip(self.halves[::2], self.halves[1::2], strict=True):
            tables = {f"INIT{index}": self.cell.initial.format(half[0])
                      for index, half in enumerate(pair)}
            pins = {f"{pin}{index}": value for index, half in enumerate(pair)
                    for pin, value in zip("ABCDS", half[1:], strict=True)}
            before, carry = carry, self.netlist.wire()
            self.netlist.cell(self.cell.kind, tables | dict.fromkeys(self.cell.inject, '"NO"'),
                              CIN=before, **pins, COUT=carry)
        self.halves = []


def chain_length(unit: Unit) -> int:
    """Half cells after which an adder of a unit begins a new chain."""
    if unit.lanes > WIDE:
        return WIDE_CHAIN
    return FAST_CHAIN if unit.stages >= FAST else CHAIN


def netlist(unit: Unit, cell: CarryCell) -> Netlist:
    """Cells and registers of a unit, from ``a``, ``b``, ``valid`` and ``first`` to ``running``."""
    result = Netlist()
    chain, bits = _Chain(result, cell, chain_length(unit)), {}
    for step in unit.steps:
        if isinstance(step, Delay):
            chain.end()
            bits[step.name] = result.register(step.name, bits[step.source])
        else:
            bits[step.name] = _add(chain, step, bits)
            result.number(step.name, bits[step.name])
    *direct, last = unit.total.lanes
    addend = bits[unit.total.terms[0]] if unit.total.terms else [_compared(result, cell, direct[0])]
    chain.begin(last)
    addend = addend + ["1'b0"] * (unit.count_bits - len(addend))
    total = [chain.half(ADD_CLEARED, a=bit, b=f"running[{index}]", c="first")
             for index, bit in enumerate(addend)]
    result.register("running", total, enable="valid")
    result.number("total", total)
    chain.end()
    return result


def _add(chain, step, bits):
    """Half cells of one adder; returns its bits."""
    *direct, last = step.lanes
    terms = sorted((bits[name] for name in step.terms), key=len, reverse=True)
    if len(direct) == 2 and not chain.cell.compares_two:
        terms, direct = [[_compared(chain.netlist, chain.cell, direct[0])]], direct[1:]
    chain.begin(last)
    total = []
    for index in range(max(map(len, terms), default=1)):
        here = [term[index] for term in terms if index < len(term)]
        lanes = direct if index == 0 else []
        total.append(chain.half(**_operands(here, lanes)))
    if len(total) < step.width:
        total.append(chain.carry_out())
    return total


def _operands(here, lanes):
    """Table and pins of a half cell that adds some bits and some lanes, two in all at most."""
    if len(lanes) == 2:
        (a, b), (c, d) = ((f"a[{lane}]", f"b[{lane}]") for lane in lanes)
        return {"table": ADD_LANES, "a": a, "b": b, "c": c, "d": d}
    if lanes:
        return {"table": ADD_LANE, "a": here[0] if here else "1'b0", "b": f"a[{lanes[0]}]",
                "c": f"b[{lanes[0]}]"}
    return {"table": ADD, **dict(zip("ab", here, strict=False))}


def _compared(netlist, cell, lane):
    """Mismatch of a lane, in a LUT of its own."""
    bit = netlist.wire()
    netlist.cell("LUT4", {"INIT": cell.initial.format(0x0006)}, A=f"a[{lane}]", B=f"b[{lane}]",
                 C="1'b0", D="1'b0", Z=bit)
    return bit
