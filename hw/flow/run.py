"""A flow from end to end: synthesis, comparison with the device, place and route for each seed."""

import dataclasses
import pathlib
import statistics
import time

from bivit.hw.devices import DEVICES, RESOURCES, Device
from bivit.hw.flow import address_registers, many_loads, output_registers, route, synthesis
from bivit.hw.flow.design import Design
from bivit.hw.flow.store import Store, work_folder
from bivit.hw.flow.synthesis import NETLIST, Cells
from bivit.hw.flow.tools import FlowError, nextpnr, yosys

__all__ = ["netlist_store", "routed_store", "synthesise"]


def synthesise(design: Design, device: str, *, seeds=(1,), place: bool = True,
               progress=None) -> dict:
    """Synthesise a design for a device; place and route it where the device has a nextpnr.

    Every result is kept in the cache: the netlist by Verilog, sizes of memories, commands and
    version of Yosys; a run of nextpnr by the netlist, arguments and version.

    Parameters
    ----------
    design : Design
    device : str
        A name of :data:`bivit.hw.devices.DEVICES`.
    seeds : sequence of int
        One run of place and route each.
    place : bool
        False stops after synthesis.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        ``target``, ``device``, ``title``; ``resources`` (of each: ``unit``, ``used``,
        ``available``, ``share``); ``units`` (of each: resources); ``fits`` and ``too_small`` (None,
        or a sentence); ``yosys`` (version), ``synthesis_seconds``; ``routes``
        (:class:`bivit.hw.flow.route.Routed`, one a seed, with ``words``), and over them
        ``fmax_mhz``, the median, or None without place and route.

    Raises
    ------
    FlowError
        If there is no such device, or a tool is missing or fails.
    """
    if device not in DEVICES:
        raise FlowError(f"there is no device {device!r}; take one of {', '.join(DEVICES)}")
    name, device = device, DEVICES[device]
    place = place and device.route is not None
    tools = [yosys, *([nextpnr(device.route.tool)] if place else [])]
    versions = {tool.name: tool.version for tool in tools}  # before any work: all are there
    steps = _Steps(1 + (len(seeds) if place else 0), progress or (lambda *_: None))

    netlist, result = _netlist(design, device, versions[yosys.name], steps)
    cells = Cells(result["by_unit"])
    needed = cells.resources(device.family)
    too_small = synthesis.too_small(design, device, needed)
    routes = []
    if place and too_small is None:
        for seed in seeds:
            steps.next()
            routes.append(_route(device, netlist, seed, versions, steps))
    return {
        "target": design.name, "device": name, "title": device.title,
        "resources": {kind: {"unit": device.family.units[kind], "used": needed[kind],
                             "available": device.available[kind],
                             "share": needed[kind] / device.available[kind]}
                      for kind in RESOURCES},
        "units": cells.units(device.family), "fits": too_small is None, "too_small": too_small,
        "versions": versions, "synthesis_seconds": result["seconds"], "routes": routes,
        "fmax_mhz": statistics.median(run["fmax_mhz"] for run in routes) if routes else None,
    }


class _Steps:
    """Turns texts of the steps of a flow into progress."""

    def __init__(self, total, progress):
        self.done, self.total, self.progress = 0, total, progress

    def next(self):
        self.done += 1

    def __call__(self, text):
        self.progress(self.done, self.total, text)


def netlist_store(design: Design, device: Device, version: str) -> Store:
    """Where the netlist is kept that a version of Yosys makes of a design."""
    script = [*device.family.library, *synthesis.script(device)]
    return Store("netlist", design, script, device.family.rules, output_registers.KEY, version)


def routed_store(device: Device, netlist: Store, seed: int, versions: dict[str, str]) -> Store:
    """Where the result of one run of place and route is kept."""
    return Store("routed", netlist.key, address_registers.KEY, many_loads.KEY,
                 route.arguments(device, seed),
                 device.route.sites, versions)


def _netlist(design: Design, device: Device, version: str, steps):
    """Entry of the netlist in the cache, and its result."""
    store = netlist_store(design, device, version)
    result = store.read()
    if result is None:
        steps("Yosys")
        start = time.monotonic()
        with work_folder() as folder:
            folder = pathlib.Path(folder)
            design.write(folder)
            cells = synthesis.run(device, folder, steps)
            store.write({"by_unit": cells.by_unit,
                         "seconds": round(time.monotonic() - start, 1)}, folder / NETLIST)
        result = store.read()
    return store, result


def _route(device: Device, netlist: Store, seed: int, versions, steps) -> dict:
    """Result of one run of place and route."""
    store = routed_store(device, netlist, seed, versions)
    result = store.read()
    if result is None:
        steps(f"seed {seed}")
        with work_folder() as folder:
            folder = pathlib.Path(folder)
            netlist.unpack(folder / NETLIST)
            found = route.run(device, seed, folder, steps)
        result = dataclasses.asdict(found)
        result["critical_path"]["words"] = found.critical_path.words
        store.write(result)
    return result
