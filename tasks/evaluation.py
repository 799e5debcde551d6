"""The evaluation stage: score the test recordings with every system, and show the figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from prefect import task
from prefect.artifacts import create_markdown_artifact

from asdcore.evaluation.figures import roc_figure, score_figure, training_figure
from asdcore.evaluation.table import labelled, markdown, results_table, systems_of
from asdcore.features.store import Store
from asdcore.home import Home, digest_of, whole_file
from asdcore.recordings.catalog import Catalog
from asdcore.representation.encoder import TrainedEncoder
from asdcore.settings import NormalitySettings
from tasks.caching import CACHED, Result, claim, code_version, run_cached
from tasks.normality import read_model, systems

Models = dict[str, dict[str, Path]]
"""system: machine: npz file"""


@task(name="evaluate", **CACHED)
def evaluate(
    key: str,
    home: Home,
    machines: list[str],
    vectors: Path,
    models: Models,
    encoder: Path,
    settings: NormalitySettings,
    simulated: bool,
) -> Result:
    """Scores of all test recordings by all systems, the table of figures and the plots, as files.

    Without labelled test recordings there is no table of figures, and the result says so.
    """
    catalog = Catalog(home.recordings).of_machines(machines)
    scores = score_table(catalog[catalog["split"] == "test"], vectors, models, settings)
    folder = home.runs / "evaluations" / key
    scores_path = home.scores / f"retrain-{key}.parquet"
    with whole_file(scores_path) as temporary:
        scores.to_parquet(temporary)
    files = [scores_path, _save(training_figure(TrainedEncoder.load(encoder).history), folder / "training.png")]
    of_systems = {str(name): labelled(own) for name, own in scores.groupby("system", sort=False)}
    of_systems = {name: own for name, own in of_systems.items() if len(own)}
    values: dict[str, Any] = {"official_scores": {}, "table": None}
    if of_systems:
        note = " (simulated machines)" if simulated else ""
        chosen = next(iter(of_systems))
        files.append(_save(score_figure(of_systems[chosen], f"Scores of {chosen}{note}"), folder / "scores.png"))
        files.append(_save(roc_figure(of_systems, f"ROC by machine{note}"), folder / "roc.png"))
        table = results_table(of_systems)
        table_path = folder / "results.parquet"
        with whole_file(table_path) as temporary:
            table.to_parquet(temporary)
        files.append(table_path)
        last = table.iloc[-1]
        values["official_scores"] = {name: float(last[name]) for name in systems_of(table)}
        values["table"] = str(table_path.relative_to(home.root))
    return {"files": claim(home, *files), "values": values | {"figures": str(folder.relative_to(home.root))}}


def evaluation(
    home: Home,
    recordings: pd.DataFrame,
    vectors: Path,
    models: Models,
    encoder: Path,
    settings: NormalitySettings,
    simulated: bool,
) -> Result:
    """The result of `evaluate` for these recordings and models."""
    test = recordings[recordings["split"] == "test"]
    rows = test[["recording", "machine", "section", "domain", "label"]].itertuples(index=False)
    names = [f"{system} {machine} {path.stem}" for system, own in models.items() for machine, path in own.items()]
    code = code_version("evaluation", "baselines/spectrum.py")
    key = digest_of(code, vectors.parent.name, *names, *(" ".join(row) for row in rows))
    return run_cached(
        evaluate,
        key=key,
        home=home,
        machines=sorted(set(recordings["machine"])),
        vectors=vectors,
        models=models,
        encoder=encoder,
        settings=settings,
        simulated=simulated,
    )


def score_table(test: pd.DataFrame, vectors: Path, models: Models, settings: NormalitySettings) -> pd.DataFrame:
    """One row a test recording and system: what it is, and its score."""
    store = Store(vectors)
    tables = []
    for system in systems(settings):
        for machine, own in test.groupby("machine"):
            model = read_model(models[system.name][str(machine)])
            embeddings = np.stack([store.read(recording, system.column) for recording in own["recording"]])
            described = own[["recording", "path", "machine", "section", "domain", "label"]]
            tables.append(described.assign(system=system.name, score=model.distance(embeddings)))
    if not tables:
        columns = ["recording", "path", "machine", "section", "domain", "label", "system", "score"]
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)


def report_text(table: pd.DataFrame | None, notes: list[str], simulated: bool) -> str:
    """The result of a retraining in Markdown: the table, then what one should know about it."""
    what = "Results on simulated machines" if simulated else "Results"
    body = markdown(table) if table is not None else "There are no labelled test recordings: no figures can be given."
    explained = (
        "In percent; 50 is chance. Columns: estimator and layer of the normality model, or the spectrum statistic, "
        "which uses no network. The interval: over the test recordings."
    )
    return "\n\n".join([f"## {what}", body, explained, *(f"- {note}" for note in notes)])


def publish(text: str) -> None:
    """Show the report in the Prefect UI."""
    create_markdown_artifact(key="retrain-report", markdown=text, description="Results of a retraining")


def _save(figure: Figure, path: Path) -> Path:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path
