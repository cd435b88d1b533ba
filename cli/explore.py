"""The command ``bivit explore``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bivit.cli.options import Debug, Json
from bivit.cli.output import execute
from bivit.cli.show import facts, make_table, percent
from bivit.hw.devices import DEVICES

__all__ = ["explore"]


def explore(
    space: Annotated[Path | None, typer.Argument(
        metavar="SPACE.toml", help="Space of designs; without it, --network and --device.")] = None,
    output: Annotated[Path, typer.Option(
        "-o", "--output", help="Folder of the results; a run that was stopped goes on there.")]
    = Path("build/explore"),
    network: Annotated[str | None, typer.Option(
        help="Look for the cheapest design for this network (bivit models lists them), digits, or "
             "a checkpoint.")] = None,
    device: Annotated[str | None, typer.Option(help=f"One of {', '.join(DEVICES)}.")] = None,
    memory: Annotated[str | None, typer.Option(
        help="Stream the weights from external memory: 16bit, 32bit, 64bit or 128bit.")] = None,
    batch: Annotated[int | None, typer.Option(
        help="Images that share a load of weights; 1 if not given.")] = None,
    clock: Annotated[float | None, typer.Option(help="MHz; 100 if not given.")] = None,
    fps: Annotated[float | None, typer.Option(help="Images a second, at least.")] = None,
    latency: Annotated[float | None, typer.Option(help="Milliseconds of an image, at most.")]
    = None,
    accuracy: Annotated[float | None, typer.Option(help="Top-1 from 0 to 1, at least.")] = None,
    designs: Annotated[int | None, typer.Option(
        min=1, help="How many designs a goal looks at; 96 if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the search for a goal.")] = None,
    workers: Annotated[int | None, typer.Option(
        min=0, help="Processes; all cores if not given, 0: this one alone.")] = None,
    scheduler: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Dask scheduler whose workers are taken instead.")] = None,
    storage: Annotated[str | None, typer.Option(
        metavar="URL", help="Storage of Optuna; explore.db in the folder if not given.")] = None,
    confirm: Annotated[int, typer.Option(
        min=0, help="Build so many designs of the front, run them in RTL, synthesise them.")] = 0,
    as_json: Json = False, debug: Debug = False,
):
    """Search a space of hardware and networks, or the cheapest design that reaches a goal."""

    def action(progress):
        from bivit.compiler.ir.errors import UserError

        options = {"network": network, "device": device, "memory": memory, "batch": batch,
                   "clock": clock,
                   "fps": fps, "latency_ms": latency, "accuracy": accuracy, "designs": designs,
                   "seed": seed}
        options = {name: value for name, value in options.items() if value is not None}
        if space is not None and options:
            raise UserError(f"--{next(iter(options)).split('_')[0]} is for a goal; put it into "
                            f"{space}, or leave out the file")
        if space is None and not {"network", "device"} <= options.keys():
            raise UserError("there is nothing to explore; name a SPACE.toml, or --network and "
                            "--device")
        from bivit.explore.command import run
        from bivit.explore.goal import Goal

        return run(output, file=space, goal=None if space else Goal(**options),
                   workers=os.cpu_count() if workers is None else workers, scheduler=scheduler,
                   storage=storage, confirm=confirm, progress=progress)

    execute(action, show, as_json=as_json, debug=debug,
            passed=lambda result: result["verdict"] is None
            and all(one["passed"] for one in result["confirmed"]))


_FIGURES = {"luts": "LUTs", "block_ram": "block RAM", "array_luts": "LUTs of the array",
            "memory_block_ram": "block RAM of memories"}


def show(result, console):
    """The front, what was confirmed, the files."""
    if result["verdict"]:
        console.print(result["verdict"])
    else:
        console.print(_front(result))
        if missing := result["front"][0]["not_modelled"]:
            console.print(f"LUTs are those of the array alone: {missing}.")
    if result["confirmed"]:
        console.print(_confirmed(result))
        for one in result["confirmed"]:
            if one["too_small"]:
                console.print(f"Design {one['number']}: {one['too_small']}.")
    facts({
        "designs": f"{result['designs']:,} ({result['done']:,} done, {result['refused']:,} "
                   "refused)",
        **result["files"]}, console)


def _front(result):
    found = make_table("Pareto front: " + ", ".join(result["objectives"]), "design", "array",
                       "device ", "cycles", "fps", "use", "bound ", "LUTs", "RAMs", "share",
                       "top-1")
    for record in result["front"]:
        target, known = record["target"], record["luts"] is not None
        found.add_row(
            str(record["number"]), "x".join(str(target[k]) for k in ("rows", "cols", "lanes")),
            record["design"]["device"], f"{record['cycles']:,}", f"{record['fps']:,.0f}",
            percent(record["utilization"]), record["bound"],
            _number(record["luts" if known else "array_luts"]),
            _number(record["block_ram" if known else "memory_block_ram"]),
            percent(record["device_share"]), percent(record["accuracy"]))
    return found


def _confirmed(result):
    found = make_table("Predicted and measured", "design", "figure ", "predicted", "measured",
                       "error")
    for one in result["confirmed"]:
        for figure in one["figures"]:
            predicted, measured = figure["predicted"], figure["measured"]
            known = predicted is not None and measured is not None
            error = f"{100 * (predicted / measured - 1):+.1f} %" if known and measured else ""
            found.add_row(str(one["number"]), _FIGURES.get(figure["name"], figure["name"]),
                          "not fitted" if predicted is None else f"{predicted:,}",
                          _number(measured), error)
    return found


def _number(value):
    return "?" if value is None else f"{value:,}"

