"""Draw ``docs/pictures/report.png``: the page of the shipped network, as a browser shows it."""

import base64
import io
import pathlib
import sys
import tempfile

from PIL import Image

from bivit.compiler import compile
from bivit.hw.targets import DEFAULT
from bivit.models.digits import CHECKPOINT
from bivit.sim.report_files import report_with_files

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

WIDTH, SCALE = 1180, 1


def main():
    from browser import browser

    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        compile(CHECKPOINT, DEFAULT, scratch / "digits")
        report_with_files(scratch / "digits", html=scratch / "page.html")
        with browser(scratch) as open_page:
            page = open_page((scratch / "page.html").as_uri() + "#cycles=6100-9400")
            page.call("Emulation.setScrollbarsHidden", hidden=True)
            _resize(page, 900)
            _resize(page, page.evaluate(
                "Math.floor(document.getElementById('h-units').getBoundingClientRect().top"
                " + scrollY - 30)"))  # as high as the timeline's end
            data = base64.b64decode(page.call("Page.captureScreenshot")["data"])
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.save(ROOT / "docs" / "pictures" / "report.png", optimize=True)


def _resize(page, height):
    page.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height,
              deviceScaleFactor=SCALE, mobile=False)
    page.evaluate("new Promise((done) => setTimeout(done, 500))")


if __name__ == "__main__":
    main()
