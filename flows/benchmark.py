"""The flow `benchmark`: any systems on the same recordings, side by side."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import DEFAULT_RULE, YEAR, Rule, challenge_of
from asdcore.evaluation.systems import NormalitySystem, System, systems_named
from asdcore.recordings.catalog import Catalog
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.failures import completed, failed
from flows.retrain import ingested_machines, trainable, usable_clips
from tasks.cluster import cluster_address, on_cluster
from tasks.comparison import Fitted, embedding_systems, fitted_systems, vector_systems, with_all_features
from tasks.costs import costs
from tasks.datasets import log_recordings
from tasks.encoder import encoder_note
from tasks.evaluation import Evaluation, any_simulated, evaluation, report_text
from tasks.normality import fallback_notes, fit_metrics, fit_table
from tasks.recordings import data_digest
from tasks.run_names import add_to_run_name, counted, run_name
from tasks.tracking import benchmark_key, describe, log_evaluation, tracked_run
from tasks.warn import warn

PAPER_TABLE = ["paper-ml", "paper-elliptic", "baseline-mse", "baseline-mahalanobis", "spectrum"]


class Benchmarked(Evaluation):
    """An evaluation of systems side by side."""

    run: str
    """of MLflow"""
    report: str
    """Markdown"""
    costs: list[dict[str, object]]
    """see `tasks.costs`"""


@flow(name="benchmark", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def benchmark(
    recordings: Path | None = None,
    systems: list[str] = PAPER_TABLE,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    published: bool = False,
    home: Path | None = None,
    year: int = YEAR,
) -> Benchmarked:
    """Fit every system on the normal training recordings, score the test recordings, compare.

    Args:
        recordings: ingest these first, and compare on the machines that are there; default: all that was ingested.
        systems: names; the first is the one that the others are compared with.
        machines: only these machines.
        settings: see `Settings`; what only some systems need is computed for those only.
        published: add the paper's metrics of the machines whose test recordings are the development set's.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.
        year: of the challenge whose rule gives the official score.

    Returns:
        run, official_scores, report, and where scores, tables and plots are.
    """
    rule = challenge_of(year).rule
    if published and rule != DEFAULT_RULE:
        raise AsdError(
            f"the published metrics follow the rule of {YEAR}, not that of {year}: leave out --published or --year"
        )
    place = Home.at(home) if home else Home.default()
    chosen_systems = systems_named(systems, settings.normality)
    vector = vector_systems(chosen_systems)
    with place.lock(warn):
        place.sweep()
        clips = comparable_clips(place, recordings, machines, chosen_systems, settings)
        key = benchmark_key(systems, settings, data_digest(clips), published, rule.text)
        run = tracked_run(place, "benchmark", key, f"benchmark {datetime.now().astimezone():%Y-%m-%d %H:%M}")
        add_to_run_name(f", {counted(len(systems), 'system')} on {counted(clips['machine'].nunique(), 'machine')}")
        log_recordings(place, run, clips, recordings)
        with on_cluster(cluster_address()):
            fitted = fitted_systems(place, clips, chosen_systems, settings, run, key)
            result = comparison(clips, chosen_systems, fitted, settings, published, rule)
        models = fitted.models
        of_vectors = {system.name: models[system.name] for system in vector}
        notes = [*_encoder_notes(vector, settings), *fallback_notes(of_vectors), *_score_notes(published, year)]
        fits = fit_metrics(of_vectors)
        report = report_text(result, notes, any_simulated(clips))
        report += f"\n\n### Normality models\n\n{fit_table(fits)}\n" if fits else ""
        file = str(fitted.encoder.path) if fitted.encoder else None
        log_evaluation(place.registry, run, settings, file, result["plots"], result["table"], report, fits)
        best = sorted(result["official_scores"].items(), key=lambda pair: -pair[1])
        verdict = ", ".join(f"{name} {mean:.2f}" for name, mean in best) or "There are no labelled test recordings"
        described = [f"{rule.mean.capitalize()} means: {verdict}.", "", *(f"- {line}" for line in result["outcomes"])]
        describe(place, run, "\n".join(described))
        create_markdown_artifact(key="benchmark-report", markdown=report, description=verdict)
        cost = costs(chosen_systems, models, fitted.encoders, fitted.originals, clips, settings)
        return {**result, "run": run, "report": report, "costs": cost}


def _encoder_notes(systems: Sequence[NormalitySystem], settings: Settings) -> list[str]:
    """A sentence for each encoder, but for those of the paper's systems, whose names say it."""
    own = [system for system in embedding_systems(systems) if not system.of_paper]
    return [encoder_note(used) for used in dict.fromkeys(system.training(settings.training) for system in own)]


def _score_notes(published: bool, year: int) -> list[str]:
    """What has to be known of the published metrics and of the official score, where the report has other ones."""
    notes = []
    if published:
        notes.append(
            "Published metrics are shown for machines whose test recordings are those of the development set of "
            "2023: 50 of each domain and label with its file names. The name of a machine is not enough."
        )
    if (rule := challenge_of(year).rule) != DEFAULT_RULE:
        notes.append(f"Official score: that of DCASE {year}, {rule.text}.")
    return notes


def comparable_clips(
    home: Home, recordings: Path | None, machines: list[str] | None, systems: Sequence[System], settings: Settings
) -> pd.DataFrame:
    """The clips that systems are compared on, with the spectrograms that these need; the home is locked.

    Raises:
        AsdError: see `usable_clips`.
    """
    found = ingested_machines(home, recordings, settings) if recordings else machines
    clips = usable_clips(Catalog(home.recordings), recordings, machines or found, settings, held_out=0.0)
    return trainable(with_all_features(clips, systems, settings), settings)


def comparison(
    clips: pd.DataFrame,
    systems: Sequence[System],
    fitted: Fitted,
    settings: Settings,
    published: bool = False,
    rule: Rule = DEFAULT_RULE,
) -> Evaluation:
    """Score the test clips with every system, see `evaluation`."""
    rate = settings.normality.false_alarm_rate
    return evaluation(clips, systems, fitted.stores, fitted.models, rate, fitted.encoder, published, rule=rule)
