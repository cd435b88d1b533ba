"""The top of a network for a board, mapped to cells."""

import dataclasses
import hashlib
import pathlib
import time

from bivit.hw.arch import Arch
from bivit.hw.board.contents import write_roms
from bivit.hw.board.protocol import BAUD, TOP
from bivit.hw.board.top import board_verilog
from bivit.hw.boards import BOARDS, Board
from bivit.hw.devices import DEVICES
from bivit.hw.flow import output_registers, synthesis
from bivit.hw.flow.store import Store, work_folder
from bivit.hw.flow.synthesis import NETLIST, count_cells
from bivit.hw.flow.tools import FlowError, yosys

__all__ = ["BoardDesign", "board_netlist", "board_of", "map_board"]

MACHINE = "board_1.machine."
"""How names of the accelerator's cells begin."""


@dataclasses.dataclass(frozen=True)
class BoardDesign:
    """The top of a network for a board."""

    arch: Arch
    memories: dict[str, list[int]]
    board: Board

    @property
    def name(self):
        """Of the target."""
        return self.arch.name

    def write(self, folder: pathlib.Path) -> None:
        """Write ``design.v`` and the contents of its memories."""
        (folder / "design.v").write_text(
            board_verilog(self.arch, clock_hz=self.board.pins.clock_hz, baud=BAUD))
        if self.arch.weights == "rom":
            write_roms(folder, self.arch, self.memories)


def board_of(name: str) -> Board:
    """The board of a name."""
    if name not in BOARDS:
        raise FlowError(f"there is no board {name!r}; take one of {', '.join(BOARDS)}")
    return BOARDS[name]


def map_board(design: BoardDesign, progress) -> tuple[Store, dict]:
    """Map a design, or take it from the cache.

    Parameters
    ----------
    progress : callable (text)

    Returns
    -------
    Store
        With the netlist.
    dict
        ``all`` and ``machine``, cells by unit of the top and of the accelerator; ``seconds``.
    """
    device, version = DEVICES[design.board.device], yosys.version
    script = synthesis.commands(device, "design.v", TOP)
    with work_folder() as work:
        work = pathlib.Path(work)
        design.write(work)
        files = {str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
                 for path in sorted(work.rglob("*")) if path.is_file()}
        store = Store("board", files, script, device.family.rules, output_registers.KEY, version)
        if store.read() is None:
            start = time.monotonic()
            synthesis.map_design(script, device, work, progress)
            store.write({"all": count_cells(work / NETLIST, "").by_unit,
                         "machine": count_cells(work / NETLIST, MACHINE).by_unit,
                         "seconds": round(time.monotonic() - start, 1)}, work / NETLIST)
    return store, store.read()


def board_netlist(arch: Arch, memories: dict[str, list[int]], board: str, progress) -> str:
    """JSON of the netlist that the bitstream is made of; for what `arch`, `memories` and `board`
    are see :func:`bivit.hw.flow.bitstream.make_bitstream`.

    Parameters
    ----------
    progress : callable (text)

    Raises
    ------
    FlowError
        If there is no such board, or a tool is missing or fails.
    """
    store, _ = map_board(BoardDesign(arch, memories, board_of(board)), progress)
    with work_folder() as work:
        store.unpack(pathlib.Path(work) / NETLIST)
        return (pathlib.Path(work) / NETLIST).read_text()
