"""The gate between challenger and champion: both judge the same recordings, and the better one is the champion."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from asdcore.detector import Detector
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.monitoring.promotion import judge
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, decode
from asdcore.recordings.catalog import HELD_OUT, training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write, digest_of
from asdcore.storage.home import Home
from tasks.registry import champion_version, registered_folder, set_challenger, set_champion, was_champion
from tasks.stage import CACHED, Result, claim, code_version, run_cached

MOST_JUDGED = 40
"""Recordings of a machine that pseudo-faults are made from, at most: each is scored once for every kind, and once as it
is, by both detectors."""
STRENGTH = 0.5
"""of a pseudo-fault: one that a good detector finds and a poor one does not"""
TABLE = ["recording", "machine", "section", "domain", "label", "score", "decision"]


@task(name="judge challenger", **CACHED)
def judge_challenger(
    key: str, home: Home, champion: str, challenger: Path, recordings: pd.DataFrame, settings: Settings
) -> Result:
    """Score the same recordings with both detectors and write down the judgement."""
    new = Detector.load(challenger)
    with registered_folder(home, champion) as (folder, _):
        old = Detector.load(folder)
    both = sorted(set(old.machines) & set(new.machines))
    lost = sorted(set(old.machines) - set(new.machines))
    judged = [(machine, how, own) for machine in both for how, own in [_to_judge_by(recordings, machine)] if len(own)]
    learned = {machine: _called_anomalous(old, recordings, machine, settings) for machine in both}
    total = sum(len(own) * (1 if how == "labels" else 1 + len(KINDS)) for _, how, own in judged)
    waveforms = (each for _, how, own in judged for each in _waveforms(own, how == "labels", settings))
    rows: list[dict[str, Any]] = []
    sample_rate = settings.recordings.sample_rate
    for described, samples in progress(waveforms, "judging the challenger", total=total):
        for who, detector in (("champion", old), ("challenger", new)):
            verdict = detector.score_waveform(samples, sample_rate, described["machine"])
            rows.append(described | {"who": who} | {name: verdict[name] for name in ("score", "decision")})
    path = home.runs / "judgements" / f"{key}.json"
    scores = pd.DataFrame(rows, columns=[*TABLE, "who"])
    of = {who: scores[scores["who"] == who][TABLE].reset_index(drop=True) for who in ("champion", "challenger")}
    values: dict[str, Any]
    if scores.empty:
        values = {"promote": False, "reasons": ["There is no recording to compare them by."]}
    else:
        rate = settings.normality.false_alarm_rate
        values = judge(of["champion"], of["challenger"], settings.gate, rate, lost, learned).to_json()
    values["by"] = {machine: f"{BY[how]}: {len(own)} recordings" for machine, how, own in judged}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2))
    return {"files": claim(home, path), "values": values}


BY = {
    "labels": "labelled test recordings",
    "held out": "normal recordings that are held out of every training, and pseudo-faults made from them",
    "trained on": "normal recordings that both may have been trained on, and pseudo-faults made from them",
}


def decided(
    home: Home, version: str, detector: Path, recordings: pd.DataFrame, settings: Settings
) -> dict[str, Any] | None:
    """Judge a registered version against the champion, and make it the champion where it passes.

    Returns:
        The judgement; None where there is nothing to decide: no other champion.
    """
    champion = champion_version(home)
    if not champion:
        set_champion(home, version, "the first one")
        return None
    if champion == version or was_champion(home, version):
        # A champion that a person has replaced does not come back by itself.
        return None
    set_challenger(home, version)
    code = code_version("evaluation", "monitoring", "detector.py")
    digests = sorted(recordings["recording"])
    key = digest_of(home.registry, champion, version, detector.name, settings.gate.digest(), code, *digests)
    work: dict[str, Any] = {"champion": champion, "challenger": detector, "recordings": recordings}
    judged = run_cached(judge_challenger, home=home, key=key, settings=settings, **work)["values"]
    if judged["promote"]:
        set_champion(home, version, " ".join(judged["reasons"]))
    return judged


def judgement_text(judged: dict[str, Any], version: str) -> str:
    """The judgement in Markdown."""
    verdict = "is the new champion" if judged["promote"] else "was not promoted; the champion stays"
    lines = [f"### Version {version} {verdict}", "", *(f"- {reason}" for reason in judged["reasons"]), ""]
    if compared := judged.get("compared"):
        lines += [
            "| machine | champion | challenger | difference, 80 % interval | recordings |",
            "|---|--:|--:|--:|--:|",
        ]
        for one in compared:
            interval = f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}"
            figures = f"{100 * one['champion']:.1f} | {100 * one['challenger']:.1f}"
            lines.append(f"| {one['machine']} | {figures} | {interval} | {one['recordings']} |")
        lines.append("")
    lines += [f"- {machine}: by {how}" for machine, how in judged["by"].items()]
    return "\n".join(lines)


def _to_judge_by(recordings: pd.DataFrame, machine: str) -> tuple[str, pd.DataFrame]:
    """The best recordings that there are to compare two detectors of a machine with, and what they are."""
    own = recordings[recordings["machine"] == machine]
    test = own[(own["split"] == "test") & own["label"].isin(["normal", "anomaly"])]
    if set(test["label"]) == {"normal", "anomaly"}:
        return "labels", test
    held_out = own[own["split"] == HELD_OUT]
    how, normal = ("held out", held_out) if len(held_out) else ("trained on", training_recordings(own))
    return how, normal.sort_values("recording").head(MOST_JUDGED)


def _called_anomalous(
    champion: Detector, recordings: pd.DataFrame, machine: str, settings: Settings
) -> tuple[int, int]:
    """How many of the newest training recordings of a machine the champion calls anomalous, and of how many."""
    training = training_recordings(recordings)
    newest = training[training["machine"] == machine].sort_values("ingested_at").tail(MOST_JUDGED)
    rate = settings.recordings.sample_rate
    verdicts = [champion.score_waveform(samples, rate, machine) for _, samples in _waveforms(newest, True, settings)]
    return sum(verdict["decision"] for verdict in verdicts), len(verdicts)


def _waveforms(
    recordings: pd.DataFrame, labelled: bool, settings: Settings
) -> Iterator[tuple[dict[str, Any], "np.ndarray[Any, np.dtype[np.float32]]"]]:
    """What each recording is, and its waveform; of unlabelled ones, the pseudo-faults made from them, too."""
    rate = settings.recordings.sample_rate
    for row in recordings.to_dict("records"):
        try:
            samples = decode(Path(row["path"]).read_bytes(), settings.recordings).samples
        except (OSError, BadRecording):
            continue  # It was readable when the features were made; the comparison does without it.
        described = {name: row[name] for name in ("recording", "machine", "section", "label")}
        described["domain"] = row["domain"] if row["domain"] in ("source", "target") else "source"
        yield described, samples
        for kind in () if labelled else KINDS:
            rng = np.random.default_rng(int(digest_of(row["recording"], kind), 16))
            faulty = pseudo_fault(samples, rate, kind, STRENGTH, rng)
            yield described | {"recording": f"{row['recording']} {kind}", "label": "anomaly"}, faulty
