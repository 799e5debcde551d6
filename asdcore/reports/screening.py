"""The report of a screening: what to listen to first, each beside the most similar of the other recordings."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.explanation.profile import Profile
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.heard import Heard, clock
from asdcore.normality.machine import NORMAL, SUSPECT, MachineModel
from asdcore.normality.scorers import build_scorers
from asdcore.normality.screening import STANDS_OUT, first_to_hear
from asdcore.recordings.audio import BadRecording, decode
from asdcore.recordings.found import is_simulated
from asdcore.reports.cards import MOST_SHOWN, Card, Compare, bounded
from asdcore.reports.comparison import Compared, compared
from asdcore.reports.known import SHOWN_DIGITS
from asdcore.reports.machines import drawn, plain, simulated_note
from asdcore.reports.page import brief, count_of, rendered, shortened
from asdcore.reports.score import MOST_ROWS, below, common_folder
from asdcore.screening import Listened, Screening

MOST_USUAL = 200
"""clips of a machine that a profile of what is usual is fitted on"""
CAPTION = "Dashed: the score from which a recording stands out. ● as usual, ▲ stands out"


def screening_report(screening: Screening, place: str, option: str = "") -> str:
    """One HTML page about a screened folder.

    >>> from asdcore.screening import listen_and_screen
    >>> page = screening_report(listen_and_screen("recordings"), "recordings")     # doctest: +SKIP

    Args:
        screening: of `asdcore.screening.listen_and_screen`; the files of the recordings of interest, and some of the
            others, are read again.
        place: the folder or manifest, as one would type it.
        option: what a command needs to find the table of recordings, such as ``--home PATH``; empty if nothing.
    """
    ranked = _described(screening)
    folder = common_folder([Path(path) for path in screening.table["path"]])
    ranked["name"] = [shortened(below(folder, Path(path))) for path in ranked["path"]]
    interesting = _first(ranked)
    ranked["anchor"] = ""
    ranked.loc[interesting, "anchor"] = [f"recording-{number}" for number in range(1, len(interesting) + 1)]

    @cache
    def others(machine: str) -> tuple[Detector, dict[str, tuple[Path, str]]]:
        own = ranked[ranked["machine"] == machine]
        usual = own[~own["stands_out"] & (own["anchor"] == "")]
        return _detector_of(screening, machine, set(usual["path"]))

    def comparison(one: Heard, with_sound: bool) -> Compared:
        try:
            detector, files = others(one.machine)
        except AsdError as error:
            return Compared(missing=f"It cannot be compared with the others: {error}.")
        found = compared(detector, one, files, with_sound=with_sound)
        trigger = found.trigger.replace("Triggered by", "Found by", 1)
        # What the facts say already is not said again.
        return replace(found, trigger="" if trigger == f"Found by {one.verdict['triggered_by']}." else trigger)

    found: list[tuple[Card, Compare]] = []
    for index in interesting:
        row = plain(ranked.loc[index].to_dict())
        found.append((_card(row, place, option), partial(comparison, _heard(screening.machines[row["machine"]], row))))
    cards, left_out = bounded(found)
    refused = screening.table[screening.table["reason"] != ""]
    return rendered(
        "screening.html",
        title=f"Screening of {count_of(len(ranked), 'recording')}",
        about=[f"Recordings in {shortened(place)}"],
        simulated=simulated_note(ranked["simulated"]),
        machines=_machines(ranked),
        labelled=_labelled(ranked),
        cards=cards,
        stand_out=int(ranked["stands_out"].sum()),
        left_out=left_out,
        table=[plain(row) for row in ranked.head(MOST_ROWS).to_dict("records")],
        count=len(ranked),
        long=bool((ranked["clips"] > 1).any()),
        sessions=bool((ranked["session"] != "").any()),
        labels=bool((ranked["label"] != "unknown").any()),
        refused=[(str(path), str(reason)) for path, reason in refused[["path", "reason"]].head(MOST_ROWS).to_numpy()],
    )


def _described(screening: Screening) -> pd.DataFrame:
    """The ranked rows, the strangest first, with digest, session, label, simulated, verdict.

    Plain folders say normal of all their recordings: a label is one where the machine has both.
    """
    rows = screening.table[screening.table["reason"] == ""].reset_index(drop=True)
    opened = {(name, str(one.path)): one for name, heard in screening.machines.items() for one in heard.recordings}
    own = [opened[machine, path] for machine, path in zip(rows["machine"], rows["path"], strict=True)]
    faulty = {one.found.machine for one in own if one.found.label == "anomaly"}
    folder_is_simulated = cache(is_simulated)
    stands_out = rows["stands_out"].astype(bool)
    return rows.assign(
        stands_out=stands_out,
        digest=[one.digest for one in own],
        session=[one.found.session for one in own],
        label=[one.found.label if one.found.machine in faulty else "unknown" for one in own],
        simulated=[folder_is_simulated(one.path.parent / "recording") for one in own],
        verdict=np.where(stands_out, SUSPECT, NORMAL),
        in_training=False,
    ).sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _first(ranked: pd.DataFrame) -> list[int]:
    """The rows to listen to: what stands out, and the first one of each machine where nothing does, as far as there is
    room.
    """
    quiet = ~ranked.groupby("machine")["stands_out"].transform("any") & (ranked["rank"] == 1)
    return [*ranked.index[ranked["stands_out"]], *ranked.index[quiet]][:MOST_SHOWN]


def _machines(ranked: pd.DataFrame) -> list[dict[str, Any]]:
    """What is said of each machine, those with most that stands out first, and its timeline."""
    machines = []
    for machine, own in ranked.groupby("machine"):
        n = int(own["stands_out"].sum())
        in_order = own.sort_values(["session", "path"], kind="stable")
        machines.append(
            {
                "name": str(machine),
                "n": n,
                "badge": f"{n} to listen to" if n else "nothing stands out",
                "tone": SUSPECT if n else NORMAL,
                "sentence": first_to_hear(str(machine), own).removeprefix(f"{machine}: "),
                **drawn(str(machine), in_order, {"stands out": STANDS_OUT}, CAPTION),
            }
        )
    return sorted(machines, key=lambda machine: -machine["n"])


def _labelled(ranked: pd.DataFrame) -> dict[str, int]:
    """How many recordings of each label stand out, where names or a manifest tell faults from others."""
    strange, faulty, normal = ranked["stands_out"], ranked["label"] == "anomaly", ranked["label"] == "normal"
    counts = {
        "faults that stand out": strange & faulty,
        "other faults": ~strange & faulty,
        "normal, stand out": strange & normal,
        "other normal ones": ~strange & normal,
    }
    return {name: int(rows.sum()) for name, rows in counts.items()} if faulty.any() else {}


def _card(row: dict[str, Any], place: str, option: str) -> Card:
    facts = [
        ("machine", row["machine"]),
        ("rank", f"{row['rank']}, {brief(row['score'])} usual deviations from the usual recording"),
        ("found by", f"{row['found_by']}: {brief(row['times_usual'])} times the usual distance"),
    ]
    if row["session"]:
        facts.append(("session", row["session"]))
    if row["label"] != "unknown":
        facts.append(("labelled", f"{row['label']}; the ranking does not use it"))
    if row["clips"] > 1:
        facts.append(("strangest", f"at {clock(row['strangest_at'])}, of {row['clips']} clips; that clip is shown"))
    label = f"asd label {row['digest'][:SHOWN_DIGITS]} --as anomaly"
    return Card(
        row["anchor"],
        row["name"],
        "stands out" if row["stands_out"] else "first of its machine",
        row["verdict"],
        facts,
        "If it is a fault, ingest it and keep it out of the training",
        [" && ".join(f"{command} {option}".rstrip() for command in (f"asd ingest {place}", label))],
        "The most similar other recording",
    )


def _heard(heard: Listened, row: dict[str, Any]) -> Heard:
    """A ranked recording, as a detector would have heard it."""
    rows = [index for index, path in enumerate(heard.paths) if path == row["path"]]
    clips = [heard.clips[index] for index in rows]
    lengths = {str(one.path): one.seconds for one in heard.recordings}
    starts = [clip.start(lengths[row["path"]]) for clip in clips]
    return Heard(
        Path(row["path"]),
        row["machine"],
        "",
        vectors={name: np.stack([heard.features[index][name] for index in rows]) for name in heard.features[0]},
        verdict={"triggered_by": row["found_by"]},
        recording=row["digest"],
        clips=clips,
        strangest=starts.index(row["strangest_at"]),
    )


def _detector_of(screening: Screening, machine: str, usual: set[str]) -> tuple[Detector, dict[str, tuple[Path, str]]]:
    """A detector of a machine's usual recordings (paths), and the file and session of each of them, by digest.

    Raises:
        AsdError: they are too few.
    """
    heard, settings = screening.machines[machine], screening.settings
    rows = [index for index, path in enumerate(heard.paths) if path in usual]
    groups, clips = [heard.paths[index] for index in rows], [heard.clips[index] for index in rows]
    models = {
        name: scorer.model().fit(np.stack([heard.features[index][name] for index in rows]), groups=groups)
        for name, scorer in build_scorers(settings.normality).items()
    }
    evenly = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_USUAL)).round().astype(int))
    values = []
    for index in evenly:
        try:
            samples = decode(Path(groups[index]), settings.recordings, clips[index]).samples
        except (OSError, BadRecording):
            continue  # It has gone since.
        values.append(as_stored(spectrogram(samples, settings.recordings.sample_rate, settings.mel)))
    profile = Profile.fit(values, [""] * len(values), settings.mel, settings.recordings.sample_rate)
    model = MachineModel(models, profile, groups, [clip.name for clip in clips])
    files = {one.digest: (one.path, one.found.session) for one in heard.recordings if str(one.path) in usual}
    return Detector(settings, screening.encoder, {machine: model}), files
