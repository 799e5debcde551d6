"""The example notebook runs from its first to its last cell."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # trains: minutes

nbformat = pytest.importorskip("nbformat", reason="the dev extra has nbformat")
nbclient = pytest.importorskip("nbclient", reason="the dev extra has nbclient")

NOTEBOOK = Path(__file__).parents[1] / "examples" / "detector.ipynb"
SECONDS = 240


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The code cells after they have run, by their id, in a folder that is not the checkout."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: Any) -> str:
    """Whatever a cell prints or displays, tables as HTML."""
    data = [output.get("data", {}) for output in cell["outputs"]]
    printed = [output.get("text", "") for output in cell["outputs"]]
    return "\n".join(printed + [part.get("text/html") or part.get("text/plain", "") for part in data])


def test_a_detector_fitted_in_the_notebook_scores_simulated_recordings(cells: dict[str, Any]) -> None:
    assert "['simFan', 'simValve']" in shown(cells["detector"])
    scores = shown(cells["scores"])
    assert "triggered_by" in scores and "_test_anomaly_" in scores
    assert "AUC on simulated recordings" in shown(cells["auc"])


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell["id"] for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []
