"""The reports in headless Chromium: they play, fit on a phone, and print."""

import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pandas as pd
import pytest

from asdcore.heard import score_table
from asdcore.reports.day import day_report
from asdcore.reports.fitted import Decision, Step, Verdicts, fitted_report
from asdcore.reports.known import Known
from asdcore.reports.score import score_report
from asdcore.reports.screening import screening_report
from asdcore.screening import listen_and_screen
from asdcore.settings import NormalitySettings, Settings
from tests.asdcore.reports.conftest import hum, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the report was seen in no browser")
HEADLESS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PHONE = 390
"""pixels"""
LOOK = f"""<!DOCTYPE html><iframe width="{PHONE}" height="800" frameborder="0" src="/report"></iframe><script>
document.querySelector("iframe").onload = async event => {{
  const page = event.target.contentDocument, seen = {{sounds: [], broken: []}};
  for (const audio of page.querySelectorAll("audio")) {{
    audio.preload = "auto";
    await new Promise(done => {{ audio.onloadeddata = audio.onerror = done; audio.load(); }});
    seen.sounds.push(audio.error ? audio.error.message : audio.duration);
  }}
  for (const image of page.querySelectorAll("image")) {{
    const copy = new Image();
    copy.src = image.getAttribute("href");
    await copy.decode().catch(() => seen.broken.push(copy.src.slice(0, 40)));
  }}
  seen.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
  fetch("/seen", {{method: "POST", body: JSON.stringify(seen)}});
}};
</script>"""


@pytest.fixture(scope="module")
def reports(plant) -> dict[str, str]:
    """kind: page, each with one recording beside another."""
    files = [plant.recording("new/whistle.wav", 100, whistle=1.0), plant.recording("new/quiet.wav", 101)]
    known, heard = Known(plant.table), list(plant.detector.listen(files))
    scores = score_table(heard).assign(detector="1")
    stand_out = pd.DataFrame([(str(plant.training[3]), "pump", "change")], columns=["path", "machine", "found_by"])
    steps, done = [Step("Score:", "asd score")], Decision("Version 1 is the champion", True, ["It is better."])
    odd = plant.folder / "odd" / "pump"
    for seed in range(12):
        write(odd / f"{seed}.wav", hum(seed, 120.0 + seed, whistle=float(seed == 3)))
    settings = Settings(normality=NormalitySettings(scorers=("change", "spectrum")))
    return {
        "score": score_report(plant.detector, heard, known),
        "day": day_report(plant.detector, scores, known, since="2026-05-01 00:00", version="1"),
        "fitted": fitted_report(plant.detector, ["pump"], known, done, Verdicts(), stand_out, steps, title="Fit"),
        "screening": screening_report(listen_and_screen(odd.parent, settings=settings), "odd"),
    }


def looked_at(report: str, profile: Path) -> dict[str, Any]:
    """What `LOOK` has seen of a report. The page runs none, so a script beside it looks into it."""
    seen: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (report if self.path == "/report" else LOOK).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [str(CHROMIUM), *HEADLESS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return seen.get(timeout=90)
    finally:
        browser.terminate()
        browser.wait(30)
        server.shutdown()


@pytest.mark.parametrize("kind", ["score", "day", "fitted", "screening"])
def test_both_sounds_play_all_pictures_are_seen_and_nothing_is_wider_than_a_phone(
    reports: dict[str, str], tmp_path: Path, kind: str
) -> None:
    seen = looked_at(reports[kind], tmp_path / "profile")
    assert seen == {"sounds": [2.0, 2.0], "broken": [], "overflow": 0}


@pytest.mark.parametrize("kind", ["score", "fitted", "screening"])
def test_it_prints_on_a_few_pages(reports: dict[str, str], tmp_path: Path, kind: str) -> None:
    (tmp_path / "report.html").write_text(reports[kind], encoding="utf-8")
    pdf = tmp_path / "report.pdf"
    command = [str(CHROMIUM), *HEADLESS, f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}"]
    subprocess.run([*command, (tmp_path / "report.html").as_uri()], capture_output=True, timeout=120, check=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 4
