"""The board's side of the line: UART, frames and controller in front of the machine's ports."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.output import BEAT
from bivit.hw.blocks.registers import axi_lite_signature
from bivit.hw.board.controller import Controller
from bivit.hw.board.framing import FrameReceiver, FrameSender
from bivit.hw.board.uart import UartReceiver, UartTransmitter
from bivit.hw.emit import place

__all__ = ["BoardLink"]


class BoardLink(wiring.Component):
    """Everything between the pins of the line and the ports of the machine.

    Parameters
    ----------
    arch, clock_hz, baud, patience, network
        See :class:`bivit.hw.board.controller.Controller`.

    Members
    -------
    uart_rx, uart_tx : the line
    axil, beats_in, beats_out : to the machine
    """

    def __init__(self, arch: Arch, *, clock_hz: int, baud: int, patience: int, network: int = 0):
        self.arch, self.clock_hz, self.baud = arch, clock_hz, baud
        self.patience, self.network = patience, network
        super().__init__({
            "uart_rx": In(1, init=1), "uart_tx": Out(1, init=1),
            "axil": Out(axi_lite_signature()),
            "beats_in": Out(stream.Signature(BEAT)), "beats_out": In(stream.Signature(BEAT)),
        })

    def elaborate(self, platform):
        m = Module()
        bit_cycles = round(self.clock_hz / self.baud)
        uart_in = place(m, platform, "uart_in", UartReceiver(bit_cycles=bit_cycles))
        uart_out = place(m, platform, "uart_out", UartTransmitter(bit_cycles=bit_cycles))
        receiver = place(m, platform, "receiver", FrameReceiver())
        sender = place(m, platform, "sender", FrameSender())
        controller = place(m, platform, "controller", Controller(
            self.arch, clock_hz=self.clock_hz, baud=self.baud, patience=self.patience,
            network=self.network))
        wiring.connect(m, sender.o, uart_out.i)
        wiring.connect(m, controller.words, sender.i)
        for name in ("axil", "beats_in", "beats_out"):
            wiring.connect(m, getattr(controller, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [
            uart_in.rx.eq(self.uart_rx), self.uart_tx.eq(uart_out.tx), receiver.i.eq(uart_in.o),
            controller.full.eq(receiver.full), controller.head.eq(receiver.head),
            controller.word.eq(receiver.word), receiver.address.eq(controller.address),
            receiver.release.eq(controller.release), controller.sending.eq(sender.busy),
        ]
        m.d.comb += [getattr(sender, name).eq(getattr(controller, name))
                     for name in ("clear", "kind", "sequence", "send")]
        return m
