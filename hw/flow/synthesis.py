"""From Verilog to a device's cells, with Yosys: how many of each, and in which unit."""

import collections
import dataclasses
import json
import pathlib
import re

from bivit.hw.devices import RULES, Device, Family
from bivit.hw.flow import output_registers
from bivit.hw.flow.blocks import JOINED, map_blocks
from bivit.hw.flow.design import CORE, Design
from bivit.hw.flow.tools import FlowError, yosys

__all__ = ["Cells", "NETLIST", "commands", "core_prefix", "count_cells", "map_design", "run",
           "script", "too_small", "top_cells"]

NETLIST = "netlist.json"


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells of a core by unit and kind; what lies between its units is the unit ``""``."""

    by_unit: dict[str, dict[str, int]]

    def resources(self, family: Family) -> dict[str, int]:
        """Resources of all units together."""
        total = collections.Counter()
        for cells in self.by_unit.values():
            total.update(cells)
        return family.count(total)

    def units(self, family: Family) -> dict[str, dict[str, int]]:
        """Resources of each unit."""
        return {unit: family.count(cells) for unit, cells in sorted(self.by_unit.items())}


def script(device: Device) -> list[str]:
    """Commands of Yosys for a design in the working folder, with pins around the core where it is
    to be placed."""
    if device.route is None:
        return commands(device, "design.v", CORE)
    return commands(device, "design.v pins.v", "pins")


def commands(device: Device, files: str, top: str) -> list[str]:
    """Commands of Yosys from files of Verilog to ``netlist.json``.

    Every block is mapped apart from the others, each distinct one once; then all are joined, and
    what nobody reads goes.
    """
    return [f"read_verilog -sv {files}", f"hierarchy -top {top}",
            "setattr -mod -set keep_hierarchy 1 *",
            f"{device.family.synthesis} {device.family.apart} -top {top}", "autoname",
            "setattr -mod -unset keep_hierarchy *", *_joining(device)]


def _joining(device):
    return ["flatten", *device.family.joined, "opt_clean -purge", f"write_json {NETLIST}"]


def run(device: Device, folder: pathlib.Path, progress) -> Cells:
    """Synthesise the design in `folder`, which holds its files; leaves ``netlist.json`` there.

    The netlist is that of :func:`script`, with the blocks that are kept in the cache from there.

    Parameters
    ----------
    progress : callable (text)
    """
    (folder / RULES).write_text(device.family.rules)
    map_blocks(device, folder, CORE if device.route is None else "pins", progress)
    progress("Yosys: joining the blocks")
    yosys.run(["-q", "-p", "; ".join([
        *device.family.library, f"read_rtlil {JOINED}", *_joining(device)])], folder)
    output_registers.rewrite(folder / NETLIST)
    return count_cells(folder / NETLIST, core_prefix(device))


def core_prefix(device: Device) -> str:
    """What the names of the core's cells begin with in a netlist for a device."""
    return "" if device.route is None else f"{CORE}."


def map_design(script: list[str], device: Device, folder: pathlib.Path, progress) -> None:
    """Run commands of Yosys in `folder`; leaves ``netlist.json`` there."""
    def listen(line):
        if match := re.match(r"[\d.]+ Executing (.*?)(?: pass)?(?: \(|\.$)", line):
            progress(f"Yosys: {match[1]}")

    (folder / RULES).write_text(device.family.rules)
    yosys.run(["-p", "; ".join(script)], folder, listen=listen)
    output_registers.rewrite(folder / NETLIST)


def count_cells(path: pathlib.Path, prefix: str) -> Cells:
    """Cells of the top module of a netlist whose names begin with `prefix`."""
    by_unit = collections.defaultdict(collections.Counter)
    for name, kind in top_cells(path, prefix):
        unit, dot, _ = name.partition(".")
        by_unit[unit if dot else ""][kind] += 1
    return Cells({unit: dict(cells) for unit, cells in by_unit.items()})


def top_cells(path: pathlib.Path, prefix: str) -> list[tuple[str, str]]:
    """Name behind `prefix` and kind of those cells of the top module that begin with it."""
    modules = json.loads(path.read_text())["modules"]
    top = next((module for module in modules.values()
                if int(module.get("attributes", {}).get("top", "0"), 2)), None)
    if top is None:
        raise FlowError(f"{path.name} of Yosys has no top module")
    return [(name[len(prefix):], cell["type"]) for name, cell in top["cells"].items()
            if name.startswith(prefix)]


def too_small(design: Design, device: Device, needed: dict[str, int]) -> str | None:
    """A sentence that says what a device has too little of, or None."""
    short = [f"{needed[name]:,} {device.family.units[name]} of {available:,} "
             f"({100 * needed[name] / available:.0f} %)"
             for name, available in device.available.items() if needed[name] > available]
    if not short:
        return None
    return (f"{device.title} is too small for the target {design.name}, which needs "
            f"{' and '.join(short)}; take a larger device, or a target with "
            f"{_advice(needed, device)}")


def _advice(needed, device):
    ways = {"luts": "a smaller array", "registers": "a smaller array",
            "block_ram": "smaller memories", "multipliers": "fewer columns"}
    found = [ways[name] for name, available in device.available.items() if needed[name] > available]
    return " and ".join(dict.fromkeys(found))
