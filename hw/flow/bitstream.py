"""A bitstream for a board: its top, synthesis, place and route, packing."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time

from bivit.hw.arch import Arch
from bivit.hw.board.contents import write_roms
from bivit.hw.board.identity import network_hash
from bivit.hw.board.protocol import BAUD, TOP
from bivit.hw.board.top import board_verilog
from bivit.hw.boards import BOARDS, Board
from bivit.hw.devices import DEVICES, RESOURCES
from bivit.hw.flow import output_registers
from bivit.hw.flow.packing import PACKINGS
from bivit.hw.flow.store import Store, work_folder
from bivit.hw.flow.synthesis import NETLIST, count_cells, too_small
from bivit.hw.flow.tools import FlowError, nextpnr, yosys
from bivit.hw.memories import memories as memory_sizes
from bivit.hw.memory_resources import memory_block_ram

__all__ = ["make_bitstream"]

REPORT = "report.json"
_DEEP = 256  # words of a memory that does not lie in LUTs


@dataclasses.dataclass(frozen=True)
class _BoardDesign:
    """The top of a network for a board."""

    arch: Arch
    memories: dict[str, list[int]]
    board: Board

    @property
    def name(self):
        return self.arch.name

    def write(self, folder):
        (folder / "design.v").write_text(
            board_verilog(self.arch, clock_hz=self.board.pins.clock_hz, baud=BAUD))
        if self.arch.weights == "rom":
            write_roms(folder, self.arch, self.memories)


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
        ``file``, ``board``, ``device``, ``resources`` (used and available), ``fmax_mhz``,
        ``clock_mhz``, ``seconds``, ``network``, ``versions``.

    Raises
    ------
    FlowError
        If there is no such board, it is too small or too slow, or a tool is missing or fails.
    """
    if board not in BOARDS:
        raise FlowError(f"there is no board {board!r}; take one of {', '.join(BOARDS)}")
    name, board = board, BOARDS[board]
    device, say = DEVICES[board.device], progress or (lambda done, total, text="": None)
    packing, design = PACKINGS[device.route.tool], _BoardDesign(arch, memories, board)
    versions = {tool.name: tool.version for tool in (yosys, nextpnr(device.route.tool))}
    _check_memories(arch, board, device)
    start = time.monotonic()
    say(0, 3, "Yosys")
    netlist, result = _netlist(design, device, versions)
    if reason := too_small(design, device, result["used"]):
        raise FlowError(f"{board.title}: {reason}")
    output = pathlib.Path(f"{output}{packing.suffix}")
    with work_folder() as work:
        work = pathlib.Path(work)
        netlist.unpack(work / NETLIST)
        (work / "pins").write_text(packing.constraints(board.pins))
        say(1, 3, "place and route")
        fmax = _route(device, packing, board.pins.clock_hz / 1e6, seed, work)
        say(2, 3, "packing")
        packing.tool.run([*packing.pack], work)
        shutil.copyfile(work / "bitstream", output)
    say(3, 3, "done")
    return {
        "file": output, "board": name, "title": board.title, "device": board.device,
        "resources": {kind: {"unit": device.family.units[kind], "used": result["used"][kind],
                             "available": device.available[kind]} for kind in RESOURCES},
        "fmax_mhz": fmax, "clock_mhz": board.pins.clock_hz / 1e6, "seed": seed,
        "seconds": round(time.monotonic() - start, 1), "versions": versions,
        "network": f"{network_hash(arch, memories):016x}",
    }


def _check_memories(arch, board, device):
    """Refuse at once what cannot fit: synthesis would take long to say so."""
    sizes = memory_sizes(arch)
    needed = sum(count for name, count in memory_block_ram(arch, device.family).items()
                 if sizes[name.rpartition("_")[0]].depth >= _DEEP)
    if needed > device.block_ram:
        raise FlowError(
            f"{board.title}: {device.title} is too small for the target {arch.name}, whose deep "
            f"memories take {needed:,} {device.family.units['block_ram']} of "
            f"{device.block_ram:,}, {needed - device.block_ram:,} too many; take a target with "
            "smaller memories")


def _netlist(design, device, versions):
    """Entry of the netlist in the cache, and what it uses."""
    script = ["read_verilog -sv design.v", f"{device.family.synthesis} -top {TOP}",
              f"write_json {NETLIST}"]
    with work_folder() as work:
        work = pathlib.Path(work)
        design.write(work)
        files = {str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
                 for path in sorted(work.rglob("*")) if path.is_file()}
        store = Store("board", files, script, output_registers.KEY, versions[yosys.name])
        if store.read() is None:
            yosys.run(["-q", "-p", "; ".join(script)], work)
            output_registers.rewrite(work / NETLIST)
            used = count_cells(work / NETLIST, "").resources(device.family)
            store.write({"used": used}, work / NETLIST)
    return store, store.read()


def _route(device, packing, megahertz, seed, work):
    """Place and route in `work`; the clock rate that is reached."""
    nextpnr(device.route.tool).run(
        [*device.route.arguments, "--json", NETLIST, "--report", REPORT, "--seed", str(seed),
         "--freq", f"{megahertz:g}", "--timing-allow-fail", *packing.route], work)
    report = json.loads((work / REPORT).read_text())
    fmax = round(min(clock["achieved"] for clock in report["fmax"].values()), 2)
    if fmax < megahertz:
        raise FlowError(f"the design reaches {fmax:g} MHz and the board's clock is {megahertz:g} "
                        "MHz; take another seed, or a target with more pop_stages")
    return fmax
