"""Take the pictures of both user interfaces that docs/how-to/operations.md shows, with headless Chromium.

    apt-get install chromium && pip install playwright
    python docs/pictures/screenshots.py PREFECT_URL MLFLOW_URL FOLDER

with the URLs that `asd ui` says. A page that does not come to show what it is about within two minutes is an error.
"""

import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SIZE = {"width": 1280, "height": 860}
COLOURS = 128
PATIENCE_MS = 120_000
WITHOUT_FOLDER = """folder => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, "");
}"""
"""JavaScript: the folder where the pictures were taken is of no interest to anybody."""


def asked(url: str, question: dict[str, Any] | None = None) -> Any:
    """The JSON answer of an API."""
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def newest_retraining(prefect: str) -> str:
    """The id of the newest completed run of the deployment `retrain`."""
    question = {
        "flows": {"name": {"any_": ["retrain"]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "deployment_id": {"is_null_": False}},
        "sort": "START_TIME_DESC",
        "limit": 1,
    }
    if runs := asked(f"{prefect}/api/flow_runs/filter", question):
        return str(runs[0]["id"])
    sys.exit(f"no completed run of the deployment retrain at {prefect}")


def champion(mlflow: str) -> dict[str, Any]:
    """The registered version that is the champion."""
    url = f"{mlflow}/api/2.0/mlflow/registered-models/alias?name=asd-detector&alias=champion"
    return dict(asked(url)["model_version"])


def pages(prefect: str, mlflow: str) -> dict[str, tuple[str, str]]:
    """Name of the picture: address, and a text that is there when the page has what it is about."""
    run, version = newest_retraining(prefect), champion(mlflow)
    experiment = asked(f"{mlflow}/api/2.0/mlflow/runs/get?run_id={version['run_id']}")["run"]["info"]["experiment_id"]
    run_page = f"{mlflow}/#/experiments/{experiment}/runs/{version['run_id']}"
    training = "workflowType=machine_learning"
    return {
        "prefect-runs": (f"{prefect}/runs", "Completed"),
        "prefect-retrain": (f"{prefect}/runs/flow-run/{run}", "Beginning flow run"),
        "prefect-deployments": (f"{prefect}/deployments", "arrivals"),
        "mlflow-run": (f"{run_page}?{training}", "harmonic_mean"),
        "mlflow-machines": (f"{run_page}/artifacts/machines.json?{training}", "false_alarms"),
        "mlflow-model": (f"{mlflow}/#/models/asd-detector?{training}", "@ champion"),
    }


def taken(page: Page, url: str, text: str, path: Path) -> None:
    """Open a page, wait for what it is about, close what lies over it, and store its picture with few colours."""
    page.goto(url)
    page.get_by_text(text).first.wait_for()
    page.wait_for_timeout(5000)  # Graphs and tables move into place.
    for name in ("Got it", "Close", "Dismiss", "Skip"):
        for button in page.get_by_role("button", name=name).all():
            if button.is_visible():
                button.click()
    for tab in page.get_by_text("Artifacts", exact=True).all():
        if "/flow-run/" in url and tab.is_visible():
            tab.click()
    page.wait_for_timeout(3000)
    page.evaluate(WITHOUT_FOLDER, f"file://{Path.cwd()}/")
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main(prefect: str, mlflow: str, folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE_MS)
        for name, (url, text) in pages(prefect.rstrip("/"), mlflow.rstrip("/")).items():
            taken(page, url, text, folder / f"{name}.png")
            print(folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
