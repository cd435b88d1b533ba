"""What the commands print for people: tables and pictures."""

import itertools

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["bitstream", "compiled", "converted", "demo", "digit_pictures", "facts", "imported",
           "make_table", "models", "percent", "report", "run", "simulate", "synth", "train"]


def make_table(title, *columns):
    """A table; the first column is text, the others are numbers unless called ``(text)``."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False)
    for index, column in enumerate(columns):
        text = index == 0 or column.endswith(" ")
        table.add_column(column.strip(), justify="left" if text else "right", no_wrap=True)
    return table


def percent(share):
    return "" if share is None else f"{100 * share:.1f} %"


def digit_pictures(images, captions, per_line=10) -> list[str]:
    """Lines of text with the images (N, H, W), two pixels a character, captions below."""
    lines, width = [], max(images.shape[2], *(len(caption) for caption in captions)) + 2
    for start in range(0, len(images), per_line):
        group = images[start:start + per_line] >= 96
        for row in range(0, images.shape[1], 2):
            cells = []
            for image in group:
                pairs = zip(image[row], image[row + 1], strict=True)
                cells.append("".join(" ▄▀█"[2 * upper + lower] for upper, lower in pairs))
            lines.append("".join(cell.ljust(width) for cell in cells).rstrip())
        lines.append("".join(caption.ljust(width)
                             for caption in captions[start:start + per_line]).rstrip())
    return lines


def demo(result, console):
    """The demo: digits, what was checked, where the cycles go."""
    import numpy as np

    shown = result["pictures"]
    captions = [f"{item['prediction']}" if item["prediction"] == item["label"]
                else f"{item['prediction']} (is {item['label']})" for item in shown]
    console.print(f"[bold]{len(shown)} of {result['images']} held-out digits and what the "
                  "accelerator says[/], mistakes first\n")
    for line in digit_pictures(np.array([item["pixels"] for item in shown], np.uint8), captions,
                               per_line=8):
        console.print(Text(line))
    console.print()
    simulate(result, console)
    console.print()
    _cycles(result["report"], console)


def simulate(result, console):
    """What a simulation found."""
    shown = {"engine": result["engine"], "images": f"{result['images']:,}"}
    if result["batch"] > 1:
        shown["images at once"] = result["batch"]
    if result["checked"]:
        shown["mismatches"] = (f"{result['mismatches']} (logits of {result['images']} images; "
                               f"every observation point of {result['observed_images']})")
    if result["first_mismatch"]:
        shown["first mismatch"] = result["first_mismatch"]
    if result["top1"] is not None:
        shown["top-1"] = percent(result["top1"])
    if result["frame_cycles"]:
        ends = result["frame_cycles"]
        intervals = [later - end for end, later in itertools.pairwise(ends)]
        shown["latency"] = f"{ends[0]:,} cycles"
        shown["interval"] = " – ".join(f"{cycles:,}" for cycles in sorted(
            {min(intervals), max(intervals)})) + " cycles" if intervals else "one image has none"
    elif result["engine"] == "rtl":
        cycles = result["cycles_per_image"]
        shown["cycles per image"] = "not all equal" if cycles is None else f"{cycles:,}"
    shown["predicted cycles"] = f"{result['predicted_cycles_per_image']:,}"
    shown["simulation speed"] = f"{result['simulated_cycles_per_second']:,.0f} cycles/s"
    facts(shown, console)


def bitstream(result, console):
    """What a bitstream takes of its board."""
    table = make_table(result["title"], "resource", "used", "of", "share")
    for row in result["resources"].values():
        table.add_row(row["unit"], f"{row['used']:,}", f"{row['available']:,}",
                      percent(row["used"] / row["available"]))
    console.print(table)
    console.print(f"wrote {result['file']}: network {result['network']}, clock "
                  f"{result['clock_mhz']:g} MHz ({result['fmax_mhz']:g} MHz would do)",
                  markup=False)


def run(result, console):
    """What a board answered."""
    if result["labels"] is not None:
        table = make_table("Images", "image", "label", "board", "")
        reasons = {row["image"]: row["reason"] for row in result["refused"]}
        for index, (label, found) in enumerate(zip(result["labels"], result["classes"],
                                                   strict=True)):
            if found != label:
                table.add_row(str(index), str(label), "" if found is None else str(found),
                              reasons.get(index, "wrong"))
        if table.row_count:
            console.print(table)
    shown = {
        "port": result["port"],
        "board": f"target {result['target']}, network {result['network']}, "
                 f"{result['clock_hz'] / 1e6:g} MHz, {result['baud']:,} baud",
        "images": f"{result['images']:,}, {len(result['refused'])} refused",
    }
    if result["mismatches"] is not None:
        shown["mismatches"] = result["mismatches"]
    if result["top1"] is not None:
        shown["top-1"] = percent(result["top1"])
    shown["cycles per image"] = f"{result['cycles_per_image']:,}"
    shown["images per second"] = f"{result['images'] / result['seconds']:,.1f}"
    shown["requests repeated"] = result["requests_repeated"]
    if result["faults"] is not None:
        shown["faults on the line"] = result["faults"]
    facts(shown, console)


def report(result, console):
    """Memory in use, cycles per layer and unit, where the array's cycles go."""
    table = make_table("Memories", "memory", "words used", "of", "share", "at once", "kbit")
    for name, memory in result["memory"].items():
        table.add_row(name, f"{memory['words']:,}", f"{memory['depth']:,}",
                      percent(memory["words"] / memory["depth"]), f"{memory['peak']:,}",
                      f"{memory['width'] * memory['depth'] / 1024:,.0f}")
    console.print(table)
    _cycles(result, console)
    for kind in ("html", "trace"):
        if kind in result:
            console.print(f"wrote {result[kind]}", markup=False)


