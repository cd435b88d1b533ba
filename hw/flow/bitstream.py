"""A bitstream for a board: its top, synthesis, place and route, packing."""

import json
import pathlib
import shutil
import time

from bivit.hw.arch import Arch
from bivit.hw.board.identity import network_hash
from bivit.hw.boards import Board
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow.mapped import BoardDesign, board_of, map_board
from bivit.hw.flow.packing import PACKINGS
from bivit.hw.flow.store import work_folder
from bivit.hw.flow.synthesis import NETLIST, Cells, too_small
from bivit.hw.flow.tools import FlowError, nextpnr, yosys
from bivit.hw.memories import memories as memory_sizes
from bivit.hw.memory_resources import block_ram, memory_block_ram

__all__ = ["finish", "make_bitstream"]

REPORT = "report.json"
_DEEP = 256  # words of a memory that does not lie in LUTs


def make_bitstream(arch: Arch, memories: dict[str, list[int]], board: str, output, *,
                   seed: int = 1, progress=None) -> dict:
    """Make the bitstream of a network for a board.

    Parameters
    ----------
    arch : Arch
    memories : dict of str to list of int
        Words of the constant memories by name.
    board : str
        A name of :data:`bivit.hw.boards.BOARDS`.
    output : path
        File to write, without the suffix that the board's bitstreams have.
    seed : int
        Of place and route.
    progress : callable (done, total, text), optional

    Returns
    -------
    dict
        ``file``, ``board``, ``title``, ``device``; ``resources`` (of each: ``unit``, ``used``,
        ``available``); ``units`` (of each unit of the accelerator: resources); ``placed`` (kind of
        site to sites used, and sites there are); ``fmax_mhz``, ``clock_mhz``, ``seed``;
        ``seconds`` of all, and of Yosys alone, now or when the cache was filled
        (``synthesis_seconds``); ``network``, ``versions``.

    Raises
    ------
    FlowError
        If there is no such board, it is too small or too slow, or a tool is missing or fails.
    """
    name, board = board, board_of(board)
    device, say = DEVICES[board.device], progress or (lambda done, total, text="": None)
    packing, design = PACKINGS[device.route.tool], BoardDesign(arch, memories, board)
    versions = {tool.name: tool.version for tool in (yosys, nextpnr(device.route.tool))}
    _check_memories(arch, memories, board, device)
    start = time.monotonic()
    say(0, 3, "Yosys")
    netlist, result = map_board(design, lambda text: say(0, 3, text))
    used = Cells(result["all"]).resources(device.family)
    if reason := too_small(design, device, used) or _too_few(design, device, result["all"]):
        raise FlowError(f"{board.title}: {reason}")
    output = pathlib.Path(f"{output}{packing.suffix}")
    with work_folder() as work:
        work = pathlib.Path(work)
        netlist.unpack(work / NETLIST)
        fmax, placed = finish(board, seed, work, say)
        shutil.copyfile(work / "bitstream", output)
    say(3, 3, "done")
    return {
        "file": output, "board": name, "title": board.title, "device": board.device,
        "resources": {kind: {"unit": device.family.units[kind], "used": used[kind],
                             "available": device.available[kind]} for kind in RESOURCES},
        "units": Cells(result["machine"]).units(device.family), "placed": placed,
        "fmax_mhz": fmax, "clock_mhz": board.pins.clock_hz / 1e6, "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "synthesis_seconds": result["seconds"], "versions": versions,
        "network": f"{network_hash(arch, memories):016x}",
    }


def finish(board: Board, seed: int, work: pathlib.Path, say) -> tuple[float, dict]:
    """Place, route and pack the netlist in `work`; leaves ``bitstream`` there.

    Parameters
    ----------
    board : Board
    seed : int
    work : path
    say : callable (done, total, text)

    Returns
    -------
    float
        The clock rate that is reached, in MHz.
    dict
        Kind of site to sites used, and sites there are.
    """
    device = DEVICES[board.device]
    packing = PACKINGS[device.route.tool]
    (work / "pins").write_text(packing.constraints(board.pins))
    say(1, 3, "place and route")
    fmax, placed = _route(device, packing, board.pins.clock_hz / 1e6, seed, work)
    say(2, 3, "packing")
    packing.tool.run([*device.route.packer, *packing.pack], work)
    return fmax, placed


def _check_memories(arch, memories, board, device):
    """Refuse at once what cannot fit: synthesis would take long to say so."""
    sizes, needed = memory_sizes(arch), 0
    for name, count in memory_block_ram(arch, device.family).items():
        memory, _, kind = name.rpartition("_")
        width, depth = sizes[memory]
        if depth < _DEEP:
            continue
        if kind == "rom" and (words := memories.get(memory)):
            width = _changing(words if len(words) >= depth else [*words, 0])
            count = block_ram(width=width, depth=depth, granularity=width, family=device.family,
                              rom=True)
        needed += count
    if needed > device.block_ram:
        raise FlowError(
            f"{board.title}: {device.title} is too small for the target {arch.name}, whose deep "
            f"memories take {needed:,} {device.family.units['block_ram']} of "
            f"{device.block_ram:,}, {needed - device.block_ram:,} too many; take a target with "
            "smaller memories")


def _too_few(design, device, cells):
    """A sentence that says which cells a device has too few of, or None."""
    for kind, available in device.rare.items():
        needed = sum(unit.get(kind, 0) for unit in cells.values())
        if needed > available:
            return (f"{device.title} is too small for the target {design.name}, which needs "
                    f"{needed:,} {kind} of {available:,} (memories made of LUTs); take a target "
                    "with smaller memories")
    return None


def _changing(words):
    """Bits that are not the same in all words of a ROM: the others are no memory."""
    different = 0
    for word in words:
        different |= word ^ words[0]
    return max(1, different.bit_count())


def _route(device, packing, megahertz, seed, work):
    """Place and route in `work`; the clock rate that is reached, and the sites taken."""
    nextpnr(device.route.tool).run(
        [*device.route.arguments, "--json", NETLIST, "--report", REPORT, "--seed", str(seed),
         "--freq", f"{megahertz:g}", "--timing-allow-fail", *packing.route], work)
    report = json.loads((work / REPORT).read_text())
    fmax = round(min(clock["achieved"] for clock in report["fmax"].values()), 2)
    if fmax < megahertz:
        raise FlowError(f"the design reaches {fmax:g} MHz and the board's clock is {megahertz:g} "
                        "MHz; take another seed, or a target with more pop_stages")
    return fmax, {kind: [count["used"], count["available"]]
                  for kind, count in report["utilization"].items() if count["used"]}
