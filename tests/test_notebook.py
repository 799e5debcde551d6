"""The example notebooks run from their first to their last cell, and show what they say."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

nbformat = pytest.importorskip("nbformat", reason="the dev extra has nbformat")
nbclient = pytest.importorskip("nbclient", reason="the dev extra has nbclient")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
SECONDS = 240  # for a cell, on a busy computer

Cells = Mapping[str, Any]


def run(name: str, folder: Path) -> Cells:
    """The code cells after they have run, by their id, in a folder that is not the checkout."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: Any) -> str:
    """Whatever a cell prints or displays, tables as HTML."""
    data = [output.get("data", {}) for output in cell["outputs"]]
    printed = [output.get("text", "") for output in cell["outputs"]]
    return "\n".join(printed + [part.get("text/html") or part.get("text/plain", "") for part in data])


def table(cell: Any) -> pd.DataFrame:
    """The table that a cell displays, its first columns the index: their headings have no other."""
    (html,) = [output["data"]["text/html"] for output in cell["outputs"] if "text/html" in output.get("data", {})]
    rows = re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    cells = [re.findall(r"<t([hd])[^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    heading = [text for _, text in cells[0]]
    values = [[float(text) for kind, text in row if kind == "d"] for row in cells if any(k == "d" for k, _ in row)]
    names = [" ".join(text for kind, text in row if kind == "h") for row in cells if any(k == "d" for k, _ in row)]
    return pd.DataFrame(values, index=names, columns=heading[-len(values[0]) :])


def has_picture(cell: Any) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell["outputs"])


@pytest.mark.slow  # half a minute
def test_a_detector_fitted_in_the_notebook_scores_simulated_recordings(tmp_path: Path) -> None:
    cells = run("detector.ipynb", tmp_path)
    assert "['simFan', 'simValve']" in shown(cells["detector"])
    scores = shown(cells["scores"])
    assert "triggered_by" in scores and "_test_anomaly_" in scores
    assert "AUC on simulated recordings" in shown(cells["auc"])


@pytest.mark.slow  # a quarter of a minute, as the others below
def test_an_encoder_of_ones_own_is_compared_and_hears_what_it_was_made_for(tmp_path: Path) -> None:
    cells = run("own_encoder.ipynb", tmp_path)
    auc = table(cells["auc"])
    assert list(auc.columns) == ["spectrum", "base encoder", "modulation", "modulation, fused"]
    assert list(auc.index) == ["tonal", "modulated", "impulsive"]
    assert auc.loc["modulated", "modulation"] > 0.9 > auc.loc["modulated", "spectrum"]
    assert auc.loc["tonal", "modulation"] < auc.loc["tonal", "spectrum"]
    assert has_picture(cells["ladder"])


@pytest.mark.slow
def test_a_back_end_of_ones_own_is_compared_with_intervals(tmp_path: Path) -> None:
    cells = run("own_back_end.ipynb", tmp_path)
    left_out, other, strange = map(float, re.findall(r"(\d+\.\d+)", shown(cells["alone"])))
    assert 0.5 < left_out / other < 2 and strange > 5 * other
    auc = table(cells["auc"])
    assert list(auc.columns) == ["residual", "standardised_knn", "spectrum"]
    assert list(auc.index) == ["simFan", "simValve"] and auc.min(axis=None) > 0.5
    assert shown(cells["difference"]).count("standardised_knn") == 2 and has_picture(cells["difference"])


@pytest.mark.slow
def test_a_dataset_of_ones_own_is_asked_about_described_and_scored(tmp_path: Path) -> None:
    cells = run("own_dataset.ipynb", tmp_path)
    assert "the folder P7 lies beside OK: are its recordings normal, anomalous" in shown(cells["look"])
    assert "not listed: ['trial.flac']" in shown(cells["check"])
    assert "0000.flac" in shown(cells["check"])
    assert "0003.flac: empty: the file has 0 bytes" in shown(cells["detector"])
    assert "{'unit A': 37, 'unit B': 37}" in shown(cells["detector"])
    assert table(cells["scores"]).sum(axis=None) == 2 * (10 + 12)
    assert has_picture(cells["picture"])


@pytest.mark.slow
def test_a_fault_of_ones_own_climbs_the_ladder(tmp_path: Path) -> None:
    cells = run("own_fault.ipynb", tmp_path)
    assert "rubbing" in shown(cells["simulate"])
    ladder = table(cells["table"])
    assert list(ladder.columns) == ["spectrum", "change", "embedding", "detector"] and len(ladder) == 2 * 3
    rubbing = ladder[:3]["detector"].tolist()
    assert rubbing == sorted(rubbing) and rubbing[0] < 0.7 and rubbing[-1] > 0.95
    assert has_picture(cells["look"]) and has_picture(cells["ladder"])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_is_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert [cell["id"] for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []
