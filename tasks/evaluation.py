"""The evaluation stage: score the test recordings with every system, and show the metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from matplotlib.figure import Figure
from prefect.artifacts import create_markdown_artifact

from asdcore.encoder.network import TrainedEncoder
from asdcore.evaluation.scores import score_table
from asdcore.evaluation.systems import System
from asdcore.evaluation.table import (
    differences,
    html,
    labelled,
    latex,
    markdown,
    results_table,
    systems_of,
    with_published,
)
from asdcore.plots import evaluation as plots
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from tasks.normality import Models, Stores
from tasks.stage import Artifact, Facts, stage

SCORES, TABLE, DIFFERENCES = "scores.parquet", "results.parquet", "differences.parquet"


class Evaluation(TypedDict):
    """Where an evaluation is; paths relative to the home."""

    scores: str
    plots: str
    """folder of the plots, and of the table in four formats"""
    table: str | None
    """None: there are no labelled test recordings, so no metrics can be given"""
    differences: str | None
    official_scores: dict[str, float]
    """system: harmonic mean of AUC source, AUC target and pAUC, percent"""


@stage("runs/evaluations/{key}/")
def evaluate(
    out: Path,
    test: pd.DataFrame,
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    encoder: Artifact | None,
    simulated: bool,
    published: bool,
) -> Facts:
    """Scores of all test recordings by all systems, the table of metrics in four formats, and the plots."""
    store_paths = {source: store.path for source, store in stores.items()}
    model_paths = {name: {machine: model.path for machine, model in fitted.items()} for name, fitted in models.items()}
    scores = score_table(test, systems, store_paths, model_paths)
    scores.to_parquet(out / SCORES)
    if encoder is not None and (history := TrainedEncoder.load(encoder.path).history):
        _save(plots.training_plot(history), out / "training.png")
    by_system = {str(name): labelled(rows) for name, rows in scores.groupby("system", sort=False)}
    by_system = {name: rows for name, rows in by_system.items() if len(rows)}
    if not by_system:
        return {"official_scores": {}}
    note = " (simulated machines)" if simulated else ""
    table = results_table(by_system)
    table = with_published(table) if published else table
    compared = differences(by_system)
    first = next(iter(by_system))
    drawn = {
        "scores": plots.score_plot(by_system[first], f"Scores of {first}{note}"),
        "roc": plots.roc_plot(by_system, f"ROC by machine{note}"),
        "harmonic_means": plots.harmonic_mean_plot(table, f"Systems side by side{note}"),
        "distributions": plots.distribution_plot(by_system, f"Scores by machine, domain and label{note}"),
    }
    for name, plot in drawn.items():
        _save(plot, out / f"{name}.png")
    (out / "results.md").write_text(markdown(table, compared) + "\n", encoding="utf-8")
    (out / "results.tex").write_text(latex(table, compared) + "\n", encoding="utf-8")
    (out / "results.html").write_text(html(table, f"Results{note}", compared), encoding="utf-8")
    table.to_parquet(out / TABLE)
    compared.to_parquet(out / DIFFERENCES)
    means = table.iloc[-1]
    return {"official_scores": {name: float(means[name]) for name in systems_of(table)}}


def evaluation(
    recordings: pd.DataFrame,
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    encoder: Artifact | None = None,
    published: bool = False,
) -> Evaluation:
    """Evaluate these systems; the scores are also kept with all other scores of the home."""
    home = Home.current()
    test = recordings[recordings["split"] == "test"].drop(columns=["ingested_at", "labelled_at"])
    needed = {system.name: models[system.name] for system in systems}
    done = evaluate(test, systems, stores, needed, encoder, any_simulated(recordings), published)
    scores = home.scores / f"evaluation-{done.path.name}.parquet"
    if not scores.exists():
        with atomic_write(scores) as temporary:
            temporary.write_bytes((done.path / SCORES).read_bytes())
        home.send()
    folder = done.path.relative_to(home.root)
    with_table = (done.path / TABLE).exists()
    return {
        "scores": str(scores.relative_to(home.root)),
        "plots": str(folder),
        "table": str(folder / TABLE) if with_table else None,
        "differences": str(folder / DIFFERENCES) if with_table else None,
        "official_scores": dict(done.facts["official_scores"]),
    }


def any_simulated(recordings: pd.DataFrame) -> bool:
    """Whether a metric made from these recordings must be called simulated."""
    return bool(recordings["attributes"].str.contains('"simulated"').any())


def report_text(table: pd.DataFrame | None, compared: pd.DataFrame | None, notes: list[str], simulated: bool) -> str:
    """The results in Markdown: the table, then what one should know about it."""
    what = "Results on simulated machines" if simulated else "Results"
    body = "There are no labelled test recordings: no metrics can be given."
    if table is not None:
        body = markdown(table, compared)
    explained = (
        "In percent; 50 is chance. Intervals: over the test recordings. `detector`: the fused score of the scorers "
        "beside it. `spectrum`: no network, the spectrum averaged over time, with `-deviation` its deviation, too; "
        "`change`: no network, its change from frame to frame. `ml`, `elliptic`, `ledoit_wolf`, `tied`, `knn`: the "
        "normality model, of `z` or `h` of the network."
    )
    return "\n\n".join([f"## {what}", body, explained, *(f"- {note}" for note in notes)])


def read_tables(done: Mapping[str, Any]) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The results table and the differences of an evaluation; None where there were no labelled test recordings."""
    root = Home.current().root
    if not done["table"]:
        return None, None
    return pd.read_parquet(root / done["table"]), pd.read_parquet(root / done["differences"])


def publish(key: str, text: str) -> None:
    """Show a report in the Prefect UI."""
    create_markdown_artifact(key=key, markdown=text)


def _save(plot: Figure, path: Path) -> None:
    plot.savefig(path, format="png", dpi=110)
