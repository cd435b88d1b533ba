"""Measure and write ``benchmarks/results/*.json``: all of it, or the parts that are named."""

import argparse
import importlib
import sys
import time

from common import RESULTS, read, write

PARTS = {
    "accuracy": "top-1 of the shipped network, float, integers and both against each other",
    "agreement": "shares of equal bits and predictions, float networks against their integers",
    "targets": "cycles and utilisation on every target",
    "frames": "224x224 images in RTL: utilisation, cycles, program size",
    "intervals": "224x224 images in a row, with a stem engine and without: latency and interval",
    "scaling": "cycles against work, and against columns, until something else is the limit",
    "speed": "seconds and peak memory of compilation and simulation of 224x224 images",
    "streamed": "cycles with constants from external memory, against the model",
    "fits": "which targets hold which 224x224 network, and what others lack",
    "engines": "simulated cycles per second of each engine",
    "board": "digits through the UART of the simulated board, lines with faults among them",
    "netlist": "digits through the netlist of a board's bitstream, simulated cell by cell",
    "popcount": "LUTs of a dot-product unit and of the array, by synthesis",
    "density": "binary operations per cycle and thousand LUTs, of arrays and whole accelerators",
    "clock": "clock rate of the array with its edge memories, placed and routed on ECP5-85F",
    "paths": "estimated paths between the units of a target, before place and route",
    "units": "clock rate of each unit alone, placed and routed on ECP5-25F",
    "resources": "the resource model: coefficients from synthesis, errors on other configurations",
    "estimate": "seconds of an exact estimate against those of a compilation",
    "explore": "explored designs: cycles against RTL, designs a minute, found beside hand-written",
    "compiling": "seconds and peak memory of a compilation; lines and modules of the Verilog",
}
"""Part to what it measures."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW",
                        help="of one part, measure these rows alone and keep the others")
    arguments = parser.parse_args()
    if arguments.rows:
        if len(arguments.parts) != 1:
            parser.error("--rows needs the one part whose rows they are")
        _rows(parser, arguments.parts[0], arguments.rows)
        return
    for name in arguments.parts or PARTS:
        print(f"{name}: {PARTS[name]}", file=sys.stderr)
        start = time.perf_counter()
        module = importlib.import_module(name)
        _write(name, module, module.measure())
        print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr)


def _write(name, module, figures):
    """The figures of a part, and what it says of all its rows together."""
    if hasattr(module, "summary"):
        figures["summary"] = module.summary(figures["rows"])
    write(name, figures)


def _rows(parser, name, rows):
    """Measure some rows of a part, each written as soon as it is there."""
    module = importlib.import_module(name)
    known = getattr(module, "ROWS", ())
    if wrong := [row for row in rows if row not in known]:
        parser.error(f"{name} has no row {wrong[0]}; its rows: {', '.join(known) or 'none'}")
    for row in rows:
        start = time.perf_counter()
        figures = module.measure([row])
        found = read(name)["rows"] if (RESULTS / f"{name}.json").exists() else {}
        found |= figures["rows"]
        figures["rows"] = {row: found[row] for row in known if row in found}
        _write(name, module, figures)
        print(f"{name} {row}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
