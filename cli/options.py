"""Options that several commands have."""

from typing import Annotated

import typer

from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.targets import DEFAULT, TARGETS

__all__ = ["Debug", "Json", "Target"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, "
                                                   "on standard output.")]
Target = Annotated[str | None, typer.Option(
    help=f"One of {', '.join(TARGETS | BOARD_TARGETS)}, or a .toml file with parameters of "
         f"hw/arch.py; {DEFAULT} if not given.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
