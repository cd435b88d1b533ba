"""Serial ports, through pyserial."""

import serial
import serial.tools.list_ports

from bivit.compiler.ir.errors import UserError

__all__ = ["PortError", "SerialPort", "port_names"]


class PortError(UserError):
    """A serial port that cannot be used; the message is one sentence."""


class SerialPort:
    """An open serial port.

    Parameters
    ----------
    name : str
        ``/dev/ttyUSB0``, ``COM3``, ...
    baud : int

    Raises
    ------
    PortError
    """

    def __init__(self, name: str, baud: int):
        self.name, self.baud = name, baud
        try:
            self._serial = serial.Serial(name, baud, exclusive=True)
        except (serial.SerialException, ValueError, OSError) as error:
            raise PortError(f"the port {name} cannot be opened: {_reason(error)}") from None

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._serial.write(data)
        except (serial.SerialException, OSError) as error:
            raise self._lost(error) from None

    def read(self, seconds: float) -> bytes:
        """What comes in so many seconds, as soon as something comes."""
        try:
            self._serial.timeout = seconds
            first = self._serial.read(1)
            return first + self._serial.read(self._serial.in_waiting) if first else b""
        except (serial.SerialException, OSError) as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _lost(self, error):
        return PortError(f"the port {self.name} does not work any more: {_reason(error)}")


def port_names() -> list[str]:
    """Names of the serial ports of this machine."""
    return sorted(port.device for port in serial.tools.list_ports.comports())


def _reason(error):
    return getattr(error, "strerror", None) or str(error)
