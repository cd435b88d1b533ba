"""Resources of the blocks of a synthesised design: of each kind, over all places where it lies."""

import collections
import pathlib
import re

from bivit.hw.devices import DEVICES
from bivit.hw.emit import PREFIX
from bivit.hw.flow.design import CORE, Design
from bivit.hw.flow.run import netlist_store, synthesise
from bivit.hw.flow.store import Store, work_folder
from bivit.hw.flow.synthesis import NETLIST, core_prefix, top_cells
from bivit.hw.flow.tools import yosys

__all__ = ["count_blocks"]

_NUMBERS = re.compile(r"(?:_(?:generic|plain|ecp5|nexus|lut6\w*))?(?:_\d+)*$")
"""What tells modules of a kind from each other."""
_MODULE = re.compile(r"(?m)^module (\w+)(?:.*\n)*?endmodule$")
_INSTANCE = re.compile(rf"(?m)^  ({PREFIX}\w+) (?:#\((?:.*\n)*?  \) )?(\w+|\\\S+ ) \(")


def count_blocks(design: Design, device: str) -> dict[str, dict[str, int]]:
    """Resources of all blocks of each kind in a synthesised design, without the blocks in them.

    Parameters
    ----------
    design : Design
    device : str
        A name of :data:`bivit.hw.devices.DEVICES`.

    Returns
    -------
    dict of str to dict of str to int
        By class, whatever its parameters, as it is called in Verilog without ``bivit_``; what lies
        around the units is ``accelerator``.
    """
    synthesise(design, device, place=False)
    device = DEVICES[device]
    netlist = netlist_store(design, device, yosys.version)
    store = Store("by-block", netlist.key)
    if (result := store.read()) is None:
        with work_folder() as folder:
            path = pathlib.Path(folder) / NETLIST
            netlist.unpack(path)
            cells = top_cells(path, core_prefix(device))
        kinds = _kinds(design.verilog)
        found = collections.defaultdict(collections.Counter)
        for name, cell in cells:
            path = tuple(name.split("."))
            while path not in kinds:
                path = path[:-1]
            found[kinds[path]][cell] += 1
        store.write(found)
        result = store.read()
    return {kind: device.family.count(cells) for kind, cells in result.items()}


def _kinds(verilog):
    """Path of each instance of a block to the kind of block that it is."""
    inside = {module[1]: [(instance[1], instance[2].strip("\\ "))
                          for instance in _INSTANCE.finditer(module[0])]
              for module in _MODULE.finditer(verilog)}
    kinds = {}

    def add(module, path):
        kinds[path] = _NUMBERS.sub("", module.removeprefix(PREFIX))
        for inner, name in inside[module]:
            add(inner, (*path, name))

    add(CORE, ())
    return kinds
