"""The boards that bitstreams are made for: device, clock and line of each, constraints for nextpnr.

Pins come from amaranth-boards where it has the board.
"""

import dataclasses
import importlib

from bivit.compiler.ir.errors import UserError

__all__ = ["BOARDS", "Board", "BoardError", "Pin", "Pins"]


class BoardError(UserError):
    """A board that cannot be used; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Pin:
    """A pin and its electrical attributes, in the words of its device's family."""

    site: str
    attributes: dict[str, object]


@dataclasses.dataclass(frozen=True)
class Pins:
    """Where the ports of a board top go.

    Parameters
    ----------
    clk, uart_rx, uart_tx : Pin
        Seen from the device.
    clock_hz : int
        Of the oscillator on `clk`.
    """

    clk: Pin
    uart_rx: Pin
    uart_tx: Pin
    clock_hz: int

    @property
    def ports(self) -> dict[str, Pin]:
        """Port of the top to its pin."""
        return {name: getattr(self, name) for name in ("clk", "uart_rx", "uart_tx")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Parameters
    ----------
    title : str
        For people.
    device : str
        A name of :data:`bivit.hw.devices.DEVICES`.
    definition : tuple of str, optional
        Module and class of amaranth-boards.
    own : Pins, optional
        Pins of a board that amaranth-boards lacks.
    """

    title: str
    device: str
    definition: tuple[str, str] | None = None
    own: Pins | None = None

    @property
    def pins(self) -> Pins:
        """Clock and line.

        Raises
        ------
        BoardError
            If amaranth-boards is needed and not installed.
        """
        if self.own is not None:
            return self.own
        module, name = self.definition
        try:
            platform = getattr(importlib.import_module(f"amaranth_boards.{module}"), name)
        except ModuleNotFoundError:
            raise BoardError(f"the pins of the {self.title} are in amaranth-boards, which is not "
                             "installed: pip install 'bivit[synth]'") from None
        resources = {(item.name, item.number): item for item in platform.resources}
        clock, uart = resources[platform.default_clk, 0], resources["uart", 0]
        lines = {line.name: line.ios[0].names[0] for line in uart.ios}
        return Pins(clk=Pin(clock.ios[0].names[0], dict(clock.attrs)),
                    uart_rx=Pin(lines["rx"], dict(uart.attrs)),
                    uart_tx=Pin(lines["tx"], dict(uart.attrs)),
                    clock_hz=round(clock.clock.frequency))


_33_VOLT = {"IO_TYPE": "LVCMOS33"}

BOARDS = {
    "ulx3s-85f": Board(title="Radiona ULX3S-85F", device="ecp5-85f",
                       definition=("ulx3s", "ULX3S_85F_Platform")),
    "colorlight-i5": Board(title="Colorlight i5 on its extension board", device="ecp5-25f",
                           own=Pins(clk=Pin("P3", _33_VOLT), uart_rx=Pin("H18", _33_VOLT),
                                    uart_tx=Pin("J17", _33_VOLT), clock_hz=25_000_000)),
    "icebreaker": Board(title="1BitSquared iCEBreaker", device="up5k",
                        definition=("icebreaker", "ICEBreakerPlatform")),
    "tang-primer-20k": Board(title="Sipeed Tang Primer 20K", device="gw2a-18",
                             definition=("tang_primer_20k", "TangPrimer20kPlatform")),
    "tang-mega-138k": Board(title="Sipeed Tang Mega 138K Pro Dock", device="gw5ast-138",
                            definition=("tang_mega_138k_pro_dock", "TangMega138kProDockPlatform")),
}
"""Board name to board."""
