"""Cells of each block of a design, where every distinct block is mapped once and on its own."""

import collections
import json
import pathlib
import re
import time

from bivit.hw.devices import DEVICES, RULES
from bivit.hw.emit import PREFIX
from bivit.hw.flow.design import CORE, Design
from bivit.hw.flow.store import Store, work_folder
from bivit.hw.flow.synthesis import NETLIST
from bivit.hw.flow.tools import yosys

__all__ = ["block_name", "count_blocks"]


def block_name(module: str) -> str:
    """Name of the block that a module of a netlist is: its class, whatever its parameters."""
    found = re.search(rf"{PREFIX}(\w+?)(?:_\d+)?(?:__.*)?$", module)
    return found[1] if found else module


def count_blocks(design: Design, device: str, names, top: str = CORE) -> dict[str, dict[str, int]]:
    """Resources of the blocks with these names, over all places in which each of them lies.

    What lies in a block belongs to it, as far as it is not in another one of `names`. The sum is
    somewhat more than a design takes as a whole, since nothing is simplified across the borders of
    blocks; but large arrays take no longer than small ones. Results are kept in the cache.

    Parameters
    ----------
    design : Design
    device : str
        A name of :data:`bivit.hw.devices.DEVICES`.
    names : collection of str
    top : str
        Name of the block that the whole design is.

    Returns
    -------
    dict of str to dict of str to int
    """
    family = DEVICES[device].family
    modules = _modules(design, family)
    cells = collections.defaultdict(collections.Counter)

    def add(module, owner, instances):
        name = top if module == CORE else block_name(module)
        owner = name if name in names else owner
        for kind, count in modules[module].items():
            if kind in modules:
                add(kind, owner, instances * count)
            else:
                cells[owner][kind] += instances * count

    add(CORE, top, 1)
    return {name: family.count(found) for name, found in cells.items()}


def _modules(design, family):
    """Kinds of cells and how many there are, of each module."""
    commands = ["read_verilog -sv design.v", f"hierarchy -top {CORE}",
                "setattr -mod -set keep_hierarchy 1 *",
                f"{family.synthesis} {family.apart} -top {CORE}",
                f"write_json {NETLIST}"]
    store = Store("blocks", design, commands, family.rules, yosys.version)
    if (result := store.read()) is None:
        start = time.monotonic()
        with work_folder() as folder:
            folder = pathlib.Path(folder)
            design.write(folder)
            (folder / RULES).write_text(family.rules)
            yosys.run(["-q", "-p", "; ".join(commands)], folder)
            modules = json.loads((folder / NETLIST).read_text())["modules"]
        store.write({"seconds": round(time.monotonic() - start, 1), "modules": {
            name: collections.Counter(cell["type"] for cell in module["cells"].values())
            for name, module in modules.items()
            if not {"blackbox", "whitebox"} & module.get("attributes", {}).keys()}})
        result = store.read()
    return result["modules"]
