"""The page in a real browser: the figures of the report, drawn, without an error or a request."""

import json
import re

import pytest

from bivit.sim.page import page_html
from bivit.sim.report import make_report
from bivit.sim.roofline import roofline_points
from browser import open_page


@pytest.fixture(scope="module")
def page(digits_build, tmp_path_factory):
    """Report, its page as text, and a folder."""
    report = make_report(digits_build)
    return report, page_html(report), tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def opened(page):
    """The page as the browser leaves it."""
    return show(page)


def show(page, *, fragment="", before="</body>", more=""):
    """Open the page, with something added to it."""
    _, text, folder = page
    path = folder / "page.html"
    path.write_text(text.replace(before, more + before) if more else text)
    return open_page(path, folder, fragment)


def figure(figures, name):
    """A figure by its path."""
    for part in name.split("."):
        figures = figures[part]
    return figures


def test_figures_are_those_of_the_report(page, opened):
    figures = json.loads(json.dumps(page[0].figures))
    assert json.loads(opened.one(id_="report").text) == figures
    shown = {element.attributes["data-figure"]: element for element in opened.elements
             if "data-figure" in element.attributes}
    for name, element in shown.items():
        assert float(element.attributes["data-value"]) == figure(figures, name), name
    wanted = {"cycles_per_image", "utilization", "macs_per_cycle", "binary_macs", "instructions",
              *(f"units.{unit}.busy" for unit in figures["units"]),
              *(f"memory.{name}.{key}" for name in figures["memory"] for key in ("words", "peak")),
              *(f"{kind}.{cause}" for cause, cycles in figures["array_cycles"].items() if cycles
                for kind in ("array_cycles", "spent"))}
    assert set(shown) == wanted
    for name in ("cycles_per_image", "instructions", "memory.weight.words", "units.MM.busy"):
        assert shown[name].text.split()[0] == f"{figure(figures, name):,}"
    assert shown["utilization"].text.startswith(f"{100 * figures['utilization']:.1f} %")
    assert "8 × 64" in shown["macs_per_cycle"].text
    for row in figures["layers"]:
        text = opened.one(data_layer=row["name"]).text
        assert f"{row['busy']:,}" in text and f"{row['first_cycle']:,}" in text
    assert len([e for e in opened.elements if "data-layer" in e.attributes]) == len(
        figures["layers"])


def test_bars_add_up(page):
    """Every bar of causes is full."""
    bars = [bar for bar in re.findall(r'<div class="bar">(.*?)</div>', page[1]) if "title=" in bar]
    assert len(bars) > 30
    for bar in bars:
        widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bar)]
        assert sum(widths) == pytest.approx(100, abs=0.01)


def test_everything_is_drawn(page, opened):
    report, _, _ = page
    assert opened.console == []
    for unit in ("LOAD", "MM", "SOFTMAX", "VEC"):
        drawn = [element for element in opened.having(data_unit=unit)]
        assert sum(int(element.attributes["data-count"]) for element in drawn) > 0, unit
    assert len(opened.having(class_="area")) == 1
    assert "cycles 0 – 11,578" in opened.one(id_="view").text
    used = {name for name, use in report.memory.items() if len(use.word)}
    maps = {element.attributes["data-memory"] for element in opened.elements
            if "data-memory" in element.attributes and element.tag == "div"}
    assert maps == used
    points = [element for element in opened.elements if element.tag == "circle"]
    assert len(points) == len(roofline_points(report.figures)) > 2


def test_nothing_is_asked_of_the_network(page):
    """Neither a request, nor an address that could be one."""
    more = ("<script>addEventListener('load', () => setTimeout(() => document.body.dataset.requests"
            " = performance.getEntriesByType('resource').length, 500));</script>")
    assert len(show(page, more=more).having(data_requests="0")) == 1
    assert not re.search(r"(?i)\b(https?|wss?|ftp):|//\w|url\(|@import|<link|\bsrc=", page[1])


@pytest.mark.parametrize("more, message", [
    ("<img src='https://example.org/picture.png'>", "Content Security Policy"),
    ("<script>nothing();</script>", "nothing is not defined")])
def test_a_page_that_fails_is_seen(page, more, message):
    console = show(page, more=more).console
    assert any(message in line for line in console), console


def test_zooming(page):
    first, last = 6500, 7000
    zoomed = show(page, fragment=f"cycles={first}-{last}")
    assert "cycles 6,500 – 7,000" in zoomed.one(id_="view").text and zoomed.console == []
    assert {element.text for element in zoomed.having(class_="to")} == {"cycle 7,000"}
    steps = [step for step in page[0].frame.matrix if step.end > first and step.pop < last]
    labels = [element.text for element in zoomed.elements if element.tag == "text"]
    assert any("mlp.fc1" in label for label in labels) and len(steps) > 5
    clicked = show(page, more="<script>document.querySelector('[data-view=binary]').click();"
                              "document.querySelector('[data-zoom=\"0.5\"]').click();</script>")
    numbers = re.findall(r"[\d,]+", clicked.one(id_="view").text)
    binary = [step for step in page[0].frame.matrix if page[0].frame.layers[step.layer]["binary"]]
    start, width = binary[0].pop, page[0].figures["binary_cycles"]
    for text, expected in zip(numbers, (start + width / 4, start + width * 3 / 4, width / 2),
                              strict=False):
        assert int(text.replace(",", "")) == pytest.approx(expected, abs=1)


def test_sorting(page):
    more = ("<script>document.querySelectorAll('#layers th button')[6].click();"
            "document.querySelectorAll('#layers th button')[6].click();</script>")
    rows = [element.attributes["data-layer"] for element in show(page, more=more).elements
            if "data-layer" in element.attributes]
    busy = {row["name"]: row["busy"] for row in page[0].figures["layers"]}
    assert [busy[name] for name in rows] == sorted(busy.values(), reverse=True)


def test_equal_builds_give_equal_pages(page, digits_build):
    assert page_html(make_report(digits_build)) == page[1] and len(page[1]) < 200_000
