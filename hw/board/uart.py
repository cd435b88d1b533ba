"""Bytes on a serial line: 8 data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import cdc, data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RECEIVED", "SHORTEST_BIT", "UartReceiver", "UartTransmitter"]

RECEIVED = data.StructLayout({"byte": 8, "broken": 1, "valid": 1})
"""A byte, whether its stop bit was missing, and that it is there."""
SHORTEST_BIT = 4
"""Least cycles of a bit: the receiver needs as many to see its middle."""
_BITS = 8


class UartReceiver(wiring.Component):
    """Samples the middle of each bit.

    Parameters
    ----------
    bit_cycles : int
        Clock cycles of a bit, at least ``SHORTEST_BIT``.

    Members
    -------
    rx : the line, high while nothing is sent
    o : bytes, each for one cycle
    """

    def __init__(self, *, bit_cycles: int):
        self.bit_cycles = _checked(bit_cycles)
        super().__init__({"rx": In(1), "o": Out(RECEIVED)})

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.line = cdc.FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.bit_cycles))
        left = Signal(range(_BITS + 3))  # bits to sample, the start bit first
        m.d.sync += self.o.valid.eq(0)
        with m.If(left == 0):
            with m.If(~line):
                m.d.sync += [left.eq(_BITS + 2), timer.eq(self.bit_cycles // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.bit_cycles - 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [self.o.valid.eq(1), self.o.broken.eq(~line)]
            with m.Elif((left == _BITS + 2) & line):
                m.d.sync += left.eq(0)  # too short for a start bit
            with m.Else():
                m.d.sync += self.o.byte.eq(Cat(self.o.byte[1:], line))
        return m


class UartTransmitter(wiring.Component):
    """Sends bytes without a gap while there are any.

    Parameters
    ----------
    bit_cycles : int
        Clock cycles of a bit.

    Members
    -------
    i : bytes
    tx : the line, high while nothing is sent
    """

    def __init__(self, *, bit_cycles: int):
        self.bit_cycles = _checked(bit_cycles)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(self.bit_cycles))
        left = Signal(range(_BITS + 3))
        shift = Signal(_BITS + 1)  # what follows the bit on the line
        over = Signal()
        m.d.comb += [over.eq((left == 0) | (left == 1) & (timer == 0)), self.i.ready.eq(over)]
        m.d.sync += timer.eq(Mux(timer == 0, self.bit_cycles - 1, timer - 1))
        with m.If(over):
            with m.If(self.i.valid):
                m.d.sync += [self.tx.eq(0), shift.eq(Cat(self.i.p, 1)), left.eq(_BITS + 2),
                             timer.eq(self.bit_cycles - 1)]
            with m.Else():
                m.d.sync += left.eq(0)
        with m.Elif(timer == 0):
            m.d.sync += [self.tx.eq(shift[0]), shift.eq(Cat(shift[1:], 1)), left.eq(left - 1)]
        return m


def _checked(bit_cycles):
    if not isinstance(bit_cycles, int) or bit_cycles < SHORTEST_BIT:
        raise ValueError(f"a bit must last at least {SHORTEST_BIT} cycles, not {bit_cycles!r}")
    return bit_cycles
