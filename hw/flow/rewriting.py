"""Netlists of Yosys, changed before the next tool reads them."""

import json
import pathlib
from collections.abc import Callable

__all__ = ["rewrite_top"]


def rewrite_top(path: pathlib.Path, cell: str, change: Callable[[dict], int]) -> None:
    """Change the top module of a netlist that has cells of a type.

    Parameters
    ----------
    path : Path
        The netlist, as JSON.
    cell : str
        The type without which there is nothing to change.
    change : callable (module) -> int
        Changes a module; returns how much it changed.
    """
    text = path.read_text()
    if f'"{cell}"' not in text:
        return
    netlist = json.loads(text)
    changed = [change(module) for module in netlist["modules"].values()
               if int(module.get("attributes", {}).get("top", "0"), 2)]
    if any(changed):
        path.write_text(json.dumps(netlist))