def _cycles(result, console):
    table = make_table("Layers", "layer", "unit ", "instr.", "first to last cycle", "busy",
                       "MACs", "planes", "array use")
    for row in result["layers"]:
        table.add_row(row["name"], row["unit"], str(row["instructions"]),
                      f"{row['first_cycle']:,} – {row['last_cycle']:,}", f"{row['busy']:,}",
                      f"{row['macs']:,}" if row["macs"] else "",
                      " x ".join(map(str, row["planes"] or ())), percent(row["array_share"]))
    console.print(table)
    table = make_table("Units", "unit", "busy cycles", "share of all")
    for name, unit in result["units"].items():
        table.add_row(name, f"{unit['busy']:,}", percent(unit["share"]))
    console.print(table)
    from bivit.sim.accounting import CAUSES
    from bivit.sim.limits import limit_text

    table = make_table("The array: the whole frame; from the first binary layer's start to the "
                       "last one's end", "cycles", "frame", "share", "binary", "share",
                       "what they are ")
    frame, window = result["array_cycles"], result["spent"]
    rows = {cause: (frame[cause], window[cause], text) for cause, text in CAUSES.items()
            if frame[cause] or window[cause]}
    rows["all"] = result["cycles"], result["binary_cycles"], ""
    for cause, (whole, part, text) in rows.items():
        table.add_row(cause, f"{whole:,.0f}", percent(whole / result["cycles"]),
                      f"{part:,.0f}", percent(part / (result["binary_cycles"] or 1)), text)
    console.print(table)
    console.print(f"target {result['target']}: {result['macs_per_cycle']:,} binary MACs per cycle, "
                  f"{_cycles_of_image(result)}"
                  + (f", utilisation {percent(result['utilization'])}"
                     if result["utilization"] is not None else ""), markup=False)
    if result["limit"]:
        console.print(limit_text(result), markup=False)


def _cycles_of_image(result):
    text = f"{result['cycles_per_image']:,} cycles per image"
    return text if result["batch"] == 1 else f"{text} of {result['batch']} at once"


def compiled(result, console):
    """What a compilation wrote."""
    console.print(f"wrote {result['folder']}: {result['instructions']:,} instructions for "
                  f"{result['target']}, {_cycles_of_image(result)}"
                  + (f", utilisation {percent(result['utilization'])}"
                     if result["utilization"] is not None else "")
                  + f"; bivit report {result['folder']} says more", markup=False)


