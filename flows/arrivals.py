"""The flow `arrivals`: new recordings are scored, and decide whether a retraining is due."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.monitoring.comparison import newly_learned
from asdcore.monitoring.learned import to_decide
from asdcore.monitoring.reliability import reliability_of
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import cut, recording_of
from asdcore.recordings.formats import NOT_COMPARED
from asdcore.recordings.found import DETECTOR
from asdcore.recordings.paths import on_disk
from asdcore.recordings.sessions import groups_of
from asdcore.recordings.training import hold_out, pending_review, training_recordings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.enroll import enroll
from flows.failures import completed, failed
from tasks.events import RETRAINING_DUE, tell
from tasks.markdown import code, word
from tasks.publishing import link_report, log_report, score_and_publish
from tasks.registered import CHAMPION, load_detector, registered_models
from tasks.registry import CHALLENGER
from tasks.reports import day_page
from tasks.results import stored_scores
from tasks.run_names import add_to_run_name, run_name
from tasks.waiting_runs import instead_of_waiting_runs
from tasks.warn import warn

SESSIONS_A_NEW_ONE = 5
"""known sessions for which one new session is enough to fit a machine again"""
FEWEST_NEW = 5
"""new normal recordings (clips, of long ones) of a machine, below which nothing is fitted or trained"""
NEW_FRACTION = 0.2
"""of the recordings that a drifting machine was trained on: this many new normal ones make a retraining due"""


class Arrivals(TypedDict):
    """The verdicts on recordings that have arrived."""

    machines: dict[str, dict[str, int]]
    """machine: how many are normal, are pending review, and could not be scored"""
    waiting: list[str]
    """paths of those that are pending review"""
    retraining_due: str
    """why; empty if none is"""
    fitted_again: list[str]
    """machines whose normality models have learned the new sessions"""
    postponed: str
    """the process that uses the home, such as a retraining: the next run fits, and says whether a retraining is due;
    empty: this one has
    """
    version: str
    """of the detector"""
    report: str
    """HTML file about what was scored on this day; empty: nothing was, or it could not be written"""


@flow(name="arrivals", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def arrivals(retrain_after: int = 50, model: str = CHAMPION, home: Path | None = None) -> Arrivals:
    """Score the recordings that have arrived: normal ones are used for training, the others are pending review.

    A machine with enough new sessions is fitted again, with the encoder as it is; see `worth_fitting`. While another
    command uses the home, such as a retraining, nothing is fitted, and no other retraining is due.

    Args:
        retrain_after: new normal recordings that make a retraining due; so does a sound that drifts, see
            `enough_of_drift`.
        model: alias or version of the detector that judges.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Raises:
        AsdError: there is no detector, or a machine could not be judged; all others have been judged then.

    Returns:
        machine: how many are normal, are pending review, and could not be scored; the paths of those that are pending
        review; and why a retraining is due, empty if none is.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock_table(warn), instead_of_waiting_runs():
        detector, version = load_detector(place, model)
        rows = pending_review(Catalog(place.recordings).recordings)
        rows = rows[rows["labelled_by"].isna()]
        counts, waiting, moved = dict[str, dict[str, int]](), list[str](), list[str]()
        failures: dict[str, Exception] = {}
        for machine, own in ((str(name), group) for name, group in rows.groupby("machine")):
            if machine not in detector.machines:
                warn(f"{machine} is not enrolled: {len(own)} recordings are not scored before `asd enroll {machine}`")
                continue
            try:
                counts[machine], strange, drifted = _judged(place, detector, machine, own, model, version)
            except Exception as error:  # The others are still judged.
                failures[machine] = error
                continue
            waiting += strange
            moved += [machine] if drifted else []
    due, fitted_again = "", list[str]()
    # It may be used for hours. What is due then is not known: a retraining that is under way learns what was there when
    # it began.
    with place.lock_if_free(warn) as busy:
        if not busy:
            due, fitted_again = _learned(place, model, retrain_after, moved)
    page = _reported(place, model) if counts else ""
    normal, wait = (sum(of_machine[kind] for of_machine in counts.values()) for kind in ("normal", "waiting"))
    verdict = f"{normal} normal, {wait} pending review{', retraining due' if due else ''}"
    add_to_run_name(f": {verdict}")
    text = _text(counts, waiting, fitted_again, due, busy, version)
    create_markdown_artifact(key="arrivals", markdown=text, description=verdict)
    if due:
        tell(RETRAINING_DUE, place, {"why": due})
    if failures:
        raise AsdError("; ".join(f"{machine} could not be judged: {error}" for machine, error in failures.items()))
    return {
        "machines": counts,
        "waiting": waiting,
        "retraining_due": due,
        "fitted_again": fitted_again,
        "postponed": busy,
        "version": version,
        "report": page,
    }


