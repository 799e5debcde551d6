"""The board in headless Chromium: somebody comes on shift, listens, labels, on a phone in the dark."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from asdcore.recordings.catalog import Catalog
from asdcore.storage.home import Home

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the board was seen in no browser")
HEADLESS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Browser:
    """Chromium, by its DevTools protocol over two pipes: messages are JSON, each followed by a NUL."""

    def __init__(self, profile: Path) -> None:
        (reads, self._to), (self._from, writes) = os.pipe(), os.pipe()
        arguments = [*HEADLESS, *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]

        def pipes() -> None:  # Chromium reads from descriptor 3 and writes to 4.
            kept = os.dup(reads), os.dup(writes)
            for descriptor, wanted in zip(kept, (3, 4), strict=True):
                os.dup2(descriptor, wanted)

        self._process = subprocess.Popen(
            [str(CHROMIUM), *arguments], stderr=subprocess.DEVNULL, preexec_fn=pipes, close_fds=False
        )
        os.close(reads)
        os.close(writes)
        self._rest, self._number, self._session = b"", 0, ""
        (page,) = [one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self("Page.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        read: dict[str, Any] = json.loads(message)
        return read

    def run(self, script: str) -> Any:
        """The value of a script in the page, which itself may run none: DevTools is not bound by its policy."""
        done = self("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def open(self, url: str) -> None:
        self.run("window.left = true")
        self("Page.navigate", url=url)
        self._wait_for_another_page()

    def click(self, selector: str) -> None:
        """Click on what leads to another page."""
        self.run(f"window.left = true; document.querySelector({json.dumps(selector)}).click()")
        self._wait_for_another_page()

    def _wait_for_another_page(self) -> None:
        until = time.monotonic() + 60
        while self.run("window.left === true || document.readyState !== 'complete'"):
            assert time.monotonic() < until
            time.sleep(0.05)

    def look(self, path: Path) -> None:
        """A picture, to see what went wrong."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
def served(home: Home, tmp_path: Path) -> Iterator[tuple[Home, str, "subprocess.Popen[str]"]]:
    """A copy of the home, the address of its board, which asks for a token, and the process of `asd board`."""
    own = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    command = [sys.executable, "-m", "flows.cli", "board", "--port", "0", "--home", str(own.root)]
    environment = os.environ | {"ASD_BOARD_TOKEN": "nobody guesses this", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    # A token that somebody has chosen is not printed.
    yield own, f"{process.stdout.readline().strip()}?token=nobody%20guesses%20this", process
    process.kill()
    process.wait()


def sign_in(browser: Browser, address: str) -> None:
    """Open the address that was printed; its page goes on to the machines by itself."""
    browser.open(address)
    until = time.monotonic() + 60
    while browser.run("document.title + document.readyState") != "Machines, asdcomplete":
        assert time.monotonic() < until
        time.sleep(0.1)


WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_somebody_comes_on_shift_listens_and_labels(browser: Browser, served: Any, tmp_path: Path) -> None:
    home, address, process = served
    browser("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.open(address.partition("?")[0])
    assert browser.run("document.title") == "Access token, asd"
    sign_in(browser, address)
    assert "token" not in browser.run("location.href + document.cookie")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    assert browser.run(WIDER) == 0
    browser.click(".title a")
    assert browser.run("document.title") == "pump, asd" and browser.run(WIDER) == 0
    assert browser.run("(box => box.scrollLeft + box.clientWidth)(document.querySelector('.newest'))") > 0
    (url,) = browser.run(
        "[...document.querySelectorAll('td a')].filter(a => a.text == 'b.wav').slice(0, 1).map(a => a.href)"
    )
    browser.open(url)
    assert browser.run(WIDER) == 0
    heard = browser.run(
        "Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise(done => {"
        "audio.onloadeddata = () => done(audio.duration); audio.onerror = () => done(audio.error.message);"
        "audio.preload = 'auto'; audio.load(); })))"
    )
    assert heard == [2.0, 2.0]
    assert browser.run("[...document.querySelectorAll('svg image')].map(one => one.getBBox().width > 0)") == [True] * 3
    browser.run("document.querySelector('#by').value = 'Anna'")
    browser.click("button.normal")
    said = browser.run("document.querySelector('#label + .card').innerText")
    assert re.search(r"Labelled normal by Anna", said), browser.look(tmp_path / "seen.png")
    rows = Catalog(home.recordings).recordings.set_index("recording")
    assert rows.loc[url.rpartition("/")[2], "label"] == "normal"
    process.send_signal(signal.SIGINT)  # Ctrl-C, while the browser keeps its connection open
    assert process.wait(60) == 130


def test_a_page_of_another_site_labels_nothing(browser: Browser, served: Any, tmp_path: Path) -> None:
    home, address, _ = served
    sign_in(browser, address)
    before = sorted(home.recordings.iterdir())
    where = f"{address.partition('?')[0]}recordings/{Catalog(home.recordings).recordings['recording'][0]}/label"
    page = f'<form method="post" action="{where}"><button name="label" value="anomaly"></button></form>'
    (tmp_path / "elsewhere.html").write_text(page)
    browser.open((tmp_path / "elsewhere.html").as_uri())
    browser.click("button")
    assert "Not from here" in browser.run("document.title")
    assert sorted(home.recordings.iterdir()) == before
