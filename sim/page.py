"""The report as one HTML page that needs nothing else: no network, no other file."""

import json
import math
import string
from html import escape
from pathlib import Path

from bivit.hw.blocks.checks import units_of
from bivit.hw.isa import Opcode, Unit
from bivit.sim.accounting import CAUSES, WAITS, binary_window, useful_shares
from bivit.sim.kinds import KINDS, OPCODE_KINDS, product_kind
from bivit.sim.limits import limit_text
from bivit.sim.memory_picture import constant_strips, memory_areas
from bivit.sim.report import Report
from bivit.sim.roofline import roofline

__all__ = ["CLOCK_HZ", "PARTS", "legend", "page_html", "script_json", "timeline_of"]

CLOCK_HZ = 100_000_000
"""Clock of the times on the page."""

PARTS = Path(__file__).parent / "page"
"""Style, scripts and pieces of pages."""
_WINDOWS = 2000
"""Points of the curve of utilisation, at most."""
_LETTER = 0.008
"""Share of a bar that a letter of its label needs."""


def page_html(report: Report) -> str:
    """The whole page; equal builds give equal text."""
    figures = report.figures
    title = f"{Path(figures['folder']).name} on {figures['target']}"
    return string.Template((PARTS / "page.html").read_text()).substitute(
        title=escape(title), style=(PARTS / "page.css").read_text(),
        timeline_box=(PARTS / "timeline.html").read_text(),
        script="".join((PARTS / name).read_text() for name in ("page.js", "sort.js")),
        tiles=_tiles(figures), causes=_causes(figures),
        kinds=legend(KINDS, "k"), units=_units(figures), layers=_layers(figures),
        roofline=roofline(report), memory=_memory(figures), memory_map=memory_areas(report),
        constants=constant_strips(report), report=script_json(figures),
        timeline=script_json(timeline_of(report)))