def synth(result, console):
    """Cells of a device, clock rate and critical path."""
    table = make_table(f"{result['target']} on {result['title']}", "resource", "used", "of",
                       "share")
    for row in result["resources"].values():
        table.add_row(row["unit"], f"{row['used']:,}", f"{row['available']:,}",
                      percent(row["share"]))
    console.print(table)
    names = [row["unit"].partition(" (")[0] for row in result["resources"].values()]
    table = make_table("Units", "unit", *names)
    for name, counts in result["units"].items():
        if any(counts.values()):
            table.add_row(name or "between them", *(f"{count:,}" if count else ""
                                                    for count in counts.values()))
    console.print(table)
    for run in result["routes"]:
        console.print(f"seed {run['seed']}: {run['fmax_mhz']:.1f} MHz, {run['seconds']:.0f} s; "
                      f"critical path {run['critical_path']['words']}", markup=False)
    if result["routes"]:
        facts({"clock rate": f"{result['fmax_mhz']:.1f} MHz, median of "
                             f"{len(result['routes'])} seed(s)"}, console)
    facts({"synthesis": f"{result['synthesis_seconds']:.0f} s"}, console)
    if result["vivado"]:
        console.print(f"wrote {result['vivado']}: vivado -mode batch -source implement.tcl (or "
                      "package.tcl) there", markup=False)
    if result["too_small"]:
        console.print(result["too_small"], markup=False)


def converted(result, console):
    """What a conversion wrote; of random weights, how alive the bits are."""
    facts({name: value for name, value in result.items() if name != "ones"}, console)
    if "ones" in result:
        table = make_table("Ones among the bits", "layer", "share")
        for name, share in result["ones"].items():
            table.add_row(name, percent(share))
        console.print(table)


def train(result, console):
    """What a training reached on the images that it measured on."""
    if "recipe" in result:
        facts(result | {"top1": percent(result["top1"]) or "not measured: no folder val"},
              console)
        return
    facts({
        "held-out images": result["images"],
        "top-1, integers": percent(result["integer_top1"]),
        "top-1, float": percent(result["float_top1"]),
        "images that differ": result["top1_differing"],
    }, console)
    table = make_table("Bits in which float and integers agree", "layer", "share")
    for name, share in result["equal_bits"].items():
        table.add_row(name, percent(share))
    console.print(table)


def facts(result, console):
    """One line for each fact."""
    for name, value in result.items():
        console.print(f"{name:<20}{value}", markup=False)


def imported(result, console):
    """What an imported checkpoint is, what its bits are, and where signs were taken of zero."""
    facts({
        "recognised": result.recognised,
        "network": result.network + "".join(f"; {name} has the same names and shapes"
                                            for name in result.also_fits),
        "tensors": f"{result.tensors:,} ({result.renamed} renamed, {result.dropped} computed "
                   "instead)",
        "parameters": f"{result.parameters:,}, {result.classes:,} classes",
        "patch embedding": f"takes up the colours' scaling ({result.pixels})",
    }, console)
    for row in result.binary_layers:
        facts({"binary layers": f"{row['layers']}: {row['signs']}, times {row['scale']}"}, console)
    if result.negative_scales:
        facts({"negative scales": result.negative_scales}, console)
    for kind in ("weights", "activations"):
        zeros, signs = (sum(getattr(ties, name) for ties in result.ties if ties.kind == kind)
                        for name in ("zeros", "signs"))
        facts({f"zero {kind}": f"{zeros:,} of {signs:,} signs, taken as +1"}, console)
    table = make_table(f"Layers with the most zeros under signs, on {result.images} images",
                       "layer", "of ", "zeros", "share")
    for ties in sorted(result.ties, key=lambda ties: -ties.zeros)[:8]:
        if ties.zeros:
            table.add_row(ties.layer, ties.kind, f"{ties.zeros:,}",
                          percent(ties.zeros / ties.signs))
    if table.row_count:
        console.print(table)
    if result.output:
        console.print(f"wrote {result.output}", markup=False)


def models(result, console):
    """The table of known networks."""
    def millions(count):
        return f"{count / 1e6:,.{0 if count >= 1e8 else 2}f}" if count else ""

    table = make_table("Networks", "name", "image ", "params", "binary", "1-bit w", "other", "bits",
                       "MB")
    for row in result["models"]:
        counts = ("parameters", "binary_macs", "binary_weight_macs", "other_macs",
                  "binary_weight_bits")
        size = (row["binary_weight_bits"] + row["other_bits"]) / 8e6
        table.add_row(row["name"], "x".join(map(str, row["image"])),
                      *(millions(row[key]) for key in counts), f"{size:.2f}")
    console.print(table)
    console.print(
        "In millions, but for MB: params; multiply-accumulates an image: binary (bits times\n"
        "bits), 1-bit w (1-bit weights times numbers), other; bits: 1-bit weights. MB: those with\n"
        "one bit each, other weights with 8, the rest with 16. bivit_digits is shipped, and what\n"
        "bivit train trains; docs/networks.md is about the others.", markup=False)
