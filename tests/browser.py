"""A page in a headless browser: what became of it, and what the browser had to say."""

import dataclasses
import html.parser
import re
import shutil
import subprocess

import pytest

__all__ = ["Element", "Opened", "open_page"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_CONSOLE = re.compile(r':CONSOLE(?::\d+|\(\d+\))\] "?(.*?)"?,? source:', re.DOTALL)


@dataclasses.dataclass
class Element:
    """An element of the page: tag, attributes, and all text in it."""

    tag: str
    attributes: dict
    text: str = ""


@dataclasses.dataclass
class Opened:
    """The page after its script has run, and the messages of the browser's console."""

    elements: list[Element]
    console: list[str]

    def having(self, **attributes) -> list[Element]:
        """Elements with these attributes; underscores stand for dashes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [element for element in self.elements
                if wanted.items() <= element.attributes.items()]

    def one(self, **attributes) -> Element:
        """The only element with these attributes."""
        (element,) = self.having(**attributes)
        return element


class _Parser(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements, self._open = [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append(Element(tag, dict(attributes)))
        if tag not in ("meta", "br", "img", "link"):
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            element.text += data


def open_page(path, scratch, fragment="") -> Opened:
    """Open a file; the test is skipped where there is no browser.

    Parameters
    ----------
    path : pathlib.Path
    scratch : pathlib.Path
        Folder for the browser's own files.
    fragment : str
        What stands behind the # of the address.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", f"--user-data-dir={scratch / 'profile'}",
        "--enable-logging=stderr", "--window-size=1300,900", "--virtual-time-budget=2000",
        "--dump-dom", f"{path.as_uri()}{fragment and '#'}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0 and "<html" in done.stdout, done.stderr
    parser = _Parser()
    parser.feed(done.stdout)
    return Opened(parser.elements, _CONSOLE.findall(done.stderr))
