"""Measure and write ``benchmarks/results/*.json``: all of it, or the parts that are named."""

import argparse
import importlib
import sys
import time

from common import write

PARTS = {
    "accuracy": "top-1 of the shipped network, float, integers and both against each other",
    "agreement": "shares of equal bits and predictions, float networks against their integers",
    "targets": "cycles and utilisation on every target",
    "frames": "224x224 images in RTL: utilisation, cycles, program size",
    "streamed": "cycles with constants from external memory, against the model",
    "engines": "simulated cycles per second of each engine",
    "board": "digits through the UART of the simulated board, lines with faults among them",
    "popcount": "LUTs of a dot-product unit and of the array, by synthesis",
    "resources": "the resource model: coefficients from synthesis, errors on other configurations",
    "estimate": "seconds of an exact estimate against those of a compilation",
    "compiling": "seconds and peak memory of a compilation; lines and modules of the Verilog",
}
"""Part to what it measures."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    for name in parser.parse_args().parts or PARTS:
        print(f"{name}: {PARTS[name]}", file=sys.stderr)
        start = time.perf_counter()
        figures = importlib.import_module(name).measure()
        write(name, figures)
        print(f"  {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
