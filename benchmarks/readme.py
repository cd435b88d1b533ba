"""Put the figures of ``benchmarks/results/*.json`` and the demo's output into the documents.

A section between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is replaced; nothing else is.
"""

import argparse
import pathlib
import subprocess
import sys

from common import read as _read

ROOT = pathlib.Path(__file__).parents[1]


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
    for name, row in targets["rows"].items():
        built = compiling["targets"][name]
        lines.append(
            f"| {name}{' (default)' if name == targets['default'] else ''} | {row['array']} "
            f"| {row['macs_per_cycle']:,} | {row['cycles_per_image']:,} "
            f"| {100 * row['utilization']:.1f} % | {built['seconds']} ({built['peak_mebibytes']}) "
            f"| {built['verilog_lines']:,} ({built['verilog_modules']}) |")
    equal = [name for name, row in targets["rows"].items()
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


TITLES = {"bivit_deit_tiny": "BiViT DeiT-Tiny", "bivit_deit_small": "BiViT DeiT-Small",
          "bivit_deit_base": "BiViT DeiT-Base", "bivit_swin_tiny": "BiViT Swin-Tiny",
          "bivit_swin_small": "BiViT Swin-Small", "binaryvit": "BinaryViT",
          "bivit_deit_micro": "BiViT DeiT-Micro"}


def _frames():
    lines = ["| network | array | utilisation | binary cycles | cycles per image "
             "| images/s at 100 MHz | instructions (kbit) | mismatches |",
             "|---|---|---|---|---|---|---|---|"]
    for name, row in _read("frames")["rows"].items():
        assert row["rtl_cycles_per_image"] == row["cycles_per_image"], name
        lines.append(
            f"| {TITLES[name.split('/')[0]]} | {row['array']}, G = {row['post_rows']} "
            f"| {100 * row['utilization']:.1f} % | {row['binary_cycles']:,} "
            f"| {row['cycles_per_image']:,} | {row['frames_per_second_at_100_mhz']:.0f} "
            f"| {row['instructions']:,} ({row['program_kbit']:,.0f}) "
            f"| {row['mismatches']} at {row['observation_points']} points |")
    return "\n".join(lines)


def _intervals():
    lines = ["| network | array | stem | latency | interval | of the binary window "
             "| images/s at 100 MHz | ideal |", "|---|---|---|---|---|---|---|---|"]
    rows = _read("intervals")["rows"]
    for name, row in rows.items():
        network, _, kind = name.split("/")
        if kind == "rtl":
            continue
        stem = _stem(row) if row["stem_macs"] else "on the array"
        stem += f", {row['batch']} images a program" * (row["batch"] > 1)
        lines.append(
            f"| {TITLES[network]} | {row['array']} | {stem} | {row['latency']:,} "
            f"| {row['interval_of_image']:,.0f} | {row['interval_over_window']:.2f} "
            f"| {row['frames_per_second_at_100_mhz']:.1f} "
            f"| {row['ideal_frames_per_second_at_100_mhz']:.1f} |")
    for name, row in rows.items():
        network, _, kind = name.split("/")
        if kind == "rtl":
            agree = "as" if row["intervals"] == row["predicted_intervals"] else "not as"
            lines += ["", f"In RTL, {TITLES[network]} at {row['array']} with {_stem(row)}: "
                      f"{row['mismatches']} mismatches at {row['observation_points']} points, "
                      f"intervals of {max(row['intervals']):,} cycles, {agree} predicted."]
    return "\n".join(lines)


def _stem(row):
    """The stem engine of a row."""
    simd = row["stem_simd"]
    return f"{row['stem_macs']} multipliers" + f", {simd} pixels a cycle" * (simd > 1)


def _scaling():
    rows, summary = _read("scaling")["rows"], _read("scaling")["summary"]
    off = ", ".join(f"{100 * share:.1f} %" for share in summary["time_taken_off"].values())
    columns = {row["cols"]: row for name, row in rows.items() if name.endswith("columns")}
    return (f"Binary cycles of DeiT-Tiny, Small and Base lie within "
            f"{100 * summary['greatest_error']:.1f} % of a straight line of their binary MACs. "
            f"DeiT-Small on 8 rows and {', '.join(map(str, columns))} columns: each doubling "
            f"takes {off} off the time; the limit is "
            + ", ".join(dict.fromkeys(row["limit"] for row in columns.values()))
            + f" up to {max(columns)} columns, the most that 64 lanes allow.")


def _targets():
    lines = ["| target | device | array | port | LUTs (of) | multipliers (of) | block RAM (of) "
             "| ultra RAM (of) |", "|---|---|---|---|---|---|---|---|"]
    for name, target in _read("fits")["targets"].items():
        lines.append(
            f"| {name} | {target['device']} | {target['array']}, G = {target['post_rows']} "
            f"| {target['port_bits']} | " + " | ".join(
                f"{target[name]:,} ({target[f'device_{name}']:,})"
                for name in ("luts", "multipliers", "block_ram", "ultra_ram")) + " |")
    return "\n".join(lines)


def _fits():
    lines = ["| network | target | cycles, or kbit that are missing | binary layers | "
             "instructions (kbit) |", "|---|---|---|---|---|"]
    for network, targets in _read("fits")["rows"].items():
        for target, row in targets.items():
            if row["fits"]:
                cells = (f"{row['cycles']:,}", f"{100 * row['utilization']:.1f} %",
                         f"{row['instructions']:,} ({row['program_kbit']:,.0f})")
            else:
                missing = (f"{memory.upper()} {-(-bits // 1024):,}"
                           for memory, bits in row["missing_bits"].items())
                cells = ", ".join(missing) or row["says"], "", ""
            lines.append(f"| {TITLES[network]} | {target} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _missing(refusal):
    """What the closest designs miss, of what most do."""
    if (kbit := refusal["missing_kbit"]) is not None:
        return f"{kbit:,.0f} kbit"
    return f"{refusal['missing_luts']:,} LUTs"


def _found():
    rows = {name: row for name, row in _read("explore")["rows"].items()
            if name.startswith("found/")}
    lines = ["| network | device | named target | images/s | found (of designs) | images/s "
             "| LUTs | block RAM (ultra RAM) | share of the ideal |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        _, network, device = name.split("/")
        by_hand, found = row["by_hand"], row["found"]
        own = "cannot run" if by_hand["fps"] is None else f"{by_hand['fps']:.1f}" + (
            "" if by_hand["fits"] else ", but too large")
        lines.append(
            f"| {TITLES[network]} | {device} | {by_hand['target']} | {own} | " + (
                f"{found['design'].split()[1]} ({row['designs']}) | {found['fps']:.1f} "
                f"| {found['costs']['luts']:,} "
                f"| {found['costs']['memory_block_ram']} ({found['costs']['ultra_ram']}) "
                f"| {100 * found['share_of_ideal']:.1f} % |" if found else
                f"none ({row['designs']}), {_missing(row['refusal'])} missing | | | | |"))
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


def _density():
    lines = ["| target | array | LUTs of | array alone: LUTs | operations | BISMO's units "
             "| whole: LUTs | operations |", "|---|---|---|---|---|---|---|---|"]
    rows = _read("density")["rows"]
    for name in dict.fromkeys(row.split("/")[0] for row in rows):
        array, whole, model = (rows.get(f"{name}/{part}")
                               for part in ("array", "whole", "predicted"))
        known = array or whole or model
        cells = [f"{about}{row['used']['luts']:,} | {about}{row['density']:,.0f}" if row else " | "
                 for row, about in ((array, ""), (whole or model, "" if whole else "≈ "))]
        lines.append(f"| {name} | {known['shape']}, G = {known['post_rows']} "
                     f"| {known['luts_have_inputs']} inputs | {cells[0]} "
                     f"| {known['bismo_density']:,.0f} | {cells[1]} |")
    return "\n".join(lines)


def _units():
    lines = ["| unit | LUT4 | registers | multipliers | MHz | held by |",
             "|---|---|---|---|---|---|"]
    for name, row in _read("units")["rows"].items():
        used, path = row["used"], row["critical_path"].partition(", of it")[0]
        lines.append(f"| {name} | {used['luts']:,} | {used['registers']:,} | {used['multipliers']} "
                     f"| {row['fmax_mhz']:.0f} | {path} |")
    return "\n".join(lines)


SECTIONS = {"README.md": {"demo": _demo, "bench": _bench, "frames": _frames,
                          "scaling": _scaling},
            "docs/memory.md": {"targets": _targets, "fits": _fits},
            "docs/stem.md": {"intervals": _intervals},
            "docs/explore.md": {"found": _found},
            "docs/synthesis.md": {"density": _density, "units": _units},
            "docs/agreement.md": {"random": _random, "digits": _digits}}
"""Document to its sections."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sections; all if none is named")
    wanted = parser.parse_args().names
    for document, sections in SECTIONS.items():
        path = ROOT / document
        text = path.read_text()
        for name, section in sections.items():
            if wanted and name not in wanted:
                continue
            start, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
            before, _, rest = text.partition(start)
            text = before + start + section() + "\n" + end + rest.partition(end)[2]
        path.write_text(text)


if __name__ == "__main__":
    main()
