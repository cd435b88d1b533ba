"""The page in a real browser: the figures of the report, drawn, without an error or a request."""

import json
import re

import pytest

from bivit.sim.page import page_html
from bivit.sim.report import make_report
from bivit.sim.roofline import roofline_points
from browser import browser


@pytest.fixture(scope="module")
def report(digits_build):
    return make_report(digits_build)


@pytest.fixture(scope="module")
def text(report):
    return page_html(report)


@pytest.fixture(scope="module")
def show(text, tmp_path_factory):
    """A function that opens the page, with something added to it, at a fragment."""
    folder = tmp_path_factory.mktemp("page")
    with browser(folder) as open_page:
        def show(fragment="", more=""):
            path = folder / "page.html"
            path.write_text(text.replace("</body>", more + "</body>"))
            return open_page(path.as_uri() + fragment)
        yield show


@pytest.fixture(scope="module")
def page(show):
    return show()


def figure(figures, name):
    """A figure by its path."""
    for part in name.split("."):
        figures = figures[part]
    return figures


def cycles_of(text):
    """Numbers in what the page says about the part in view."""
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", text)[:3]]


VIEW = "document.getElementById('view').textContent"


def test_figures_are_those_of_the_report(report, page):
    figures = json.loads(json.dumps(report.figures))
    assert json.loads(page.evaluate("document.getElementById('report').textContent")) == figures
    shown = {name: (value, words) for name, value, words in page.evaluate(
        "[...document.querySelectorAll('[data-figure]')].map((element) => "
        "[element.dataset.figure, element.dataset.value, element.innerText])")}
    for name, (value, _) in shown.items():
        assert float(value) == figure(figures, name), name
    assert set(shown) == {
        "cycles_per_image", "utilization", "macs_per_cycle", "binary_macs", "instructions",
        *(f"units.{unit}.busy" for unit in figures["units"]),
        *(f"memory.{name}.{key}" for name in figures["memory"] for key in ("words", "peak")),
        *(f"{kind}.{cause}" for cause, cycles in figures["array_cycles"].items() if cycles
          for kind in ("array_cycles", "spent"))}
    assert figures["limit"] in page.evaluate("document.getElementById('limit').textContent")
    for name in ("cycles_per_image", "instructions", "memory.weight.words", "units.MM.busy"):
        assert shown[name][1].split()[0] == f"{figure(figures, name):,}"
    assert shown["utilization"][1].startswith(f"{100 * figures['utilization']:.1f} %")
    rows = page.evaluate("[...document.querySelectorAll('[data-layer]')].map((row) => "
                         "[row.dataset.layer, [...row.cells].map((cell) => cell.innerText)])")
    assert [name for name, _ in rows] == [row["name"] for row in figures["layers"]]
    for (_, cells), row in zip(rows, figures["layers"], strict=True):
        assert cells[:3] == [row["name"], row["op"], row["unit"]]
        assert cells[3:9] == [f"{row[key]:,}" if row[key] else "" for key in (
            "instructions", "first_cycle", "last_cycle", "busy", "macs", "length")]


def test_bars_are_full(page):
    """The parts of every bar of causes fill it."""
    gaps = page.evaluate(
        "[...document.querySelectorAll('.bar:has([title])')].map((bar) => "
        "bar.getBoundingClientRect().right - bar.lastElementChild.getBoundingClientRect().right)")
    assert len(gaps) > 30 and all(abs(gap) < 0.5 for gap in gaps)


def test_everything_is_drawn(report, page):
    assert page.complaints == []
    for unit in ("LOAD", "MM", "SOFTMAX", "VEC"):
        width, height = page.evaluate(
            "(({width, height}) => [width, height])(document.querySelector("
            f"'#timeline .slice[data-unit={unit}]').getBBox())")
        assert width > 1 and height > 40, unit
    assert page.evaluate("document.querySelector('#timeline .area').getBBox().height") > 30
    assert cycles_of(page.evaluate(VIEW)) == [0, report.frame.cycles, report.frame.cycles]
    maps = page.evaluate("[...document.querySelectorAll('.map')].filter((map) => "
                         "map.querySelector('path').getBBox().width > 0)"
                         ".map((map) => map.dataset.memory)")
    assert set(maps) == {name for name, use in report.memory.items() if len(use.word)}
    points = page.evaluate("document.querySelectorAll('#roofline circle').length")
    assert points == len(roofline_points(report.figures)) > 2


