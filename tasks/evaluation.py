"""The evaluation stage: score the test recordings with every system, and show the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from prefect import task
from prefect.artifacts import create_markdown_artifact

from asdcore.encoder.network import TrainedEncoder
from asdcore.evaluation.systems import DetectorSystem, System, VectorSystem
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
from asdcore.features.store import Store
from asdcore.normality.calibration import Calibration
from asdcore.plots import evaluation as evaluation_plots
from asdcore.recordings.catalog import Catalog
from asdcore.storage.files import atomic_write, digest_of
from asdcore.storage.home import Home
from tasks.baselines import read_autoencoder
from tasks.normality import Models, Stores, read_machine, read_model
from tasks.stage import CACHED, Result, claim, code_version, run_cached

CHALLENGE_RATE = 0.1
"""False-alarm rate of the decisions in the challenge's files."""
DESCRIBED = ["recording", "path", "machine", "section", "domain", "label"]


@task(name="evaluate", **CACHED)
def evaluate(
    key: str,
    home: Home,
    machines: list[str],
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    encoder: Path | None,
    simulated: bool,
    published: bool,
) -> Result:
    """Scores of all test recordings by all systems, the table of figures in four formats, and the plots, as files.

    Without labelled test recordings there is no table of figures, and the result says so.
    """
    catalog = Catalog(home.recordings).of_machines(machines)
    scores = score_table(catalog[catalog["split"] == "test"], systems, stores, models)
    folder = home.runs / "evaluations" / key
    files = [home.scores / f"evaluation-{key}.parquet"]
    with atomic_write(files[0]) as temporary:
        scores.to_parquet(temporary)
    if encoder is not None:
        files.append(
            _save(evaluation_plots.training_plot(TrainedEncoder.load(encoder).history), folder / "training.png")
        )
    values: dict[str, Any] = {"scores": _below(home, files[0]), "official_scores": {}, "table": None}
    of_systems = {str(name): labelled(own) for name, own in scores.groupby("system", sort=False)}
    of_systems = {name: own for name, own in of_systems.items() if len(own)}
    if of_systems:
        note = " (simulated machines)" if simulated else ""
        table = results_table(of_systems)
        table = with_published(table) if published else table
        compared = differences(of_systems)
        chosen = next(iter(of_systems))
        plots = {
            "scores": evaluation_plots.score_plot(of_systems[chosen], f"Scores of {chosen}{note}"),
            "roc": evaluation_plots.roc_plot(of_systems, f"ROC by machine{note}"),
            "harmonic_means": evaluation_plots.harmonic_mean_plot(table, f"Systems side by side{note}"),
            "distributions": evaluation_plots.distribution_plot(
                of_systems, f"Scores by machine, domain and label{note}"
            ),
        }
        files += [_save(plot, folder / f"{name}.png") for name, plot in plots.items()]
        texts = {
            "results.md": markdown(table, compared) + "\n",
            "results.tex": latex(table, compared) + "\n",
            "results.html": html(table, f"Results{note}", compared),
        }
        for name, text in texts.items():
            files.append(folder / name)
            with atomic_write(files[-1]) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for name, frame in (("results.parquet", table), ("differences.parquet", compared)):
            files.append(folder / name)
            with atomic_write(files[-1]) as temporary:
                frame.to_parquet(temporary)
        last = table.iloc[-1]
        values["official_scores"] = {name: float(last[name]) for name in systems_of(table)}
        values["table"] = _below(home, folder / "results.parquet")
        values["differences"] = _below(home, folder / "differences.parquet")
    return {"files": claim(home, *files), "values": values | {"figures": _below(home, folder)}}


