"""The roofline: how much the array does in a cycle, against the length of its dot products."""

import math
from html import escape

from bivit.sim.report import Report

__all__ = ["roofline", "roofline_points"]

_WIDTH, _HEIGHT = 900, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 20, 52
_LABEL = 90  # width of a label


def roofline_points(figures: dict) -> list[dict]:
    """Binary layers as ``length`` (MACs a result), ``macs_per_cycle`` and ``names``.

    Layers with the same length and the same speed in whole percent of the array are one point. A
    cycle is one in which the layer occupies the array, drain included.
    """
    points = {}
    for row in figures["layers"]:
        if row["length"]:
            cycles = sum(row["spent"].values())
            percent = round(100 * row["macs"] / cycles / figures["macs_per_cycle"])
            points.setdefault((row["length"], percent), []).append((row, cycles))
    return [{"length": length, "op": rows[0][0]["op"], "names": [row["name"] for row, _ in rows],
             "macs_per_cycle": sum(row["macs"] for row, _ in rows) / sum(c for _, c in rows)}
            for (length, _), rows in sorted(points.items())]


def _limits(arch):
    """Class, text and results a cycle of what slows short products down."""
    results = arch.rows * arch.cols
    return (("compare", f"compare lanes: {results:,} results a cycle", results),
            ("lanes", f"arithmetic lanes: {results / arch.drain_cycles:,.4g} results a cycle",
             results / arch.drain_cycles),
            ("lanes2", "the same, two addends of one memory", results / arch.drain_cycles / 2))


def roofline(report: Report) -> str:
    """The picture, both axes logarithmic."""
    arch, points = report.frame.arch, roofline_points(report.figures)
    if not points:
        return "<p>This network has no binary layers.</p>"
    peak = arch.macs_per_cycle
    low_x = 2 ** math.floor(math.log2(min(point["length"] for point in points)) - 1)
    high_x = 2 ** math.ceil(math.log2(max(1.4 * max(point["length"] for point in points),
                                          2 * arch.lanes * arch.drain_cycles)))
    low_y = 2 ** math.floor(math.log2(min(min(point["macs_per_cycle"] for point in points),
                                          peak / 16)))
    high_y = 1.35 * peak

    def x(value):
        share = math.log(value / low_x) / math.log(high_x / low_x)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value):
        share = math.log(value / low_y) / math.log(high_y / low_y)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [_axes(x, y, low_x, high_x, low_y, high_y)]
    for kind, text, results in reversed(_limits(arch)):
        corner = peak / results
        start = max(low_x, low_y / results)
        parts.append(f'<path class="limit {kind}" d="M{x(start)} {y(start * results)}'
                     f'L{x(corner)} {y(peak)}"><title>{text}</title></path>')
    corner = peak / _limits(arch)[0][2]
    parts.append(f'<path class="limit" d="M{x(corner)} {y(peak)}H{x(high_x)}"/>'
                 f'<text x="{_WIDTH - _RIGHT - 6}" y="{y(peak) - 7}" text-anchor="end">'
                 f"array: {peak:,} MACs a cycle</text>")
    labels = []
    parts += [_point(point, x, y, peak, labels) for point in points]
    legend = "".join(
        f'<li><svg width="30" height="10" aria-hidden="true"><path class="limit {kind}" d="M0 5H30"'
        f"/></svg> {text}</li>" for kind, text, _ in _limits(arch))
    return (f'<svg class="roofline" id="roofline" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            'aria-label="Roofline; the table of layers holds the same figures">'
            f'{"".join(parts)}</svg><ul class="legend">{legend}</ul>')


def _axes(x, y, low_x, high_x, low_y, high_y):
    parts, value = [], low_x
    while value <= high_x:
        parts.append(f'<line class="rule" x1="{x(value)}" x2="{x(value)}" y1="{_TOP}" '
                     f'y2="{_HEIGHT - _BOTTOM}"/><text class="faint" x="{x(value)}" '
                     f'y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:,}</text>')
        value *= 2
    value = low_y
    while value <= high_y:
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" '
                     f'y2="{y(value)}"/><text class="faint" x="{_LEFT - 8}" y="{y(value) + 4}" '
                     f'text-anchor="end">{value:,}</text>')
        value *= 2
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" '
                 'text-anchor="middle">length of the dot product (MACs for each result)</text>'
                 f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">'
                 "binary MACs a cycle</text>")
    return "".join(parts)


_OP_KINDS = {"binary_linear": "linear", "scores": "scores", "window_scores": "scores"}


def _point(point, x, y, peak, labels):
    """A point and its label, below those of `labels` that are in the way."""
    ends = list(dict.fromkeys(name.rpartition(".")[2] for name in point["names"]))
    label = ", ".join(ends[:4]) + (", …" if len(ends) > 4 else "")
    count = len(point["names"])
    text = (f"{', '.join(point['names'][:6])}{f' and {count - 6} more' if count > 6 else ''}: "
            f"{point['macs_per_cycle']:,.0f} MACs a cycle, "
            f"{100 * point['macs_per_cycle'] / peak:.1f} % of the array")
    at_x, at_y = x(point["length"]), y(point["macs_per_cycle"])
    low = at_y + 15
    for other_x, other_y in sorted(labels, key=lambda place: place[1]):
        if abs(other_x - at_x) < _LABEL and abs(other_y - low) < 14:
            low = other_y + 14
    labels.append((at_x, low))
    kind = _OP_KINDS.get(point["op"], "attend")
    return (f'<circle class="point k-{kind}" cx="{at_x}" cy="{at_y}" r="6"><title>{escape(text)}'
            f'</title></circle><text class="faint" x="{at_x + 9}" y="{low:.1f}">{escape(label)}'
            "</text>")