def test_nothing_is_asked_of_the_network(text, page):
    """Neither a request, nor an address that could be one."""
    assert len(page.requests) == 1 and page.requests[0].startswith("file://")
    assert not re.search(r"(?i)\b(https?|wss?|ftp):|//\w|url\(|@import|<link|\bsrc=", text)


@pytest.mark.parametrize("more, words", [
    ("<img src='https://example.org/picture.png'>", "Content Security Policy"),
    ("<script>nothing();</script>", "nothing is not defined")])
def test_a_page_that_fails_is_seen(show, more, words):
    complaints = show(more=more).complaints
    assert any(words in line for line in complaints), complaints


def test_zooming(report, show):
    page = show("#cycles=6500-7000")
    assert cycles_of(page.evaluate(VIEW)) == [6500, 7000, 500]
    labels = page.evaluate("[...document.querySelectorAll('#timeline .inside')]"
                           ".map((label) => label.textContent)")
    assert any("mlp.fc1" in label for label in labels)
    maps = page.evaluate("[...document.querySelectorAll('svg.synced')]"
                         ".map((map) => map.getAttribute('viewBox').split(' ').slice(0, 3))")
    assert set(map(tuple, maps)) == {("6500", "0", "500")}
    page.evaluate("document.querySelector('[data-view=binary]').click()")
    binary = [step for step in report.frame.matrix if report.frame.layers[step.layer]["binary"]]
    start, width = binary[0].pop, report.figures["binary_cycles"]
    assert cycles_of(page.evaluate(VIEW)) == [start, start + width, width]
    page.evaluate("document.querySelector('[data-zoom=\"0.5\"]').click()")
    assert cycles_of(page.evaluate(VIEW)) == pytest.approx(
        [start + width / 4, start + width * 3 / 4, width / 2], abs=1)
    page.evaluate("document.getElementById('timeline').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Home")
    assert cycles_of(page.evaluate(VIEW)) == [0, report.frame.cycles, report.frame.cycles]
    assert page.complaints == []


def test_what_the_pointer_is_on(report, show):
    """The tip names the step under it; dragging moves the part in view."""
    step = max((step for step in report.frame.matrix if step.wait), key=lambda step: step.pop)
    page = show(f"#cycles={step.pop - 60}-{step.pop + 140}")
    left, top, width = page.evaluate(
        "(() => { const svg = document.getElementById('timeline'); svg.scrollIntoView();"
        "const box = svg.getBoundingClientRect(), lane = document.querySelector("
        "'#timeline .slice[data-unit=MM]').getBoundingClientRect();"
        "return [box.left, lane.top, box.width]; })()")
    pixel = (width - 96) / 200  # margins of the picture: 84 and 12
    page.mouse("mouseMoved", left + 84 + 62 * pixel, top + 20)
    tip = page.evaluate("document.getElementById('tip').innerText")
    assert report.frame.layers[step.layer]["name"] in tip and step.opcode.name in tip
    assert f"cycles {step.pop:,} – {step.end - 1:,} ({step.occupancy:,})" in tip
    assert f"before: {step.wait.cycles:,} cycles" in tip
    page.mouse("mousePressed", left + 84 + 62 * pixel, top + 20, button="left", clickCount=1)
    page.mouse("mouseMoved", left + 84 + 112 * pixel, top + 20, button="left", buttons=1)
    page.mouse("mouseReleased", left + 84 + 112 * pixel, top + 20, button="left", clickCount=1)
    assert cycles_of(page.evaluate(VIEW)) == pytest.approx([step.pop - 110, step.pop + 90, 200],
                                                           abs=1)


def test_sorting(report, show):
    page = show()
    for _ in range(2):
        page.evaluate("document.querySelectorAll('#layers th button')[6].click()")
    rows = page.evaluate("[...document.querySelectorAll('[data-layer]')]"
                         ".map((row) => row.dataset.layer)")
    busy = {row["name"]: row["busy"] for row in report.figures["layers"]}
    assert [busy[name] for name in rows] == sorted(busy.values(), reverse=True)


def test_equal_builds_give_equal_pages(text, digits_build):
    assert page_html(make_report(digits_build)) == text and len(text) < 200_000
