"""Draw ``docs/pictures/explore.png``: the page of an exploration, as a browser shows it."""

import base64
import io
import pathlib
import sys
import tempfile

from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

WIDTH = 1180


def main(page_file):
    from browser import browser

    with tempfile.TemporaryDirectory() as scratch, browser(pathlib.Path(scratch)) as open_page:
        page = open_page(pathlib.Path(page_file).resolve().as_uri())
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        _resize(page, 900)
        _resize(page, page.evaluate("Math.floor(document.getElementById('bounds')"
                                    ".getBoundingClientRect().bottom + scrollY + 20)"))
        data = base64.b64decode(page.call("Page.captureScreenshot")["data"])
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(256, kmeans=2)
    picture.save(ROOT / "docs" / "pictures" / "explore.png", optimize=True)


def _resize(page, height):
    page.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=height,
              deviceScaleFactor=1, mobile=False)
    page.evaluate("new Promise((done) => setTimeout(done, 500))")


if __name__ == "__main__":
    main(*sys.argv[1:])
