"""The whole of what goes onto a board: accelerator, serial line, power-on reset."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.accelerator import Accelerator
from bivit.hw.arch import Arch
from bivit.hw.blocks.registers import axi_lite_signature
from bivit.hw.board.link import BoardLink
from bivit.hw.board.protocol import TOP
from bivit.hw.emit import emit, place

__all__ = ["PATIENCE", "BoardTop", "board_verilog"]

PATIENCE = 1 << 26
"""Cycles after which a board gives up a machine that takes no data."""

WRAPPER = f"""
// Pins of a board; the reset lasts for the first cycles after configuration.
module {TOP} (input clk, input uart_rx, output uart_tx);
  reg [3:0] power_on = 4'd0;
  wire rst = ~power_on[3];
  always @(posedge clk) if (rst) power_on <= power_on + 4'd1;
  board board_1 (.clk(clk), .rst(rst), .uart_rx(uart_rx), .uart_tx(uart_tx));
endmodule
"""


def board_verilog(arch: Arch, *, clock_hz: int, baud: int, patience: int = PATIENCE) -> str:
    """Verilog of a board top, its module ``board_top`` and all modules below it."""
    top = BoardTop(arch, clock_hz=clock_hz, baud=baud, patience=patience)
    return f"{emit(top, 'board')}\n{WRAPPER}"


class BoardTop(wiring.Component):
    """The accelerator of a target behind a serial line.

    Parameters
    ----------
    arch : Arch
    clock_hz, baud : int
        Clock of the board, bits per second of the line.
    patience : int
        Cycles after which data that the machine does not take are given up.

    Members
    -------
    uart_rx, uart_tx : the line
    """

    def __init__(self, arch: Arch, *, clock_hz: int, baud: int, patience: int = PATIENCE):
        self.arch, self.clock_hz, self.baud, self.patience = arch, clock_hz, baud, patience
        super().__init__({"uart_rx": In(1, init=1), "uart_tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        link = place(m, platform, "link", BoardLink(
            self.arch, clock_hz=self.clock_hz, baud=self.baud, patience=self.patience))
        machine = place(m, platform, "machine", Accelerator(self.arch))
        m.d.comb += [
            link.uart_rx.eq(self.uart_rx), self.uart_tx.eq(link.uart_tx),
            machine.s_axis_tdata.eq(link.beats_in.p.data),
            machine.s_axis_tlast.eq(link.beats_in.p.last),
            machine.s_axis_tvalid.eq(link.beats_in.valid),
            link.beats_in.ready.eq(machine.s_axis_tready),
            link.beats_out.p.data.eq(machine.m_axis_tdata),
            link.beats_out.p.last.eq(machine.m_axis_tlast),
            link.beats_out.valid.eq(machine.m_axis_tvalid),
            machine.m_axis_tready.eq(link.beats_out.ready),
        ]
        for name, member in axi_lite_signature().members.items():
            port, own = getattr(machine, f"s_axil_{name}"), getattr(link.axil, name)
            m.d.comb += port.eq(own) if member.flow is Out else own.eq(port)
        return m