def script_json(value):
    """JSON that may stand in a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _percent(share):
    return "" if share is None else f"{100 * share:.1f} %"


def _slug(name):
    return name.replace(" ", "-")


def legend(texts: dict[str, str], prefix: str) -> str:
    """Colours, classes ``PREFIX-name``, and what they are."""
    return '<ul class="legend">' + "".join(
        f'<li><span class="swatch {prefix}-{_slug(name)}"></span>{text}</li>'
        for name, text in texts.items()) + "</ul>"


def _tiles(figures):
    cycles, array, batch = (figures[key] for key in ("cycles_per_image", "array", "batch"))
    order, work = (("one after another", "an image") if batch == 1 else
                   (f"{batch} at once", f"{batch} images"))
    tiles = [
        ("cycles_per_image", "Cycles per image", f"{cycles:,}", ""),
        (None, "Time per image", f"{1e3 * cycles / CLOCK_HZ:,.3f} ms", "at 100 MHz"),
        (None, "Images a second", f"{CLOCK_HZ / cycles:,.1f}", order),
        ("utilization", "Array utilisation", _percent(figures["utilization"]) or "–",
         "on binary layers"),
        ("macs_per_cycle", "MACs a cycle", f"{figures['macs_per_cycle']:,}",
         f"binary, {array['rows']} × {array['cols']} × {array['lanes']}"),
        ("binary_macs", "Binary MACs", f"{figures['binary_macs'] / 1e6:,.1f} M", work),
        ("instructions", "Instructions", f"{figures['instructions']:,}",
         f"{figures['executed']:,} executed"),
    ]
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{name}</dt><dd{_figure(key, key and figures[key])}>{text} "
        f"<small>{more}</small></dd></div>" for key, name, text, more in tiles) + "</dl>"


def _figure(key, value):
    """Attributes that name a figure and hold it exactly."""
    return "" if key is None else f' data-figure="{key}" data-value="{_plain(value)}"'


def _plain(value):
    return "" if value is None else value


def _bar(cycles, label=False):
    total = sum(cycles.values())
    parts = []
    for cause, number in cycles.items():
        share = number / total if total else 0
        if share:
            text = f"{cause} {100 * share:.1f} %"
            if not label or share < _LETTER * len(text):
                text = ""
            parts.append(f'<span class="c-{_slug(cause)}" style="width:{100 * share:.4f}%" '
                         f'title="{cause}: {number:,.1f} cycles, {100 * share:.2f} %">{text}'
                         "</span>")
    return f'<div class="bar">{"".join(parts)}</div>'


def _causes(figures):
    frame, window = figures["array_cycles"], figures["spent"]
    total, part = figures["cycles"], figures["binary_cycles"]
    rows = "".join(
        f'<tr><td class="text"><span class="swatch c-{_slug(cause)}"></span>{cause}</td>'
        f"<td{_figure(f'array_cycles.{cause}', frame[cause])}>{frame[cause]:,.1f}</td>"
        f"<td>{_percent(frame[cause] / total)}</td>"
        f"<td{_figure(f'spent.{cause}', window[cause])}>{window[cause]:,.1f}</td>"
        f"<td>{_percent(window[cause] / part) if part else ''}</td>"
        f'<td class="text wide">{text}</td></tr>'
        for cause, text in CAUSES.items() if frame[cause] or window[cause])
    second = ("<h3>From the first binary layer's start to the last one's end: "
              f"{part:,} cycles</h3>{_bar(window, label=True)}"
              f"<p id='limit'>The {limit_text(figures)}.</p>" if part else "")
    return (f"<h3>Whole frame: {total:,} cycles</h3>{_bar(frame, label=True)}{second}"
            '<div class="scroll whole"><table id="causes"><thead><tr><th class="text">cycles</th>'
            "<th>frame</th><th>share</th><th>binary layers</th><th>share</th>"
            '<th class="text">what they are</th></tr></thead>'
            f'<tbody>{rows}</tbody><tfoot><tr><td class="text">all</td>'
            f"<td>{sum(frame.values()):,.1f}</td><td></td><td>{sum(window.values()):,.1f}</td>"
            "<td></td><td></td></tr></tfoot></table></div>")


def _units(figures):
    rows = "".join(
        f'<tr><td class="text">{name}</td>'
        f"<td{_figure(f'units.{name}.busy', unit['busy'])}>{unit['busy']:,}</td>"
        f"<td>{_percent(unit['share'])}</td>"
        f'<td class="text"><div class="bar"><span class="c-useful" '
        f'style="width:{100 * unit["share"]:.2f}%"></span></div></td></tr>'
        for name, unit in figures["units"].items())
    return ('<table><thead><tr><th class="text">unit</th><th>busy cycles</th><th>share of all</th>'
            f'<th class="text"></th></tr></thead><tbody>{rows}</tbody></table>')


def _layers(figures):
    headings = (("layer", "text"), ("operation", "text"), ("unit", "text"), ("instr.", ""),
                ("first cycle", ""), ("last cycle", ""), ("busy", ""), ("MACs", ""), ("K", ""),
                ("planes", ""), ("array use", ""))
    head = "".join(f'<th class="{kind}"><button type="button">{name}</button></th>'
                   for name, kind in headings)
    return ('<div class="scroll"><table id="layers" class="sorts"><thead><tr>'
            f'{head}<th class="text">cycles in the array</th></tr></thead><tbody>'
            + "".join(map(_layer, figures["layers"])) + "</tbody></table></div>")


def _layer(row):
    numbers = "".join(
        f'<td data-value="{_plain(row[key])}">{"" if not row[key] else f"{row[key]:,}"}</td>'
        for key in ("instructions", "first_cycle", "last_cycle", "busy", "macs", "length"))
    return (f'<tr data-layer="{escape(row["name"])}"><td class="text">{escape(row["name"])}</td>'
            f'<td class="text">{row["op"]}</td><td class="text">{row["unit"]}</td>{numbers}'
            f'<td data-value="{math.prod(row["planes"] or [0])}">'
            f'{" × ".join(map(str, row["planes"] or ()))}</td>'
            f'<td data-value="{_plain(row["array_share"])}">{_percent(row["array_share"])}</td>'
            f'<td class="text">{_bar(row["spent"]) if row["spent"] else ""}</td></tr>')


def _memory(figures):
    rows = "".join(
        f'<tr data-memory="{name}"><td class="text">{name.upper()}</td><td>{use["width"]:,}</td>'
        f"<td>{use['depth']:,}</td>"
        f"<td{_figure(f'memory.{name}.words', use['words'])}>{use['words']:,}</td>"
        f"<td>{_percent(use['words'] / use['depth'])}</td>"
        f"<td{_figure(f'memory.{name}.peak', use['peak'])}>{use['peak']:,}</td>"
        f"<td>{use['width'] * use['depth'] / 1024:,.1f}</td>"
        f"<td>{use['width'] * use['words'] / 1024:,.1f}</td>"
        f"<td>{use['width'] * use['peak'] / 1024:,.1f}</td></tr>"
        for name, use in figures["memory"].items())
    return ('<div class="scroll whole"><table id="memory"><thead><tr><th class="text">memory</th>'
            "<th>bits a word</th><th>words</th><th>in use</th><th>share</th><th>needed at once</th>"
            "<th>kbit</th><th>in use</th><th>at once</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>")


def timeline_of(report: Report) -> dict:
    """What the script draws: gaps and lengths of the steps of each unit, in program order."""
    frame = report.frame
    opcodes = [opcode for opcode in Opcode if any(step.opcode is opcode for step in frame.steps)]
    causes = [*WAITS.values(), "dispatch"]
    units = {unit.name: {"gap": [], "length": [], "layer": [], "opcode": [], "cause": []}
             for unit in units_of(frame.arch)}
    free = dict.fromkeys(Unit, 0)
    for step in frame.steps:
        cause = -1
        if step.wait:
            source = step.wait.source
            cause = causes.index("dispatch" if source is None
                                 else WAITS[frame.steps[source].unit])
        row = {"gap": step.pop - free[step.unit], "length": step.occupancy, "layer": step.layer,
               "opcode": opcodes.index(step.opcode), "cause": cause}
        for key, value in row.items():
            units[step.unit.name][key].append(value)
        free[step.unit] = step.end
    width = max(1, -(-frame.cycles // _WINDOWS))
    window = binary_window(frame)
    return {
        "cycles": frame.cycles, "start": frame.start, "causes": causes, "units": units,
        "binary": window and [frame.matrix[window[0]].pop, frame.matrix[window[1]].done + 1],
        "opcodes": [{"name": opcode.name, "kind": OPCODE_KINDS.get(opcode)} for opcode in opcodes],
        "layers": [{"name": layer["name"], "kind": product_kind(layer)} for layer in frame.layers],
        "window": width,
        "useful": [round(share, 4) for share in useful_shares(frame, report.products, width)],
    }
