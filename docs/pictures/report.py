"""Take a picture of a report that docs/how-to/plant.md shows, with headless Chromium: top and first recording.

    apt-get install chromium && pip install playwright
    python docs/pictures/report.py REPORT PICTURE

where REPORT is the file that `asd score` or `asd screen` names, of simulated machines.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, MARGIN = 1000, 14


def main(report: Path, picture: Path) -> None:
    """Take the picture, and store it with few colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(report.resolve().as_uri())
        first = page.locator("#recording-1").bounding_box()
        assert first is not None
        height = first["y"] + first["height"] + MARGIN
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()
    with Image.open(picture) as taken:
        taken.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
