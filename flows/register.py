"""The flow `register`: the last stage of a retraining, repeated if the MLflow store did not answer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.recordings.training import hold_out
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write, listed
from asdcore.storage.home import Home, without_userinfo
from tasks.evaluation import Evaluation
from tasks.fit_reports import kept_report, retraining_report
from tasks.no_answer import NoAnswerError
from tasks.promotion import decided, gate_sentence, judgement_text
from tasks.publishing import publish_report
from tasks.registry import champion_version, describe_version, registered_version, version_description
from tasks.run_names import run_name
from tasks.screening import StandOut, listen_first
from tasks.tracking import failed_if_it_fails, log_evaluation, log_judgement, log_reliability
from tasks.warn import warn


class Registered(Evaluation):
    """A registered detector, and the evaluation of it."""

    version: str
    champion: str
    """the version that is the champion now"""
    judgement: dict[str, Any] | None
    """of the gate; None if there was no other champion to compare with"""
    run: str
    """of MLflow"""
    report: str
    """Markdown"""
    page: str
    """HTML file; empty: it could not be written"""
    system: str
    """the system that gives the scores of the detector"""
    detector: str
    """its folder"""
    listen_first: list[str]
    """lines about the training recordings that stand out, see `tasks.screening`"""


class Waiting(TypedDict):
    """What the last stage of a retraining needs; files as text."""

    encoder: str
    detector: str
    reliability: dict[str, str]
    evaluation: Evaluation
    report: str
    metrics: dict[str, float]
    stand_out: list[StandOut]
    tags: dict[str, str]


@flow(name="register", flow_run_name=run_name)
def register(run: str | None = None, home: Path | None = None) -> list[Registered]:
    """Register the detectors of retrainings that ended before their last stage. Nothing is trained again.

    Args:
        run: the MLflow run of the retraining; default: all unregistered ones.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        For each, the same as `retrain`.

    Raises:
        AsdError: this run is not waiting to be registered.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn):
        waiting = [path.stem for path in listed(_folder(place), "*.json")]
        if run is not None and run not in waiting:
            raise AsdError(f"run {run} is not waiting to be registered; waiting are: {', '.join(waiting) or 'none'}")
        return [registered(place, name) for name in waiting if run in (None, name)]


def keep_for_registration(home: Home, run: str, waiting: Waiting, recordings: pd.DataFrame) -> None:
    """Save what the last stage of a retraining needs, so that it can run even if this process ends before.

    ``recordings``: the table of recordings as it was when it began.
    """
    with atomic_write(_recordings(home, run)) as temporary:
        recordings.to_parquet(temporary)
    with atomic_write(_folder(home) / f"{run}.json") as temporary:
        temporary.write_text(json.dumps(waiting))


def registered(home: Home, run: str) -> Registered:
    """Log metrics and reports, register the detector and apply the gate; the retraining is then complete."""
    file = _folder(home) / f"{run}.json"
    waiting: Waiting = json.loads(file.read_text())
    detector, result, report = Path(waiting["detector"]), waiting["evaluation"], waiting["report"]
    loaded = Detector.load(detector)
    settings, machines = loaded.settings, sorted(loaded.machines)
    with _kept(detector, run), failed_if_it_fails(home, run):
        encoder, metrics = waiting["encoder"], waiting["metrics"]
        log_evaluation(home.registry, run, settings, encoder, result["plots"], result["table"], report, metrics)
        log_reliability(home, run, {machine: Path(folder) for machine, folder in waiting["reliability"].items()})
        tags = waiting["tags"] | {"parent": champion_version(home)}
        version = registered_version(home, run, detector, tags)
        judged = decided(home, version, detector, _to_judge_by(home, run, machines, settings), settings)
        if judged is not None:
            report += f"\n\n{judgement_text(judged, version)}\n"
            log_judgement(home, run, judgement_text(judged, version))
        champion = champion_version(home)
        system, stand_out = waiting["tags"]["system"], waiting["stand_out"]
        if judged is None and (said := version_description(home, version)):
            # It was judged, described and reported when it was registered.
            verdict, page = said.splitlines()[0], kept_report(home, version)
        else:
            verdict = gate_sentence(judged, version, champion)
            page = retraining_report(home, loaded, version, champion, judged, result, system, stand_out)
            publish_report(home, run, "retrain-page", page)
            describe_version(home, version, "\n".join([verdict, "", *(f"- {line}" for line in result["outcomes"])]))
    shown = f"**{verdict}**\n\n{report}\n\nMLflow run `{run}`, asd-detector version {version}.\n"
    create_markdown_artifact(key="retrain-report", markdown=shown, description=verdict)
    file.unlink()
    _recordings(home, run).unlink()
    return {
        **result,
        "version": version,
        "champion": champion,
        "judgement": judged,
        "run": run,
        "report": report,
        "page": page,
        "system": system,
        "detector": str(detector),
        "listen_first": listen_first(stand_out),
    }


def _to_judge_by(home: Home, run: str, machines: list[str], settings: Settings) -> pd.DataFrame:
    """The recordings for the gate: those that the retraining began with, whatever has become of them since.

    What arrived later, the challenger has not learned, and by later labels other recordings would be held out.
    """
    rows = pd.read_parquet(_recordings(home, run))
    return hold_out(rows[rows["machine"].isin(machines)].reset_index(drop=True), settings.gate.held_out_fraction)


@contextmanager
def _kept(detector: Path, run: str) -> Iterator[None]:
    """If registering fails, raise an error that says where the detector is and how to finish."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AsdError) and not isinstance(error, NoAnswerError):
            raise
        raise AsdError(
            f"the detector is complete, in {detector}, but could not be registered: {without_userinfo(error)}. When "
            f"the store answers again, `asd register {run}` finishes it; nothing is trained again"
        ) from error


def _folder(home: Home) -> Path:
    return home.runs / "registrations"


def _recordings(home: Home, run: str) -> Path:
    return _folder(home) / f"{run}.parquet"