def _learned(home: Home, model: str, retrain_after: int, moved: list[str]) -> tuple[str, list[str]]:
    """Why a retraining is due, and the machines that were fitted again; requires the home's lock.

    ``moved``: machines that have drifted.
    """
    # It may be another one than has judged.
    detector, _ = load_detector(home, model)
    due = _due(home, detector, retrain_after, moved)
    # Recordings that a refused challenger was trained on do not make the next one due.
    if due and (challenger := _challenger(home)):
        due = _due(home, challenger, retrain_after, moved)
    # Another version than the champion would become one version more for each machine, and none with all.
    worth = worth_fitting(home, detector) if model == CHAMPION else []
    return due, [machine for machine in worth if _fitted_again(home, detector, machine)]


def worth_fitting(home: Home, detector: Detector) -> list[str]:
    """The machines with at least one new session for every `SESSIONS_A_NEW_ONE` that their models know.

    Their new sessions have at least `FEWEST_NEW` normal recordings. So a machine that knows few sessions learns each
    new one at once, and one that knows many is not fitted every hour.
    """
    rows = training_recordings(hold_out(Catalog(home.recordings).recordings, detector.settings.gate.held_out_fraction))
    machines = []
    for machine, model in detector.machines.items():
        of_machine = rows[rows["machine"] == machine]
        sessions = pd.Series(groups_of(of_machine), index=of_machine["recording"].to_numpy(), dtype=object)
        heard = {recording_of(clip) for clip in model.clips}
        known = set(sessions[sessions.index.isin(list(heard))])
        new = set(sessions) - known
        of_new = of_machine[~of_machine["recording"].isin(list(heard))]
        enough = len(cut(of_new, {machine: model.clip_seconds})) >= FEWEST_NEW
        if model.clips and new and enough and SESSIONS_A_NEW_ONE * len(new) >= len(known):
            machines.append(machine)
    return machines


def enough_of_drift(new: int, trained: int) -> bool:
    """Whether a machine that drifts has enough new normal recordings for a retraining.

    A machine with a fault drifts until it is repaired: without this, every few recordings would start one.

    Args:
        new: normal recordings since the last retraining.
        trained: those of that retraining.

    >>> enough_of_drift(5, 20), enough_of_drift(5, 60), enough_of_drift(12, 60), enough_of_drift(4, 10)
    (True, False, True, False)
    """
    return new >= max(FEWEST_NEW, NEW_FRACTION * trained)


def _fitted_again(home: Home, detector: Detector, machine: str) -> bool:
    """Whether a machine could be fitted again on all its normal recordings.

    It is not where the champion finds them strange: a person may have labelled some of them, and no gate is asked.
    """
    settings, rate = detector.settings, detector.threshold_of(machine).false_alarm_rate
    rows = training_recordings(Catalog(home.recordings).of_machines([machine]))
    clips = cut(rows, {machine: settings.recordings.clip_seconds})
    if objection := newly_learned(detector, clips, machine, settings).objection(machine, rate):
        warn(f"{objection} If that is how it sounds now, run `asd enroll {machine}`. It was not fitted again.")
        return False
    try:
        enroll(machine, report=False, home=home.root)
    except AsdError as error:
        warn(f"{machine} was not fitted again: {error}")
        return False
    return True


def _judged(
    home: Home, detector: Detector, machine: str, rows: pd.DataFrame, model: str, version: str
) -> tuple[dict[str, int], list[str], bool]:
    """Score one machine's arrivals and settle them: counts, paths of those that wait, whether it has drifted."""
    scores, drifted = _already_scored(home, machine, rows, version), False
    new = rows[~rows["recording"].isin(scores["recording"])]
    # A recorder may have deleted or replaced a file since; the others are judged all the same.
    files = [Path(row["path"]) for row in new.to_dict("records") if _holds(Path(row["path"]), row["recording"])]
    if files:
        done = score_and_publish(home, files, machine, model, False)
        scored = pd.read_parquet(done["table"])[scores.columns]
        scores = pd.concat([scores, scored]) if len(scores) else scored
        drifted = bool(done["drift"].get(machine))
    scores = scores[scores["recording"].isin(rows["recording"])]
    # What cannot be compared with the training recordings is not tried again at each run: a person decides.
    other_format = scores[scores["reason"].str.startswith(NOT_COMPARED)]
    scores = scores[scores["score"].notna()]
    if scores.empty and other_format.empty:
        return {"normal": 0, "waiting": 0, "not scored": len(rows)}, [], drifted
    sessions = rows.set_index("recording")["session"]
    rate = detector.threshold_of(machine).false_alarm_rate
    scores = scores.assign(session=scores["recording"].map(sessions))
    # Only normal recordings are used for training: a suspect one waits for a person as an anomalous one does.
    calibration = detector.machines[machine].calibration
    strange = to_decide(machine, calibration, scores, rate)[0] if len(scores) else []
    normal = ~scores["recording"].isin(strange)
    labels = dict(zip(scores["recording"], np.where(normal, "normal", "unknown").tolist(), strict=True))
    labels |= dict.fromkeys(other_format["recording"], "unknown")
    Catalog(home.recordings).label(labels, f"{DETECTOR}{version}")
    waiting = sorted([*scores.loc[~normal, "path"], *other_format["path"]])
    counts = {"normal": int(normal.sum()), "waiting": len(waiting), "not scored": len(rows) - len(labels)}
    return counts, waiting, drifted


