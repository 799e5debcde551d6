"""Compare champion and challenger on the same recordings, the best ones available."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdcore.detector import Detector
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.monitoring.learned import Learned, learned
from asdcore.monitoring.promotion import judge
from asdcore.progress import progress
from asdcore.recordings.audio import BadRecording, decode
from asdcore.recordings.clips import clip_named, cut, recording_count, recording_of
from asdcore.recordings.formats import codecs_of
from asdcore.recordings.training import HELD_OUT, training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import digest_of

MOST_JUDGED = 40
"""Maximum number of clips per machine that pseudo-faults are made from: both detectors score each of them once
unchanged and once per kind of fault."""
STRENGTH = 0.5
"""of a pseudo-fault: one that a good detector finds and a poor one does not"""
TABLE = ["recording", "machine", "section", "domain", "label", "score", "decision"]
BY = {
    "labels": "labelled test recordings",
    "held out": "normal recordings held out of every training, and pseudo-faults made from them",
    "trained on": "normal recordings that both may have been trained on, and pseudo-faults made from them",
}


def compare(champion: Detector, challenger: Detector, recordings: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Score the same recordings with both detectors and apply the promotion gate.

    Args:
        champion: the detector in use.
        challenger: the one that may replace it.
        recordings: rows of the table of recordings.
        settings: see `GateSettings`.

    Returns:
        The `Judgement` as JSON, and ``by``: the recordings that each machine was judged by, as text.
    """
    machines = sorted(set(champion.machines) & set(challenger.machines))
    lost = sorted(set(champion.machines) - set(challenger.machines))
    # Of clips, so that a recording of an hour is not held in memory. Each detector cuts them further as it needs.
    clips = cut(recordings, dict.fromkeys(set(recordings["machine"]), settings.recordings.clip_seconds))
    comparable = _comparable(clips[clips["machine"].isin(machines)], champion, challenger)
    judged_by = {machine: _to_judge_by(comparable, machine) for machine in machines}
    judged_by = {machine: (kind, rows) for machine, (kind, rows) in judged_by.items() if len(rows)}
    new = {machine: newly_learned(champion, clips, machine, settings) for machine in machines}
    total = sum(len(rows) * (1 if kind == "labels" else 1 + len(KINDS)) for kind, rows in judged_by.values())
    unread = Counter[str]()
    waveforms = (
        pair for kind, rows in judged_by.values() for pair in _waveforms(rows, kind == "labels", settings, unread)
    )
    scored: dict[str, list[dict[str, Any]]] = {"champion": [], "challenger": []}
    rate = settings.recordings.sample_rate
    judges = {"champion": _of_any_format(champion), "challenger": _of_any_format(challenger)}
    for row, samples in progress(waveforms, "judging the challenger", total=total):
        for role, detector in judges.items():
            verdict = detector.score_waveform(samples, rate, row["machine"])
            scored[role].append(row | {name: verdict[name] for name in ("score", "decision")})
    judged_on = {
        machine: f"{BY[kind]}: {recording_count(rows)} recordings" for machine, (kind, rows) in judged_by.items()
    }
    if not scored["champion"]:
        return {"promote": False, "reasons": ["There is no recording to compare the detectors on."], "by": judged_on}
    by_champion, by_challenger = (pd.DataFrame(rows, columns=TABLE) for rows in scored.values())
    rates = {machine: challenger.threshold_of(machine).false_alarm_rate for machine in machines}
    # A machine that a person has enrolled from elsewhere is kept although its files are gone.
    expected = judged_by.keys() - set(challenger.about.get("stay_enrolled", ()))
    silent = {machine: unread[machine] for machine in sorted(expected) if unread[machine] == len(judged_by[machine][1])}
    judgement = judge(by_champion, by_challenger, settings.gate, rates, lost, new, silent)
    return judgement.to_json() | {"by": judged_on}


