"""The page in a real browser: figures of the records, pictures, no error and no request."""

import json
import re

import pytest

from bivit.explore.command import run
from browser import browser
from explore_space import SPACE, save_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of a small search."""
    folder = tmp_path_factory.mktemp("explored")
    save_network(folder / "net.safetensors")
    (folder / "space.toml").write_text(SPACE.format(
        network=folder / "net.safetensors", method="grid", designs=9))
    run(folder, file=folder / "space.toml")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    with browser(folder) as open_page:
        yield open_page((folder / "explore.html").as_uri())


def test_page(folder, page):
    content = json.loads((folder / "explore.json").read_text())
    done = [record for record in content["records"] if record["status"] == "done"]
    count = "document.querySelectorAll('{}').length".format
    assert page.evaluate(count("#scatter circle")) == len(done)
    assert page.evaluate(count("#parallel path.thread")) == len(done)
    assert page.evaluate(count("#parallel path.thread.front")) == len(content["front"])
    assert page.evaluate(count("#bounds tr")) == len(content["front"])
    assert page.evaluate(count("#refused tbody tr")) == sum(
        len(record["broken"]) for record in content["records"])
    assert page.evaluate(count("#timeline path.slice")) > 5
    rows = page.evaluate("[...document.querySelectorAll('#designs tbody tr')].map((row) => "
                         "[+row.dataset.number, row.cells[2].dataset.value])")
    assert rows == [[record["number"], str(record["cycles"])] for record in done]
    assert page.evaluate(count("circle.chosen")) == 1
    assert not page.complaints


def test_pointing_at_a_design(folder, page):
    """All parameters on hover; a click marks the design in every picture; axes can be chosen."""
    record = json.loads((folder / "explore.json").read_text())["front"][0]
    where = page.evaluate(
        f"(() => {{ const box = document.querySelector('#scatter [data-number=\"{record['number']}"
        "\"]').getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; "
        "})()")
    page.mouse("mouseMoved", *where)
    tip = page.evaluate("document.getElementById('design-tip').textContent")
    assert page.evaluate("!document.getElementById('design-tip').hidden")
    number = re.search(r"design (\d+)", tip)[1]
    shown = next(one for one in json.loads((folder / "explore.json").read_text())["records"]
                 if one["number"] == int(number))
    for name, value in shown["design"].items():
        assert f"{name} = " in tip and (type(value) is not int or f"{name} = {value}" in tip)
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, *where, button="left", clickCount=1)
    marked = "[...document.querySelectorAll('.picked')].map((one) => +one.dataset.number)"
    assert set(page.evaluate(marked)) == {int(number)} and len(page.evaluate(marked)) >= 3
    before = page.evaluate("document.getElementById('scatter').innerHTML")
    page.evaluate("(() => { const select = document.getElementById('axis-x'); "
                  "select.value = 'memory_kbit'; select.dispatchEvent(new Event('change')); })()")
    assert page.evaluate("document.getElementById('scatter').innerHTML") != before


def test_nothing_is_asked_of_the_network(folder, page):
    text = (folder / "explore.html").read_text()
    assert len(page.requests) == 1 and page.requests[0].startswith("file://")
    assert not re.search(r"(?i)\b(https?|wss?|ftp):|url\(|@import|<link|\bsrc=", text)
