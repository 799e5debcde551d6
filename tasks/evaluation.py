"""The evaluation stage: score the test recordings with every system, and show the metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from matplotlib.figure import Figure

from asdcore.encoder.frozen import training_history
from asdcore.evaluation.challenges import DEFAULT_RULE, Rule
from asdcore.evaluation.published import machines_of_the_paper
from asdcore.evaluation.scores import scores_of_systems
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
from asdcore.monitoring.outcomes import outcome_lines, outcomes, with_session_heard
from asdcore.plots import evaluation as plots
from asdcore.plots.outcomes import outcomes_plot
from asdcore.recordings.clips import recording_of
from asdcore.recordings.found import simulated_rows
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from tasks.metrics import OUTCOMES
from tasks.normality import Models, Stores, training_rows
from tasks.stage import Artifact, Facts, stage

CAUGHT = "caught.png"
"""The first picture, also by its name."""
SCORES, TABLE, DIFFERENCES = "scores.parquet", "results.parquet", "differences.parquet"


class Evaluation(TypedDict):
    """Where an evaluation is; paths relative to the home."""

    scores: str
    plots: str
    """folder of the plots, and of the table in four formats"""
    table: str | None
    """None: there are no labelled test recordings, so no metrics can be computed"""
    differences: str | None
    official_scores: dict[str, float]
    """system: by default the harmonic mean of AUC source, AUC target and pAUC; percent"""
    outcomes: list[str]
    """a sentence for each machine: faults caught and false alarms, of the first system that has verdicts"""


@stage("runs/evaluations/{key}/")
def evaluate(
    out: Path,
    test: pd.DataFrame,
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    encoder: Artifact | None,
    published: bool,
    groups: Mapping[str, Sequence[str]],
    false_alarm_rate: float,
    own_rates: Mapping[str, float],
    rule: Rule,
) -> Facts:
    """Scores of all test recordings by all systems, what the verdicts come to, the table of metrics in four formats,
    and the plots.
    """
    store_paths = {source: store.path for source, store in stores.items()}
    model_paths = {name: {machine: model.path for machine, model in fitted.items()} for name, fitted in models.items()}
    scores = scores_of_systems(test, systems, store_paths, model_paths, groups, false_alarm_rate, own_rates)
    scores.to_parquet(out / SCORES)
    judged = scores[scores["verdict"].notna()]
    counted = outcomes(judged[judged["system"] == judged["system"].iloc[0]] if len(judged) else judged)
    counted.to_parquet(out / OUTCOMES)
    note = " (simulated machines)" if any_simulated(test) else ""
    if len(counted):
        _save(outcomes_plot(counted, f"Caught, and false alarms{note}", false_alarm_rate, own_rates), out / CAUGHT)
    lines = outcome_lines(counted, false_alarm_rate, own_rates)
    if encoder is not None and (history := training_history(encoder.path)):
        _save(plots.training_plot(history), out / "training.png")
    by_system = {str(name): labelled(rows) for name, rows in scores.groupby("system", sort=False)}
    by_system = {name: rows for name, rows in by_system.items() if len(rows)}
    if not by_system:
        return {"official_scores": {}, "outcomes": lines}
    table = results_table(by_system, rule)
    if published:
        own = test.assign(recording=test["recording"].map(recording_of)).drop_duplicates("recording")
        table = with_published(table, machines_of_the_paper(own))
    compared = differences(by_system, rule)
    _draw(out, by_system, table, note)
    (out / "results.md").write_text(markdown(table, compared) + "\n", encoding="utf-8")
    (out / "results.tex").write_text(latex(table, compared) + "\n", encoding="utf-8")
    (out / "results.html").write_text(html(table, f"Results{note}", compared, lines), encoding="utf-8")
    table.to_parquet(out / TABLE)
    compared.to_parquet(out / DIFFERENCES)
    means = table.iloc[-1]
    official = {name: float(means[name]) for name in systems_of(table)}
    return {"official_scores": official, "outcomes": lines}


def _draw(folder: Path, scores: Mapping[str, pd.DataFrame], table: pd.DataFrame, note: str) -> None:
    """The plots of labelled scores, by system, and of their results table. ``note``: the end of each title."""
    first = next(iter(scores))
    drawn = {
        "scores": plots.score_plot(scores[first], f"Scores of {first}{note}"),
        "roc": plots.roc_plot(scores, f"ROC by machine{note}"),
        "harmonic_means": plots.harmonic_mean_plot(table, f"Systems side by side{note}"),
        "distributions": plots.distribution_plot(scores, f"Scores by machine, domain and label{note}"),
    }
    for name, plot in drawn.items():
        _save(plot, folder / f"{name}.png")


def evaluation(
    recordings: pd.DataFrame,
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    false_alarm_rate: float,
    encoder: Artifact | None = None,
    published: bool = False,
    own_rates: Mapping[str, float] | None = None,
    rule: Rule = DEFAULT_RULE,
) -> Evaluation:
    """Evaluate these systems; their scores are also copied to the other scores of the home.

    ``own_rates``: of the machines that have a false-alarm rate of their own, see `asdcore.normality.threshold`.
    ``rule``: of the official score.
    """
    home = Home.current()
    described = with_session_heard(recordings)
    test = described[described["split"] == "test"].drop(columns=["ingested_at", "labelled_at"])
    groups = {machine: [group for _, _, group in rows] for machine, rows in training_rows(recordings).items()}
    needed = {system.name: models[system.name] for system in systems}
    done = evaluate(test, systems, stores, needed, encoder, published, groups, false_alarm_rate, own_rates or {}, rule)
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
        "outcomes": list(done.facts["outcomes"]),
    }


def any_simulated(recordings: pd.DataFrame) -> bool:
    """Whether metrics of these recordings have to be marked as simulated."""
    return bool(simulated_rows(recordings).any())


def report_text(done: Evaluation, notes: list[str], simulated: bool) -> str:
    """The results in Markdown: the verdicts, the table of metrics, and notes."""
    table, compared = read_tables(done)
    heading = "Results on simulated machines" if simulated else "Results"
    body = "There are no labelled test recordings: no metrics can be computed."
    if table is not None:
        body = markdown(table, compared)
    legend = (
        "In percent; 50 is chance. Intervals: over the test recordings. `detector`: the fused score of the scorers "
        "beside it. `spectrum`: no network, the spectrum averaged over time, with `-deviation` also its deviation; "
        "`change`: no network, its change from frame to frame. `ml`, `elliptic`, `ledoit_wolf`, `tied`, `knn`, "
        "`standardised_knn`: the normality model, of `z` or `h` of the encoder."
    )
    outcome = "\n".join(f"- {line}" for line in done["outcomes"])
    parts = [f"## {heading}", *([outcome] if outcome else []), body, legend]
    return "\n\n".join([*parts, *(f"- {note}" for note in notes)])


def read_tables(done: Mapping[str, Any]) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The results table and the differences of an evaluation; None if there were no labelled test recordings."""
    root = Home.current().root
    if not done["table"]:
        return None, None
    return pd.read_parquet(root / done["table"]), pd.read_parquet(root / done["differences"])


def _save(plot: Figure, path: Path) -> None:
    plot.savefig(path, format="png", dpi=110)
