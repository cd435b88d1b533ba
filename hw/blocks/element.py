"""The processing element, and the mesh tile that holds some of them."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.blocks.popcount import Popcount
from bivit.hw.emit import place
from bivit.hw.fabric.element import FabricElement, late_lanes

__all__ = ["CONTROL", "Element", "MeshTile"]

CONTROL = data.StructLayout({"valid": 1, "first": 1, "last": 1})
"""What travels with a word pair: that it is one, and whether it begins and ends a pass."""


class Element(wiring.Component):
    """Counts mismatches of two vectors and sums them over the words of a pass.

    Parameters
    ----------
    lanes : int
        Bits in a word.
    stages : int
        Latency of the popcount.
    count_bits : int
        Width of the sum.

    Members
    -------
    a, b : ``In(lanes)``
    control : ``In(CONTROL)``
        For the words that were at `a` and `b` `stages` cycles ago.
    count : ``Out(count_bits)``
        Sum of the last complete pass, from the cycle after its `last` is at `control` on, until
        the next pass is complete.
    """

    def __init__(self, *, lanes: int, stages: int, count_bits: int):
        self.lanes, self.stages, self.count_bits = lanes, stages, count_bits
        super().__init__({"a": In(lanes), "b": In(lanes), "control": In(CONTROL),
                          "count": Out(count_bits)})

    def elaborate(self, platform):
        m = Module()
        popcount = place(m, platform, "popcount", Popcount(width=self.lanes, stages=self.stages))
        m.d.comb += popcount.bits.eq(self.a ^ self.b)
        running = Signal(self.count_bits, reset_less=True)
        result = Signal(self.count_bits, reset_less=True)
        total = Signal(self.count_bits)
        m.d.comb += [total.eq(Mux(self.control.first, 0, running) + popcount.count),
                     self.count.eq(result)]
        with m.If(self.control.valid):
            m.d.sync += running.eq(total)
            with m.If(self.control.last):
                m.d.sync += result.eq(total)
        return m


class RowControl(wiring.Component):
    """The last register of a row's control, of its own so that it has few elements to reach.

    It is a component, since synthesis would make one register of equal ones in a tile.

    Members
    -------
    control : ``In(CONTROL)``
    control_next : ``Out(CONTROL)``
        The same, a cycle later.
    """

    def __init__(self):
        super().__init__({"control": In(CONTROL), "control_next": Out(CONTROL)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.control_next.eq(delayed_control(m, self.control, name="row"))
        return m


class MeshTile(wiring.Component):
    """Elements that share operand registers; operands go on to the next tiles.

    Parameters
    ----------
    rows, cols : int
        Elements in the tile.
    lanes, stages, count_bits : int
        As for :class:`Element`.
    fabric : str
        As for :class:`bivit.hw.arch.Arch`.

    Members
    -------
    a : ``In(rows * lanes)``, b : ``In(cols * lanes)``, control : ``In(CONTROL)``
    a_next, b_next, control_next
        The same, a cycle later.
    counts : ``Out(ArrayLayout(count_bits, rows * cols))``
        Index ``row * cols + column``; ``stages + 2`` cycles after the `last` word, and held.
    """

    def __init__(self, *, rows: int, cols: int, lanes: int, stages: int, count_bits: int,
                 fabric: str = "generic"):
        self.rows, self.cols, self.lanes = rows, cols, lanes
        self.stages, self.count_bits, self.fabric = stages, count_bits, fabric
        super().__init__({
            "a": In(rows * lanes), "b": In(cols * lanes), "control": In(CONTROL),
            "a_next": Out(rows * lanes), "b_next": Out(cols * lanes), "control_next": Out(CONTROL),
            "counts": Out(data.ArrayLayout(unsigned(count_bits), rows * cols)),
        })

    def elaborate(self, platform):
        m = Module()
        a = Signal(self.rows * self.lanes, reset_less=True)
        b = Signal(self.cols * self.lanes, reset_less=True)
        m.d.sync += [a.eq(self.a), b.eq(self.b)]
        control = self.control
        for stage in range(self.stages):
            control = delayed_control(m, control, name=f"stage{stage}")
            if stage == 0:
                m.d.comb += self.control_next.eq(control)
        m.d.comb += [self.a_next.eq(a), self.b_next.eq(b)]
        a, b = self._delay_lanes(m, a, name="a"), self._delay_lanes(m, b, name="b")
        for row in range(self.rows):
            row_control = place(m, platform, f"control_{row}", RowControl())
            m.d.comb += row_control.control.eq(control)
            for col in range(self.cols):
                element = place(m, platform, f"element_{row}_{col}", self._element())
                m.d.comb += [
                    element.a.eq(a.word_select(row, self.lanes)),
                    element.b.eq(b.word_select(col, self.lanes)),
                    element.control.eq(row_control.control_next),
                    self.counts[row * self.cols + col].eq(element.count),
                ]
        return m

    def _element(self):
        shape = {"lanes": self.lanes, "stages": self.stages, "count_bits": self.count_bits}
        if self.fabric == "generic":
            return Element(**shape)
        return FabricElement(fabric=self.fabric, **shape)

    def _delay_lanes(self, m, words, *, name):
        """`words` with each lane as late as the elements take it."""
        late = late_lanes(fabric=self.fabric, lanes=self.lanes, stages=self.stages)
        lanes = list(words)
        for cycle in range(1, max(late) + 1):
            moved = [index for index in range(len(lanes)) if late[index % self.lanes] >= cycle]
            later = Signal(len(moved), name=f"{name}_late{cycle}", reset_less=True)
            m.d.sync += later.eq(Cat(lanes[index] for index in moved))
            for bit, index in enumerate(moved):
                lanes[index] = later[bit]
        return Cat(lanes) if max(late) else words


def delayed_control(m: Module, control, *, name: str):
    """`control` a cycle later; only `valid` is reset."""
    valid = Signal(name=f"{name}_valid")
    ends = Signal(2, name=f"{name}_ends", reset_less=True)
    m.d.sync += [valid.eq(control.valid), ends.eq(control.as_value()[1:])]
    later = Signal(CONTROL, name=f"{name}_control")
    m.d.comb += [later.valid.eq(valid), later.first.eq(ends[0]), later.last.eq(ends[1])]
    return later
