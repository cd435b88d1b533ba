"""An exploration as one HTML page that needs nothing else: no network, no other file."""

import string
from html import escape
from pathlib import Path

from bivit.explore.compiled import BOUNDS
from bivit.explore.front import title
from bivit.explore.space import OBJECTIVES, Space
from bivit.sim import page as report_page
from bivit.sim.kinds import KINDS
from bivit.sim.report import Report

__all__ = ["page_html"]

_PARTS = Path(__file__).parent / "page"
_COLUMNS = ("cycles", "interval", "latency_ms", "fps", "utilization", "accuracy", "luts",
            "block_ram", "array_luts", "memory_block_ram", "memory_kbit", "device_share")
_ROW_LIMIT = 2000
"""Designs in the tables; the pictures hold all."""


def page_html(result: dict, records: list[dict], space: Space, chosen: Report | None) -> str:
    """The whole page.

    Parameters
    ----------
    result : dict
        What :func:`bivit.explore.command.run` returns.
    records : list of dict
        All of them.
    chosen : Report, optional
        Of the chosen design, for its timeline.
    """
    done = [record for record in records if record["status"] == "done"]
    style = (report_page.PARTS / "page.css", _PARTS / "explore.css")
    scripts = [_PARTS / "explore.js", report_page.PARTS / "sort.js"]
    name, more = Path(space.where).stem, {"timeline": "", "report": ""}
    if chosen is not None:
        scripts.append(report_page.PARTS / "page.js")
        more = _timeline(chosen, result["front"][0])
    return string.Template((_PARTS / "explore.html").read_text()).substitute(
        title=escape(f"exploration of {name}"), about=escape(_about(result, space)),
        style="".join(file.read_text() for file in style), tiles=_tiles(result),
        legend=_legend(), bounds=_bounds(result["front"]),
        note=escape(_note(done)), designs=_designs(done, result), refused=_refused(records),
        data=report_page.script_json(_data(done, result, space)),
        script="".join(file.read_text() for file in scripts), **more)


def _timeline(report, record):
    section = string.Template((_PARTS / "timeline.html").read_text()).substitute(
        chosen=escape(title(record)), kinds=report_page.legend(KINDS, "k"),
        box=(report_page.PARTS / "timeline.html").read_text())
    data = {"report": {"layers": report.figures["layers"]},
            "timeline-data": report_page.timeline_of(report)}
    return {"timeline": section, "report": "\n".join(
        f'<script type="application/json" id="{name}">{report_page.script_json(value)}</script>'
        for name, value in data.items())}


def _about(result, space):
    goals = ", ".join(f"{name} ({'least' if OBJECTIVES[name] == 'minimize' else 'most'})"
                      for name in result["objectives"])
    limits = ", ".join(f"{name} {limit:g}" for name, limit in space.constraints.items())
    return (f"Objectives: {goals}. Limits: the device's resources{', ' if limits else ''}{limits}. "
            f"Cycles are exact. {result['verdict'] or ''}")


def _note(done):
    reasons = {record["not_modelled"] for record in done} - {None}
    return " ".join(f"Only resources that are counted by rule are given, since {reason}."
                    for reason in sorted(reasons))


def _tiles(result):
    tiles = [("Designs", result["designs"]), ("Evaluated", result["done"]),
             ("Refused", result["refused"]), ("On the front", len(result["front"]))]
    if result["front"]:
        best = result["front"][0]
        tiles += [("Cycles, chosen design", best["cycles"]),
                  ("Images a second", best["fps"])]
    return '<dl class="tiles">' + "".join(
        f"<div><dt>{name}</dt><dd>{_text(value)}</dd></div>" for name, value in tiles) + "</dl>"


def _legend():
    return report_page.legend({bound: bound for bound in BOUNDS}, "b")


def _bounds(front):
    rows = "".join(
        f'<tr data-number="{record["number"]}"><td class="text">{escape(title(record))}</td>'
        f'<td class="text wide"><div class="bar">' + "".join(
            f'<span class="b-{bound.replace(" ", "-")}" style="width:{100 * share:.4f}%" '
            f'title="{bound}: {100 * share:.2f} %"></span>'
            for bound, share in record["bounds"].items() if share) + "</div></td></tr>"
        for record in front)
    return f'<table id="bounds"><tbody>{rows}</tbody></table>'


def _designs(done, result):
    names = [name for name in _COLUMNS if any(record[name] is not None for record in done)]
    front = {record["number"] for record in result["front"]}
    head = "".join(f'<th><button type="button">{name}</button></th>'
                   for name in ("design", "front", *names, "bound"))
    rows = "".join(
        f'<tr data-number="{record["number"]}"><td data-value="{record["number"]}">'
        f'{escape(title(record))}</td><td>{"yes" if record["number"] in front else ""}</td>'
        + "".join(f'<td data-value="{"" if record[name] is None else record[name]}">'
                  f"{_text(record[name])}</td>" for name in names)
        + f"<td>{record['bound']}</td></tr>" for record in done[:_ROW_LIMIT])
    return (f'<div class="scroll"><table id="designs" class="sorts"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _refused(records):
    rows = "".join(
        f'<tr><td class="text">{escape(title(record))}</td><td class="text">{one["constraint"]}'
        f'</td><td class="text wide">{escape(one["text"])}</td></tr>'
        for record in records[:_ROW_LIMIT] for one in record["broken"])
    return ('<div class="scroll"><table id="refused"><thead><tr><th class="text">design</th>'
            '<th class="text">limit</th><th class="text">why</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def _data(done, result, space):
    figures = [name for name in _COLUMNS if any(record[name] is not None for record in done)]
    return {
        "objectives": result["objectives"], "varied": list(space.varied), "figures": figures,
        "front": [record["number"] for record in result["front"]], "chosen": result["chosen"],
        "designs": [{"number": record["number"], "parameters": record["design"],
                     "bound": record["bound"],
                     "broken": [one["text"] for one in record["broken"]]}
                    | {name: record[name] for name in {*figures, *result["objectives"]}}
                    for record in done]}


def _text(value):
    return "–" if value is None else f"{value:,}" if type(value) is int else f"{value:,.6g}"
