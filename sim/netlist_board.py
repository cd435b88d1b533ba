"""The netlist of a board top as a port: bytes go through its pins bit by bit."""

import numpy as np

from bivit.sim.netlist import Netlist

__all__ = ["NetlistPort"]

_FRAME_BITS = 10  # start, 8 data, stop
_CYCLES = 1 << 13
"""Cycles that are simulated at a time."""
_PATIENCE = 1 << 24
"""Cycles without a byte after which nothing is taken to come."""


class NetlistPort:
    """The line of a simulated board, with the methods of
    :class:`bivit.host.serial_port.SerialPort`; time passes only while the host reads.

    Parameters
    ----------
    netlist : str
        JSON of the netlist of a board top.
    clock_hz, baud : int
        Of the board.

    Attributes
    ----------
    cycles : int
        That were simulated so far.
    """

    name = "the netlist"

    def __init__(self, netlist: str, *, clock_hz: int, baud: int):
        self._netlist, self.baud, self.cycles = Netlist(netlist), baud, 0
        self._bit = clock_hz // baud
        self._to_board = np.ones(0, np.uint8)  # samples of the pin
        self._from_board = np.ones(0, np.uint8)

    def write(self, data: bytes) -> None:
        """Put bytes on the line."""
        bits = [bit for byte in data for bit in (0, *(byte >> place & 1 for place in range(8)), 1)]
        self._to_board = np.concatenate(
            [self._to_board, np.repeat(np.array(bits, np.uint8), self._bit)])

    def read(self, seconds: float) -> bytes:
        """The bytes that the board sends next; `seconds` are those of a real line and do not
        count."""
        quiet = 0
        while quiet < _PATIENCE:
            pins, self._to_board = self._to_board[:_CYCLES], self._to_board[_CYCLES:]
            pins = np.concatenate([pins, np.ones(_CYCLES - len(pins), np.uint8)])
            sent = self._netlist.run({"uart_rx": pins})["uart_tx"].astype(np.uint8)
            self.cycles += _CYCLES
            self._from_board = np.concatenate([self._from_board, sent])
            quiet = 0 if len(self._to_board) else quiet + _CYCLES
            if data := self._bytes():
                return data
        return b""

    def _bytes(self):
        """Whole bytes of what the board has sent."""
        found, samples, first = bytearray(), self._from_board, 0
        while True:
            starts = np.flatnonzero(samples[first:] == 0)
            if not len(starts):
                self._from_board = samples[:0]
                return bytes(found)
            begin = first + starts[0]
            if begin + _FRAME_BITS * self._bit > len(samples):
                self._from_board = samples[begin:]
                return bytes(found)
            middles = begin + self._bit // 2 + self._bit * np.arange(1, 9)
            found.append(sum(int(bit) << place for place, bit in enumerate(samples[middles])))
            first = begin + _FRAME_BITS * self._bit - self._bit // 2
