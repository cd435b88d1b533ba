"""The board of a build in Verilator, behind a pseudo-terminal."""

import os
import pathlib
import subprocess
import tempfile
import tty

from bivit.compiler.build import Build
from bivit.hw.board.contents import write_roms
from bivit.hw.board.protocol import BAUD
from bivit.hw.board.top import board_verilog
from bivit.hw.board.uart import SHORTEST_BIT
from bivit.sim.rtl_build import BOARD, SimulatorError, build_program

__all__ = ["CLOCK_HZ", "SimulatedBoard"]

CLOCK_HZ = SHORTEST_BIT * BAUD
"""What the simulated board takes for its clock: the shortest bits there are."""
PATIENCE = 1 << 22


class SimulatedBoard:
    """A simulated board; its line is a terminal that serial port drivers can open.

    Parameters
    ----------
    build : Build
    progress : callable (done, total, text), optional
        Called while the simulator is built.

    Attributes
    ----------
    port : str
        Name of the terminal, inside a ``with`` statement.

    Raises
    ------
    SimulatorError
        If the simulator cannot be built or run.
    """

    def __init__(self, build: Build, *, progress=None):
        self._build = build
        report = (lambda text, done, total: progress(done, total, text)) if progress else None
        verilog = board_verilog(build.arch, clock_hz=CLOCK_HZ, baud=BAUD, patience=PATIENCE)
        self._program = build_program(verilog, harness=BOARD, progress=report)

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="bivit-board-")
        try:
            write_roms(pathlib.Path(self._folder.name), self._build.arch, self._build.memories)
            terminal, self._other_end = os.openpty()
            tty.setraw(self._other_end)
            self.port = os.ttyname(self._other_end)
            self._process = subprocess.Popen(
                [str(self._program), "--terminal", str(terminal), "--bit", str(SHORTEST_BIT),
                 f"+bivit_folder={self._folder.name}"],
                pass_fds=[terminal], stdout=subprocess.DEVNULL)
            os.close(terminal)
        except OSError as error:
            self._folder.cleanup()
            raise SimulatorError("the simulated board cannot be started: "
                                 f"{error.strerror or error}") from None
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        os.close(self._other_end)
        self._folder.cleanup()
