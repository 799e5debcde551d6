"""The scoring stage: a registered detector on audio files, as a table.

Neither Prefect nor MLflow is imported here: `asd score` has to answer at once. `tasks.publishing` tells them.
"""

import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.explanation.explanation import Explanation
from asdcore.heard import Heard, clip_table, score_table, strangest_recordings
from asdcore.monitoring.reliability import reliability_of, suspicion
from asdcore.normality.machine import ANOMALOUS, SUSPECT
from asdcore.recordings.fetch import fetched
from asdcore.recordings.health import counted
from asdcore.recordings.listing import NO_RECORDING, audio_files, summed_up
from asdcore.recordings.paths import NOT_UTF8, can_be_told, is_a_folder, on_disk, printable
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home
from asdcore.threads import one_blas_thread
from tasks.alarms import raised_alarms
from tasks.incidents import followed, ready
from tasks.monitoring import examined
from tasks.registered import load_detector
from tasks.reports import score_page
from tasks.results import add_to_index

STANDARD_INPUT = Path("-")
MOST_NAMED = 20
"""folders of machines that are not enrolled"""
MOST_EXPLAINED = 20
"""recordings, the most anomalous ones: a person looks at them one by one"""


class Explained(TypedDict):
    """Where a recording differs from normal."""

    path: str
    sentences: list[str]
    plot: str
    """file"""


class Scored(TypedDict):
    """What a scoring run did."""

    version: str
    """of the detector"""
    table: str
    """Parquet file, one row per recording"""
    clips: str
    """Parquet file, one row per clip of the long recordings; empty if there are none"""
    scored: int
    failed: int
    refused: list[str]
    """why files that were given by name are not in the table: their machines are not enrolled"""
    not_enrolled: dict[str, int]
    """folder that names a machine which is not enrolled: how many recordings below the given folders are not scored"""
    left_out: dict[str, str]
    """path of an audio file below the given folders that is not a recording, or cannot be decoded: why"""
    anomalous: int
    suspect: int
    alarms: dict[str, str]
    """machine: what its alarm is, by its threshold"""
    new_alarms: list[str]
    """machines whose alarm began in this run"""
    explained: list[Explained]
    drift: dict[str, list[str]]
    """machine: limits that it exceeded"""
    suspicions: dict[str, str]
    """machine with suspect recordings: how rare they are, and what to collect to be certain"""
    report: str
    """HTML file; empty: none was asked for, or it could not be written"""


def score_recordings(
    home: Home, recordings: list[Path], machine: str | None, model: str, explain: bool, report: bool = False
) -> Scored:
    """Score audio files, or all audio files below a folder, of a synchronised home.

    What `Detector.score` gives, the digest and the version go to a new table in ``scores/``, and the plots of
    ``explain`` and the HTML file of ``report`` to a folder beside it, of the same name.

    Recordings of machines that are not enrolled are not scored; below a folder they are counted, and a file that was
    given by name has failed.

    Raises:
        AsdError: nothing can be scored.
    """
    table = home.scores / f"score-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}.parquet"
    recordings = [fetched(place) for place in recordings]
    detector, version = load_detector(home, model)
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        if STANDARD_INPUT in recordings:
            machine = detector.enrolled(machine)
            chosen = _Chosen([(_from_standard_input(recordings, Path(folder)), machine)], [], {}, {})
            names = {chosen.files[0][0]: str(STANDARD_INPUT)}
        else:
            chosen = _chosen(detector, recordings, machine)
        with one_blas_thread():
            heard = list(detector.listen([file for file, _ in chosen.files], [of for _, of in chosen.files]))
        return _scored(home, detector, version, heard, chosen, names, explain=explain, report=report, table=table)


def _scored(
    home: Home,
    detector: Detector,
    version: str,
    heard: list[Heard],
    chosen: "_Chosen",
    names: Mapping[Path, str],
    *,
    explain: bool,
    report: bool,
    table: Path,
) -> Scored:
    """Write and tell what was heard of what was chosen.

    ``names``: path: what a recording without a file of its own is called.
    """
    scores, clips = score_table(heard), clip_table(heard)
    for rows in (scores, clips):
        rows["path"] = rows["path"].replace({str(path): name for path, name in names.items()})
    explained, explanations = _explain(detector, scores, heard, table.with_suffix("")) if explain else ([], {})
    ready(home)
    # Before the table of this run is written: it must not be taken for an earlier one.
    alarms, new_alarms = raised_alarms(home, detector, scores)
    of_clips = table.with_name(f"clips-{table.name}") if len(clips) else None
    for rows, file in ((clips, of_clips), (scores, table)):
        if file is not None:
            with atomic_write(file) as temporary:
                rows.assign(detector=version).to_parquet(temporary)
    add_to_index(home, table)
    drift = {one.machine: one.sentences for one in examined(home, detector, version, heard)}
    followed(home, detector)
    suspicions, page = _suspicions(detector, scores), ""
    if report and heard:
        notes = {name: [*_notes(name, alarms, suspicions, drift[name]), *_remarks(scores, name)] for name in drift}
        page = score_page(home, detector, version, heard, notes, table, names, explanations)
    failed = int(scores["score"].isna().sum())
    return {
        "version": version,
        "table": str(table),
        "clips": str(of_clips or ""),
        "scored": len(scores) - failed,
        "failed": failed + len(chosen.refused),
        "refused": chosen.refused,
        "not_enrolled": chosen.not_enrolled,
        "left_out": chosen.left_out,
        "anomalous": int((scores["verdict"] == ANOMALOUS).sum()),
        "suspect": int((scores["verdict"] == SUSPECT).sum()),
        "alarms": alarms,
        "new_alarms": new_alarms,
        "explained": explained,
        "drift": drift,
        "suspicions": suspicions,
        "report": page,
    }