def evaluation(
    home: Home,
    recordings: pd.DataFrame,
    systems: Sequence[System],
    stores: Stores,
    models: Models,
    encoder: Path | None = None,
    published: bool = False,
) -> Result:
    """The result of `evaluate` for these recordings and models."""
    test = recordings[recordings["split"] == "test"]
    rows = test[DESCRIBED].itertuples(index=False)
    fitted = [(each.name, machine, path.stem) for each in systems for machine, path in models[each.name].items()]
    code = code_version("evaluation", "plots", "baselines", "normality", "features/store.py")
    simulated = any_simulated(recordings)
    decided = f"{encoder and encoder.parent.name} {published} {simulated} {CHALLENGE_RATE}"
    key = digest_of(code, decided, *(" ".join(row) for row in [*fitted, *rows]))
    return run_cached(
        evaluate,
        key=key,
        home=home,
        machines=sorted(set(recordings["machine"])),
        systems=systems,
        stores=stores,
        models=models,
        encoder=encoder,
        simulated=simulated,
        published=published,
    )


def any_simulated(recordings: pd.DataFrame) -> bool:
    """Whether a figure made from these recordings must be called simulated."""
    return bool(recordings["attributes"].str.contains('"simulated"').any())


def score_table(test: pd.DataFrame, systems: Sequence[System], stores: Stores, models: Models) -> pd.DataFrame:
    """One row a test recording and system: what it is, its score, and the decision of systems that take one."""
    tables = [
        own[DESCRIBED].assign(
            system=system.name, **_scores(system, own["recording"], stores, models[system.name][machine])
        )
        for system in systems
        for machine, own in ((str(name), own) for name, own in test.groupby("machine"))
    ]
    if not tables:
        return pd.DataFrame(columns=[*DESCRIBED, "system", "score", "decision"])
    table = pd.concat(tables, ignore_index=True)
    return table.astype({"decision": "Int64"})


def _scores(system: System, recordings: "pd.Series[str]", stores: Stores, model: Path) -> dict[str, Any]:
    if isinstance(system, DetectorSystem):
        by_scorer = {scorer: _vectors(part, recordings, stores) for scorer, part in system.scorers}
        verdict = read_machine(model).verdict(by_scorer, CHALLENGE_RATE)
        return {name: verdict[name].to_numpy() for name in ("score", "decision")}
    if isinstance(system, VectorSystem):
        vectors = _vectors(system, recordings, stores)
        fitted = read_model(model)
        distances = fitted.distance(vectors)
        own = fitted.left_out_
        alarms = None if own is None else Calibration().fit(own).decision(distances, CHALLENGE_RATE).astype(int)
        return {"score": distances, "decision": alarms}
    store, autoencoder = Store(stores["original"]), read_autoencoder(model)
    originals = (store.read(recording, "original") for recording in recordings)
    scores = [autoencoder.score(each, system.score, per_frame_mean=system.per_frame_mean) for each in originals]
    decisions = [int(score > autoencoder.thresholds[system.score]) for score in scores]
    return {"score": scores, "decision": None if system.per_frame_mean else decisions}


def _vectors(system: VectorSystem, recordings: "pd.Series[str]", stores: Stores) -> NDArray[np.float32]:
    store = Store(stores[system.source])
    return np.stack([store.read(recording, system.column) for recording in recordings])


def report_text(table: pd.DataFrame | None, compared: pd.DataFrame | None, notes: list[str], simulated: bool) -> str:
    """The results in Markdown: the table, then what one should know about it."""
    what = "Results on simulated machines" if simulated else "Results"
    body = "There are no labelled test recordings: no figures can be given."
    if table is not None:
        body = markdown(table, compared)
    explained = (
        "In percent; 50 is chance. Intervals: over the test recordings. `ml`, `elliptic`, `ledoit_wolf`, `tied`, "
        "`knn`: the normality model, of `z` or `h`; `spectrum`: no network, the spectrum averaged over time, with "
        "`-deviation` its deviation, too; `change`: its change from frame to frame; `detector`: all scorers fused."
    )
    return "\n\n".join([f"## {what}", body, explained, *(f"- {note}" for note in notes)])


def read_tables(home: Home, result: Result) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The results table and the differences of an evaluation; None where there were no labelled test recordings."""
    values = result["values"]
    if not values["table"]:
        return None, None
    return pd.read_parquet(home.root / values["table"]), pd.read_parquet(home.root / values["differences"])


def publish(key: str, text: str) -> None:
    """Show a report in the Prefect UI."""
    create_markdown_artifact(key=key, markdown=text)


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def _below(home: Home, path: Path) -> str:
    return str(path.relative_to(home.root))
