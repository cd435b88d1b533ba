"""Number of ones in a vector."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

__all__ = ["Popcount"]


class Popcount(wiring.Component):
    """Counts ones with a balanced tree of adders; the latency is `stages` cycles.

    In simulations that define ``BIVIT_COUNTONES`` the Verilog counts with ``$countones``, which
    ``tests/hw/test_popcount.py`` proves equal.

    Parameters
    ----------
    width : int
        Bits of the vector.
    stages : int
        Registers between input and output, at least 1, spread evenly over the levels of the tree.

    Members
    -------
    bits : ``In(width)``
    count : ``Out(bits_for(width))``
    """

    def __init__(self, *, width: int, stages: int):
        self.width, self.stages = width, stages
        super().__init__({"bits": In(width), "count": Out(bits_for(width))})

    def simulation_model(self, module: str) -> tuple[str, str]:
        """The macro and the module that replace the tree in fast simulations."""
        top, names = len(self.count) - 1, [f"count_{stage}" for stage in range(self.stages)]
        moves = [f"{name} <= {previous};" for previous, name in zip(names, names[1:], strict=False)]
        lines = [f"module {module}(input clk, input rst, input [{self.width - 1}:0] bits, "
                 f"output [{top}:0] count);",
                 f"  reg [{top}:0] {', '.join(names)};",
                 "  always @(posedge clk) begin",
                 f"    {names[0]} <= {top + 1}'($countones(bits));",
                 *(f"    {move}" for move in moves),
                 "  end",
                 f"  assign count = {names[-1]};",
                 "endmodule"]
        return "BIVIT_COUNTONES", "\n".join(lines)

    def elaborate(self, platform):
        m = Module()
        levels = ceil_log2(self.width)
        cuts = [round(levels * stage / self.stages) for stage in range(1, self.stages + 1)]
        terms = list(self.bits)
        for level in range(levels + 1):
            if level > 0:
                pairs = [low + high for low, high in zip(terms[::2], terms[1::2], strict=False)]
                terms = pairs + terms[2 * len(pairs):]
            for stage in range(cuts.count(level)):
                registers = [Signal(len(term), name=f"level{level}_{stage}_{index}",
                                    reset_less=True) for index, term in enumerate(terms)]
                m.d.sync += Cat(registers).eq(Cat(terms))
                terms = registers
        m.d.comb += self.count.eq(terms[0])
        return m