def _to_judge_by(recordings: pd.DataFrame, machine: str) -> tuple[str, pd.DataFrame]:
    """The kind of recordings to compare two detectors of a machine on, a key of `BY`, and the recordings."""
    rows = recordings[recordings["machine"] == machine]
    test = rows[(rows["split"] == "test") & rows["label"].isin(["normal", "anomaly"])]
    if set(test["label"]) == {"normal", "anomaly"}:
        return "labels", test
    held_out = rows[rows["split"] == HELD_OUT]
    kind, normal = ("held out", held_out) if len(held_out) else ("trained on", training_recordings(rows))
    return kind, _some(normal)


def newly_learned(champion: Detector, clips: pd.DataFrame, machine: str, settings: Settings) -> Learned:
    """What the champion thinks of the training clips of a machine that it was not fitted on, at most `MOST_JUDGED`.

    Args:
        champion: the detector in use, which knows the machine.
        clips: rows of the table of recordings, cut; other machines' and splits' are passed over.
        machine: its name.
        settings: how recordings are read.
    """
    known = {recording_of(clip) for clip in champion.machines[machine].clips}
    training = training_recordings(clips)
    training = training[training["machine"] == machine]
    new = _comparable(training[~training["recording"].map(recording_of).isin(list(known))], champion)
    by_name, unread = _some(new).set_index("recording", drop=False), Counter[str]()
    judge_of_waveforms = _of_any_format(champion)
    judged = [
        by_name.loc[row["recording"]].to_dict()
        | judge_of_waveforms.score_waveform(samples, settings.recordings.sample_rate, machine)
        for row, samples in _waveforms(by_name, True, settings, unread)
    ]
    table = pd.DataFrame(judged, columns=["recording", "path", "session", "score", "verdict"])
    known_sound = champion.machines[machine].calibration
    return replace(learned(known_sound, table.astype({"score": float})), unread=unread[machine])


def _comparable(clips: pd.DataFrame, *detectors: Detector) -> pd.DataFrame:
    """Those of files that all of these detectors compare with what their machines were fitted on."""
    if "sample_rate" not in clips:
        return clips
    rows = zip(clips["machine"], codecs_of(clips), clips["sample_rate"], strict=True)
    can = [not any(_objection(one, machine, codec, rate) for one in detectors) for machine, codec, rate in rows]
    return clips[pd.Series(can, index=clips.index, dtype=bool)]


def _objection(detector: Detector, machine: str, codec: str, sample_rate: float) -> str:
    formats = detector.machines[machine].formats
    if formats is None or pd.isna(sample_rate):
        return ""
    return formats.objection(codec, int(sample_rate), detector.settings.recordings.sample_rate)


def _of_any_format(detector: Detector) -> Detector:
    """For decoded files, of which the codec and the rate can no longer be seen; see `_comparable`."""
    return replace(detector, machines={name: model.of_any_format() for name, model in detector.machines.items()})


def _some(clips: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_JUDGED`, of every recording some: a clip's name begins with the digest of its recording."""
    return clips.sort_values("recording", key=lambda names: names.map(digest_of)).head(MOST_JUDGED)


def _waveforms(
    recordings: pd.DataFrame, labelled: bool, settings: Settings, unread: Counter[str]
) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
    """The table's columns and the waveform of each recording; of unlabelled ones also of their pseudo-faults.

    ``unread`` counts the recordings of each machine whose files do not answer: they are skipped.
    """
    rate = settings.recordings.sample_rate
    for row in recordings.to_dict("records"):
        try:
            samples = decode(Path(row["path"]), settings.recordings, clip_named(row["recording"])).samples
        except OSError:
            unread[row["machine"]] += 1
            continue
        except BadRecording:
            continue  # It was readable when the features were computed; the comparison skips it.
        columns = {name: row[name] for name in ("recording", "machine", "section", "label")}
        columns["domain"] = row["domain"] if row["domain"] in ("source", "target") else "source"
        yield columns, samples
        for kind in () if labelled else KINDS:
            rng = np.random.default_rng(int(digest_of(row["recording"], kind), 16))
            faulty = pseudo_fault(samples, rate, kind, STRENGTH, rng)
            yield columns | {"recording": f"{row['recording']} {kind}", "label": "anomaly"}, faulty
