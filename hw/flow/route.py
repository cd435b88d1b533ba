"""Place and route with nextpnr: clock rate, and the critical path in words."""

import dataclasses
import json
import pathlib
import re
import resource
import time

from bivit.hw.devices import Device
from bivit.hw.flow import address_registers, many_loads
from bivit.hw.flow.design import CORE
from bivit.hw.flow.synthesis import NETLIST
from bivit.hw.flow.tools import nextpnr

__all__ = ["CriticalPath", "Routed", "arguments", "critical_path", "run"]

REPORT = "report.json"
SITES = "sites"
LOCATIONS = {
    "nexus": (("--pdc", SITES), "ldc_set_location -site {{{site}}} [get_ports {port}]\n"),
    "himbaechel-gowin": (("--vopt", f"cst={SITES}"), 'IO_LOC "{port}" {site};\n'),
}
"""Kind of nextpnr that finds no pins itself: how it is told of the file, and a line for a port."""
STAGES = {"Info: Packing": "packing", "Info: Creating initial": "placing",
          "Info: Routing": "routing", "Info: Setting up routing": "routing"}
"""How lines begin that tell of a stage."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The longest way from a register to a register.

    Parameters
    ----------
    source, sink : str
        The cells, with the blocks that they are in.
    nanoseconds, logic, routing : float
        The whole, and its two parts.
    hops : int
        Wires between cells.
    longest : str
        The slowest wire.
    longest_nanoseconds : float
    """

    source: str
    sink: str
    nanoseconds: float
    logic: float
    routing: float
    hops: int
    longest: str
    longest_nanoseconds: float

    @property
    def words(self) -> str:
        """The path as a sentence."""
        return (f"from {self.source} to {self.sink}: {self.nanoseconds:.2f} ns, of it "
                f"{self.logic:.2f} in cells and {self.routing:.2f} on {self.hops} wires, the "
                f"slowest ({self.longest_nanoseconds:.2f} ns) {self.longest}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routed:
    """What a run of place and route gave.

    Parameters
    ----------
    seed : int
    fmax_mhz : float
    seconds, processor_seconds : float
        Of the run: on the clock, and of the processor.
    placed : dict of str to list of int
        Kind of site to sites used, and sites there are.
    critical_path : CriticalPath
    """

    seed: int
    fmax_mhz: float
    seconds: float
    processor_seconds: float
    placed: dict[str, list[int]]
    critical_path: CriticalPath


def arguments(device: Device, seed: int) -> list[str]:
    """Arguments of nextpnr for a netlist in the working folder."""
    return [*device.route.arguments, "--json", NETLIST, "--report", REPORT, "--seed", str(seed),
            "--freq", str(device.route.megahertz), "--timing-allow-fail",
            *(LOCATIONS[device.route.tool][0] if device.route.sites else ())]


def run(device: Device, seed: int, folder: pathlib.Path, progress) -> Routed:
    """Place and route ``netlist.json`` in `folder`, with registers before block RAM copied, and
    what has many loads.

    Parameters
    ----------
    progress : callable (text)
    """
    def listen(line):
        for beginning, stage in STAGES.items():
            if line.startswith(beginning):
                progress(f"seed {seed}: {stage}")

    if device.route.sites:
        (folder / SITES).write_text(_sites(device, folder / NETLIST))
    address_registers.rewrite(folder / NETLIST)
    many_loads.rewrite(folder / NETLIST)
    start, spent = time.monotonic(), _processor_seconds()
    nextpnr(device.route.tool).run(arguments(device, seed), folder, listen=listen)
    seconds = time.monotonic() - start
    report = json.loads((folder / REPORT).read_text())
    return Routed(
        seed=seed, seconds=round(seconds, 1),
        processor_seconds=round(_processor_seconds() - spent, 1),
        fmax_mhz=round(min(clock["achieved"] for clock in report["fmax"].values()), 2),
        placed={kind: [count["used"], count["available"]]
                for kind, count in report["utilization"].items() if count["used"]},
        critical_path=critical_path(report["critical_paths"]))


def _processor_seconds():
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _sites(device: Device, netlist: pathlib.Path) -> str:
    """A pin of the package for each port, as far as there are pins."""
    ports = next(module["ports"] for module in json.loads(netlist.read_text())["modules"].values()
                 if "top" in module["attributes"])
    _, line = LOCATIONS[device.route.tool]
    return "".join(line.format(port=port, site=site)
                   for port, site in zip(ports, device.route.sites, strict=False))


def critical_path(paths: list[dict]) -> CriticalPath:
    """The slowest path of a report that begins and ends at the clock."""
    inside = [path["path"] for path in paths
              if path["from"] == path["to"] and path["from"] != "<async>"]
    steps = max(inside, key=lambda path: sum(step["delay"] for step in path))
    wires = [step for step in steps if step["type"] == "routing"]
    whole, routing = (sum(step["delay"] for step in group) for group in (steps, wires))
    longest = max(wires, key=lambda step: step["delay"])
    return CriticalPath(
        source=_place(steps[0]["from"]["cell"]), sink=_place(steps[-1]["to"]["cell"]),
        nanoseconds=round(whole, 3), logic=round(whole - routing, 3), routing=round(routing, 3),
        hops=len(wires), longest=_place(longest.get("net", longest["from"]["cell"])),
        longest_nanoseconds=round(longest["delay"], 3))


def _place(name):
    """A cell's or net's name without what the tools append to it."""
    name = name.removeprefix(f"{CORE}.")
    name = re.sub(r"_(TRELLIS|CCU2|LUT|PFUMX|L6MUX|MULT|DP16|PDP|SB|FD1P3|DFF|ALU|MUX2|SDP|DP)"
                  r"[A-Z0-9]*(_|$).*", "", name)
    return re.sub(r"\$.*", "", name) or name
