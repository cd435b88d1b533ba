"""Processing elements made of a fabric's own cells."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.emit import Primitive
from bivit.hw.fabric import carry, lut6, plain

__all__ = ["FABRICS", "FabricElement", "late_lanes"]

FABRICS = {
    "ecp5": (carry.unit, carry.netlist, carry.ECP5),
    "nexus": (carry.unit, carry.netlist, carry.NEXUS),
    "lut6-xc7": (lut6.unit, lut6.netlist, lut6.XC7),
    "lut6-xcup": (lut6.unit, lut6.netlist, lut6.XCUP),
}
"""Fabric to what plans a unit, what builds it, and of which cells."""


def make_unit(*, fabric: str, lanes: int, stages: int, count_bits: int):
    """The plan of a unit."""
    plan, _, cell = FABRICS[fabric]
    return plan(lanes=lanes, stages=stages, count_bits=count_bits, cell=cell)


def make_netlist(unit, fabric: str):
    """The cells of a unit."""
    _, build, cell = FABRICS[fabric]
    return build(unit, cell)


def late_lanes(*, fabric: str, lanes: int, stages: int) -> tuple[int, ...]:
    """By how many cycles the operands of each lane have to come later than the earliest."""
    if fabric == "generic":
        return (0,) * lanes
    return make_unit(fabric=fabric, lanes=lanes, stages=stages, count_bits=lanes.bit_length()).late


def module_text(name: str, unit, body: str) -> str:
    """A module of a unit with the given body up to its sum."""
    return "\n".join([
        f"module {name}(input clk, input [{unit.lanes - 1}:0] a, input [{unit.lanes - 1}:0] b,",
        f"    input [2:0] control, output [{unit.count_bits - 1}:0] count);",
        "  wire valid = control[0], first = control[1], last = control[2];",
        body,
        f"  reg [{unit.count_bits - 1}:0] result;",
        "  always @(posedge clk) if (valid & last) result <= total;",
        "  assign count = result;",
        "endmodule"])


class FabricElement(wiring.Component):
    """What :class:`bivit.hw.blocks.element.Element` is, in cells of a fabric.

    Parameters
    ----------
    fabric : str
    lanes, stages, count_bits : int

    Members
    -------
    a, b : ``In(lanes)``
        Each lane as much later than the first as :func:`late_lanes` says.
    control : ``In(3)``, count : ``Out(count_bits)``
    """

    def __init__(self, *, fabric: str, lanes: int, stages: int, count_bits: int):
        self.fabric, self.lanes, self.stages, self.count_bits = fabric, lanes, stages, count_bits
        super().__init__({"a": In(lanes), "b": In(lanes), "control": In(3),
                          "count": Out(count_bits)})

    def verilog_primitive(self) -> Primitive:
        """The netlist; for simulations that define ``BIVIT_COUNTONES``, a count."""
        unit = make_unit(fabric=self.fabric, lanes=self.lanes, stages=self.stages,
                         count_bits=self.count_bits)
        body = "\n".join(["`ifdef BIVIT_COUNTONES", plain.counting(unit), "`else",
                          make_netlist(unit, self.fabric).text(), "`endif"])
        fabric = self.fabric.replace("-", "_")
        name = f"bivit_element_{fabric}_{self.lanes}_{self.stages}_{self.count_bits}"
        return Primitive(module=name, text=module_text(name, unit, body), parameters={})

    def elaborate(self, platform):
        m = Module()
        valid, first, last = self.control
        late = late_lanes(fabric=self.fabric, lanes=self.lanes, stages=self.stages)
        differ, value = self.a ^ self.b, 0
        for stage in range(self.stages + 1):
            value += sum(Cat(differ[lane] for lane in range(self.lanes) if late[lane] == stage))
            if stage < self.stages:
                later = Signal(self.count_bits, name=f"count_{stage}", reset_less=True)
                m.d.sync += later.eq(value)
                value = later
        running = Signal(self.count_bits, reset_less=True)
        total = Signal(self.count_bits)
        m.d.comb += total.eq(value + Mux(first, 0, running))
        with m.If(valid):
            m.d.sync += running.eq(total)
            with m.If(last):
                m.d.sync += self.count.eq(total)
        return m
