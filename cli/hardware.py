"""The commands that end in gates: ``bivit bitstream``, ``bivit run`` and ``bivit synth``."""

from pathlib import Path
from typing import Annotated

import typer

from bivit.cli.options import Debug, Json
from bivit.cli.output import execute
from bivit.hw.boards import BOARDS
from bivit.hw.devices import DEVICES

__all__ = ["bitstream", "run", "synth"]


def bitstream(
    folder: Annotated[Path, typer.Argument(help="Build folder.")],
    board: Annotated[str, typer.Option(help=f"One of {', '.join(BOARDS)}.")],
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", help="File to write, .bit, .bin or .fs as the board takes it; beside the "
                               "build folder if not given.")] = None,
    seed: Annotated[int, typer.Option(min=1, help="Of place and route.")] = 1,
    as_json: Json = False, debug: Debug = False,
):
    """Make the bitstream of a build for a board, with tools from the package index alone."""
    from bivit.cli import show

    def action(progress):
        from bivit.compiler.build import load_build
        from bivit.hw.flow.bitstream import make_bitstream

        build = load_build(folder)
        build.check_single()
        return make_bitstream(
            build.arch, build.memories, board, seed=seed, progress=progress,
            output=f"{folder.resolve()}-{board}" if output is None else output.with_suffix(""))

    execute(action, show.bitstream, as_json=as_json, debug=debug)


def run(
    folder: Annotated[Path, typer.Argument(help="Build folder.")],
    port: Annotated[str | None, typer.Option(
        help="Serial port of the board; all ports are searched if not given.")] = None,
    simulated: Annotated[bool, typer.Option(
        "--sim", help="Simulate the whole board in Verilator, behind a pseudo-terminal.")] = False,
    netlist: Annotated[str | None, typer.Option(
        metavar="BOARD", help="Simulate the netlist of the bitstream for this board, cell by cell "
                              "(ECP5, GW5A; minutes an image).")] = None,
    images: Annotated[int | None, typer.Option(
        min=1, help="How many images; if not given, 20 held-out digits or all of --input.")]
    = None,
    input_file: Annotated[Path | None, typer.Option(
        "--input", help="Images to take instead: .npy, uint8, (count, channels, height, width).")]
    = None,
    baud: Annotated[int | None, typer.Option(
        min=1, help="Bits per second of the line; 1,000,000 if not given.")] = None,
    faults: Annotated[int | None, typer.Option(
        min=0, metavar="SEED", help="Flip, drop and double bytes on the line at random, from this "
                                    "seed.")] = None,
    check: Annotated[bool, typer.Option(
        help="Compare the logits with the PyTorch integer model.")] = True,
    as_json: Json = False, debug: Debug = False,
):
    """Classify images with a board that holds the network of a build folder."""
    from bivit.cli import show

    def action(progress):
        from bivit.compiler.ir.errors import UserError
        from bivit.host.run import run_build
        from bivit.hw.board.protocol import BAUD

        if simulated and (port is not None or baud is not None):
            raise UserError("--sim brings its own port and speed: leave out --port and --baud")
        if netlist is not None and (simulated or {port, faults, baud} != {None}):
            raise UserError("--netlist brings its own line: leave out --sim, --port, --faults and "
                            "--baud")
        count = 20 if images is None and input_file is None else images
        return run_build(folder, port=port, simulated=simulated, netlist=netlist, faults=faults,
                         baud=BAUD if baud is None else baud, count=count,
                         input_file=input_file, check=check, progress=progress)

    execute(action, show.run, as_json=as_json, debug=debug,
            passed=lambda result: not result["mismatches"] and not result["refused"])


def synth(
    folder: Annotated[Path, typer.Argument(help="Build folder.")],
    device: Annotated[str, typer.Option(
        help=f"One of {', '.join(DEVICES)}. Those of AMD: synthesis only.")],
    seed: Annotated[int, typer.Option(min=0, help="First seed of place and route.")] = 1,
    seeds: Annotated[int, typer.Option(
        min=1, help="How many seeds; the median of the clock rates is given.")] = 1,
    place: Annotated[bool, typer.Option(help="Place and route after synthesis.")] = True,
    vivado: Annotated[Path | None, typer.Option(
        help="Folder to write for Vivado: the sources, a script that implements them, one that "
             "packages them as IP; zynq-7020 and k26 only.")] = None,
    as_json: Json = False, debug: Debug = False,
):
    """Synthesise a build for a device with Yosys, place and route it with nextpnr."""
    from bivit.cli import show

    def action(progress):
        from bivit.compiler import load_build
        from bivit.hw.flow import accelerator_design, synthesise, write_vivado

        build = load_build(folder)
        design = accelerator_design(build.arch, (folder / "accelerator.v").read_text())
        if vivado is not None:
            write_vivado(folder, design, device, vivado)
        return synthesise(design, device, seeds=range(seed, seed + seeds), place=place,
                          progress=progress) | {"vivado": vivado}

    execute(action, show.synth, as_json=as_json, debug=debug,
            passed=lambda result: result["fits"])