def _notes(machine: str, alarms: Mapping[str, str], suspicions: Mapping[str, str], drift: Sequence[str]) -> list[str]:
    """What the report says of a machine beside its verdicts."""
    alarm = [f"Alarm: {alarms[machine]}."] if machine in alarms else []
    suspect = [f"Listen to what is suspect. {suspicions[machine]}"] if machine in suspicions else []
    return [*alarm, *suspect, *drift]


def _remarks(scores: pd.DataFrame, machine: str) -> list[str]:
    """The flaws of the recordings."""
    own = scores[scores["machine"] == machine]
    return [f"Recordings: {line}." for line in counted(zip(own["path"], own["treatment"], strict=True))]


def _suspicions(detector: Detector, scores: pd.DataFrame) -> dict[str, str]:
    suspect = scores[scores["verdict"] == SUSPECT]
    new = suspect[~suspect["in_training"].fillna(False)]
    # A recording that was trained on has a score among its own: it says little of a new one.
    suspect = pd.concat([new, suspect[~suspect["machine"].isin(new["machine"])]])
    return {
        str(machine): suspicion(
            detector.machines[str(machine)], rows["score"].tolist(), reliability_of(detector, str(machine))
        )
        for machine, rows in suspect.groupby("machine")
    }


def _explain(
    detector: Detector, scores: pd.DataFrame, heard: list[Heard], folder: Path
) -> tuple[list[Explained], dict[str, Explanation]]:
    """Draw the recordings that are anomalous or suspect, or else the nearest to it: path, sentences and plot.

    Returns:
        Them, and the explanation of each recording (digest), for the report.
    """
    from asdcore.plots.explanation import explanation_plot  # Only here: Matplotlib takes half a second to import.

    explained: list[Explained] = []
    explanations: dict[str, Explanation] = {}
    for number, row in enumerate(strangest_recordings(scores, MOST_EXPLAINED), start=1):
        verdict: dict[str, Any] = {str(name): value for name, value in scores.loc[row].items()}
        recording = heard[row]
        clip = recording.clips[recording.strangest]
        explanation = detector.explain(recording.path, recording.machine, clip, verdict["triggered_by"])
        plot = folder / f"{number:02d}-{recording.machine}-{recording.path.stem[:50]}.png"
        with atomic_write(plot) as temporary:
            explanation_plot(explanation, verdict).savefig(temporary, format="png", dpi=120)
        explained.append({"path": verdict["path"], "sentences": explanation.sentences, "plot": str(plot)})
        explanations[recording.recording] = explanation
    return explained, explanations


def _from_standard_input(recordings: list[Path], folder: Path) -> Path:
    if len(recordings) > 1:
        raise AsdError("- is one recording on standard input; score other files with a command of their own")
    file = folder / "standard-input"
    with file.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return file


class _Chosen(NamedTuple):
    """What is to be scored, and what is not."""

    files: list[tuple[Path, str]]
    """each with its machine"""
    refused: list[str]
    """why files that were given by name are not scored"""
    not_enrolled: dict[str, int]
    left_out: dict[str, str]


def _chosen(detector: Detector, places: Sequence[Path], machine: str | None) -> _Chosen:
    """The recordings of enrolled machines among files and below folders."""
    files: list[tuple[Path, str]] = []
    not_enrolled: Counter[str] = Counter()
    left_out: dict[str, str] = {}
    refused: list[str] = []
    of_all = None if machine is None else detector.enrolled(machine)
    for given in places:
        place = on_disk(given)
        if not is_a_folder(place):
            said = of_all or detector.machine_said(place)
            if said in detector.machines:
                files.append((printable(given), said))
            else:
                refused.append(f"{printable(given)}: its folder says machine {said!r}, which is not enrolled")
            continue
        # The name of a given link to a folder does not count; those of links below it do.
        top = place.resolve()
        below = audio_files(top)
        left_out |= {str(_typed(given, top, path)): reason for path, reason in below.left_out.items()}
        for path in below.files:
            said = of_all or detector.machine_said(path)
            if not can_be_told(path):
                left_out[f"{_typed(given, top, path)} (not UTF-8)"] = NOT_UTF8
            elif said in detector.machines:
                files.append((_typed(given, top, path), said))
            else:
                not_enrolled[said] += 1
    if not files:
        where = ", ".join(str(printable(place)) for place in places)
        reasons = [*refused, *not_enrolled_sentences(not_enrolled), *summed_up(left_out)]
        if not reasons:
            raise AsdError(f"{where}: {NO_RECORDING}")
        known = ", ".join(sorted(detector.machines))
        raise AsdError(f"nothing to score: {'; '.join(reasons)}; name one of {known} with --machine")
    return _Chosen(files, refused, dict(not_enrolled), left_out)


def _typed(given: Path, top: Path, path: Path) -> Path:
    """The path of a file below a folder as one would type it, if the folder was typed as ``given``."""
    return printable(given / path.relative_to(top))


def not_enrolled_sentences(not_enrolled: Mapping[str, int]) -> list[str]:
    """One for each machine that is not enrolled, the first `MOST_NAMED`, and one for the others.

    >>> not_enrolled_sentences({"fan9": 2})
    ["2 recordings in a folder 'fan9', which names no enrolled machine"]
    """
    said = [
        f"{n} recording{'s' if n > 1 else ''} in a folder {machine!r}, which names no enrolled machine"
        for machine, n in sorted(not_enrolled.items())
    ]
    rest = sum(not_enrolled.values()) - sum(n for _, n in sorted(not_enrolled.items())[:MOST_NAMED])
    return said if len(said) <= MOST_NAMED else [*said[:MOST_NAMED], f"{rest} recordings in other such folders"]
