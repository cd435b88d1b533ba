"""Put the figures of ``benchmarks/results/*.json`` and the demo's output into the documents.

A section between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is replaced; nothing else is.
"""

import json
import pathlib
import subprocess
import sys

from common import RESULTS

ROOT = pathlib.Path(__file__).parents[1]


def _read(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def _demo():
    """The output of the demo, run now; the rows of the middle blocks are left out."""
    command = [sys.executable, "-m", "bivit.cli", "demo"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    lines = []
    for line in map(str.rstrip, text.strip("\n").splitlines()):
        middle = line.startswith((" blocks.1.", " blocks.2."))
        lines += [] if middle and lines[-1] == " ..." else [" ..." if middle else line]
    return "\n".join(["```", *lines, "```"])


def _bench():
    accuracy, targets = _read("accuracy"), _read("targets")
    engines, compiling = _read("engines"), _read("compiling")
    machine, speed = engines["machine"], engines["cycles_per_second"]
    lines = [
        f"Digits network, {accuracy['images']} held-out images: "
        f"{100 * accuracy['integer_top1']:.2f} % top-1 in integers and so in RTL, "
        f"{100 * accuracy['float_top1']:.2f} % in float; {accuracy['top1_differing']} predictions "
        "differ.",
        "",
        "| target | array | binary MACs/cycle | cycles per image | utilisation "
        "| compile s (peak MiB) | Verilog lines (modules) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in targets["targets"].items():
        built = compiling["targets"][name]
        lines.append(
            f"| {name}{' (default)' if name == targets['default'] else ''} | {row['array']} "
            f"| {row['macs_per_cycle']:,} | {row['cycles_per_image']:,} "
            f"| {100 * row['utilization']:.1f} % | {built['seconds']} ({built['peak_mebibytes']}) "
            f"| {built['verilog_lines']:,} ({built['verilog_modules']}) |")
    equal = [name for name, row in targets["targets"].items()
             if row["rtl_cycles_per_image"] == row["cycles_per_image"] and row["mismatches"] == 0]
    lines += [
        "",
        f"Cycles are those of the cycle model. On {', '.join(equal)} the RTL took exactly as many, "
        "with every bit equal to PyTorch.",
        "",
        f"Simulated cycles per second on {engines['target']} ({machine['processor']}, "
        f"{machine['cores']} cores): RTL in Verilator {speed['rtl']:,.0f}, instruction-set "
        f"simulator {speed['iss']:,.0f} ({engines['iss_over_rtl']:.0f} times the RTL), cycle model "
        f"{speed['cycle model']:,.0f}.",
    ]
    return "\n".join(lines)


KINDS = ("into attention", "queries, keys, values", "attention", "context", "into MLP",
         "inside MLP", "merging, head")
"""Columns of the tables of agreement, as ``agreement.json`` calls them."""


def _shares(row):
    return " | ".join(f"{100 * row[kind]:.2f}" if kind in row else "" for kind in KINDS)


def _random():
    lines = [f"| network, share of equal bits in % | | {' | '.join(KINDS)} | top-1 |",
             "|---|---|" + "---|" * (len(KINDS) + 1)]
    for name, row in _read("agreement")["random"].items():
        lines += [f"| {name} | free | {_shares(row['free'])} | {100 * row['top1']:.0f} |",
                  f"| | fed | {_shares(row['fed'])} | |"]
    return "\n".join(lines)


def _digits():
    lines = [f"| network | {' | '.join(KINDS)} | equal top-1 | images | top-1 float | integers |",
             "|---|" + "---|" * (len(KINDS) + 4)]
    for name, row in _read("agreement")["digits"].items():
        lines.append(f"| {name} | {_shares(row['free'])} | {100 * row['top1']:.2f} "
                     f"| {row['images']} | {100 * row['float_top1']:.2f} "
                     f"| {100 * row['integer_top1']:.2f} |")
    return "\n".join(lines)


SECTIONS = {"README.md": {"demo": _demo, "bench": _bench},
            "docs/agreement.md": {"random": _random, "digits": _digits}}
"""Document to its sections."""


def main():
    for document, sections in SECTIONS.items():
        path = ROOT / document
        text = path.read_text()
        for name, section in sections.items():
            start, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
            before, _, rest = text.partition(start)
            text = before + start + section() + "\n" + end + rest.partition(end)[2]
        path.write_text(text)


if __name__ == "__main__":
    main()