def _holds(path: Path, recording: str) -> bool:
    """Whether a file has the content that was ingested."""
    try:
        return digest_of_file(on_disk(path)) == recording
    except OSError:
        return False


def _already_scored(home: Home, machine: str, rows: pd.DataFrame, version: str) -> pd.DataFrame:
    """Scores of these recordings by the same detector, from a run that was killed before it could label them."""
    columns = ["recording", "path", "score", "p_value", "verdict", "detector"]
    stored = stored_scores(home, [machine], since=rows["ingested_at"].min()).rows
    scores = pd.DataFrame(stored, columns=columns).drop_duplicates("recording")
    own = scores["recording"].isin(rows["recording"]) & (scores["detector"] == version) & scores["score"].notna()
    return scores.loc[own, columns].assign(reason="")


def _reported(home: Home, model: str) -> str:
    """Write the report of this day, link it and let MLflow keep it; return its path, or nothing if that failed.

    The home is not locked: pages take time, and the recordings are judged whatever becomes of the report. After a fit
    again, they are explained by the new champion.
    """
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    page = ""
    try:
        with home.synchronised(warn):
            page = day_page(home, *load_detector(home, model), midnight)
            link_report("day-report", page)
            log_report(home, page)
    except Exception as error:
        warn(f"the report of this day could not be written or published: {error}")
    return page


def _challenger(home: Home) -> Detector | None:
    """The detector of the last retraining, if it has not become the champion."""
    refused = any(CHALLENGER in row["alias"].split(", ") for row in registered_models(home))
    return load_detector(home, CHALLENGER)[0] if refused else None


def _due(home: Home, detector: Detector, retrain_after: int, moved: list[str]) -> str:
    """Why a retraining is due; empty if none is. The clips of a long recording count as so many recordings."""
    rows = training_recordings(hold_out(Catalog(home.recordings).recordings, detector.settings.gate.held_out_fraction))
    # What a recorder has deleted before it was trained on cannot make a retraining due, again and again.
    heard = {recording_of(clip) for model in detector.machines.values() for clip in model.clips}
    there = [name in heard or on_disk(Path(path)).exists() for name, path in rows[["recording", "path"]].to_numpy()]
    rows = rows[there]
    lengths = {machine: model.clip_seconds for machine, model in detector.machines.items()}
    now = cut(rows[rows["machine"].isin(list(lengths))], lengths).groupby("machine").size()
    reports = {machine: reliability_of(detector, machine) for machine in detector.machines}
    trained = {machine: report.n for machine, report in reports.items() if report}
    # What a machine has learned since without a training of the encoder does not make one less due.
    refitted = detector.about.get("enrolled", {})
    trained = {machine: refitted.get(machine, {}).get("at_last_training") or n for machine, n in trained.items()}
    new = {machine: int(now.get(machine, 0)) - n for machine, n in trained.items() if now.get(machine, 0) > n}
    if sum(new.values()) >= retrain_after:
        return "new normal recordings: " + ", ".join(f"{n} of {machine}" for machine, n in new.items())
    learnable = [machine for machine in moved if enough_of_drift(new.get(machine, 0), trained.get(machine, 0))]
    if learnable:
        return f"the sound of {', '.join(learnable)} has drifted, and there are new normal recordings"
    return ""


def _text(
    counts: dict[str, dict[str, int]], waiting: list[str], fitted_again: list[str], due: str, busy: str, version: str
) -> str:
    lines = [f"## Recordings that arrived, judged by detector version {version}", ""]
    lines += ["| machine | normal | pending review | not scored |", "|---|--:|--:|--:|"]
    lines += [f"| {word(name)} | {n['normal']} | {n['waiting']} | {n['not scored']} |" for name, n in counts.items()]
    lines += [
        "",
        *(f"- {code(f'asd label {shlex.quote(path)} --as normal')} or `--as anomaly`" for path in waiting[:50]),
    ]
    lines += ["", f"Fitted again on their new sessions: {', '.join(map(word, fitted_again))}."] if fitted_again else []
    none = f"Whether a retraining is due is not known while {busy} is using the home." if busy else ""
    return "\n".join([*lines, "", f"A retraining is due: {due}." if due else none or "No retraining is due."])
