"""A line that goes wrong: bytes flipped, dropped and doubled at random, in both directions."""

import random

__all__ = ["FaultyPort"]


class FaultyPort:
    """A port whose line damages bytes.

    Parameters
    ----------
    port
        Something with ``write(data)`` and ``read(seconds)``, as
        :class:`bivit.host.serial_port.SerialPort`.
    seed : int
        Equal seeds damage equal bytes.
    rate : float
        Share of the bytes to which something happens.

    Attributes
    ----------
    faults : int
        Bytes that were damaged so far.
    """

    def __init__(self, port, *, seed: int, rate: float = 0.002):
        self._port, self._random, self._rate = port, random.Random(seed), rate
        self.name, self.baud, self.faults = port.name, port.baud, 0

    def write(self, data: bytes) -> None:
        """Send `data`, or what is left of it."""
        self._port.write(self._damaged(data))

    def read(self, seconds: float) -> bytes:
        """Bytes that came, or what is left of them."""
        return self._damaged(self._port.read(seconds))

    def _damaged(self, data):
        result = bytearray()
        for byte in data:
            if self._random.random() >= self._rate:
                result.append(byte)
                continue
            self.faults += 1
            fault = self._random.choice(("flip", "drop", "double"))
            if fault == "flip":
                result.append(byte ^ 1 << self._random.randrange(8))
            elif fault == "double":
                result += bytes([byte, byte])
        return bytes(result)
