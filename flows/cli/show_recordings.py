"""What the command line prints about recordings: ingested, pending review, forgotten."""

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import clip_lengths, cut
from asdcore.recordings.formats import of_one_codec
from asdcore.recordings.health import counted
from asdcore.recordings.listing import summed_up
from asdcore.recordings.questions import merged
from asdcore.recordings.training import pending_review, training_recordings
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.cli.console import err, out
from flows.cli.tables import print_table
from tasks.recordings import machine_table
from tasks.review import NOT_JUDGED

SHOWN = 20
"""lines of a list of files"""
DIGITS = 12
"""of a digest"""
PENDING = ["machine", "labelled_by", "recording", "path"]
"""columns of the recordings that are pending review"""


def home_option(place: Home) -> str:
    """`Home.option`, with a space before it if there is one: the end of a command that is printed."""
    return f" {place.option}".rstrip()


def show_ingest(done: Mapping[str, Any], place: Home, settings: Settings) -> list[dict[str, Any]]:
    """Print the machines of an ingest, what was done to their recordings and what was left out; return the table."""
    catalog = Catalog(place.recordings)
    rows = [row for row in machine_table(catalog) if row["machine"] in done["machines"]]
    if rows:
        print_table(list(rows[0]), [[str(value) for value in row.values()] for row in rows], right=range(1, 8))
    own = catalog.recordings[catalog.recordings["machine"].isin(done["machines"])]
    _show_treatments(own, settings.recordings.sample_rate)
    out.print(
        f"{done['added'] + done['known']} recordings of {len(rows)} machine{'s' * (len(rows) != 1)}: "
        f"{done['added']} added, "
        f"{done['known']} already known, {done['duplicates']} with the same content as another file, "
        f"{len(done['quarantined'])} quarantined. The table above counts all that was ever ingested of these machines."
    )
    _list([f"quarantined: {file}: {reason}" for file, reason in sorted(done["quarantined"].items())], place)
    for line in summed_up(done["left_out"]):
        err.print(f"left out: {line}")
    for line in merged(done["places"]):
        err.print(line)
    if done["unlisted"]:
        _list([f"not listed in the manifest: {file}" for file in done["unlisted"]], place)
        err.print(f"{len(done['unlisted'])} files that the manifest does not list were left out.")
    _show_doubted(done["pending"], own, home_option(place))
    if done["forgotten"]:
        _list([f"left out, since it was forgotten: {file}" for file in done["forgotten"]], place)
        err.print(f"`asd forget --undo PATH{home_option(place)}` brings them back.")
    minimum = settings.recordings.minimum_training_recordings
    clips = training_recordings(cut(own, clip_lengths(own, settings.recordings))).groupby("machine").size()
    few = [row["machine"] for row in rows if clips.get(row["machine"], 0) < minimum]
    if few:
        err.print(f"too few normal training recordings for a detector (a machine needs {minimum}): {', '.join(few)}")
    return [
        {name.replace(" ", "_"): None if value == "unknown" else value for name, value in row.items()} for row in rows
    ]


def _show_treatments(recordings: pd.DataFrame, sample_rate: int) -> None:
    """What was done to the recordings, their flaws, and which cannot be compared with the others."""
    treatments = recordings["treatment"].fillna("")
    done = treatments.map(lambda treatment: "; ".join(part for part in treatment.split("; ") if ": " not in part))
    for treatment, n in done[done != ""].value_counts().items():
        out.print(f"{n} x {treatment}")
    for line in counted(zip(recordings["path"], treatments, strict=True)):
        out.print(line)
    normal = recordings[(recordings["split"] == "train") & (recordings["label"] == "normal")]
    for machine, rows in normal.groupby("machine"):
        if left_out := len(rows) - len(of_one_codec(rows)):
            err.print(
                f"{machine}: {left_out} of {len(rows)} normal recordings are not used for training, as most have "
                "another codec"
            )
        bands = sorted(set(rows["sample_rate"].clip(upper=sample_rate)))
        if len(bands) > 1:
            err.print(
                f"{machine}: recorded at several sample rates, from {bands[0]} Hz on: a fault above {bands[0] // 2} Hz "
                "is missing in some; use one rate"
            )


def _show_doubted(paths: list[str], recordings: pd.DataFrame, option: str) -> None:
    doubted = recordings[recordings["path"].isin(paths)]
    for machine, rows in doubted.groupby("machine"):
        n, judge = len(rows), rows["labelled_by"].iloc[0]
        what = "1 new recording is" if n == 1 else f"{n} new recordings are"
        why = f"called suspect or anomalous by the champion ({judge}), or ingested together with such recordings"
        if judge == NOT_JUDGED:
            why = "the champion could not judge them"
        err.print(f"{machine}: {what} pending review: {why}. Not used for training until you label them:")
        for path in rows["path"].head(SHOWN):
            err.print(f"  {path}")
        if n > SHOWN:
            err.print(f"  and {n - SHOWN} more; `asd label --pending{option}` lists them")
        name = shlex.quote(str(machine))
        err.print(f"  one of them:     asd label PATH --as anomaly{option}")
        err.print(f"  all the others:  asd label --pending --machine {name} --as normal{option}")


def show_pending(catalog: Catalog, machine: str | None, option: str) -> pd.DataFrame:
    """Print the recordings that are pending review, and the commands that label them; return the table."""
    waiting = pending_review(catalog.of_machines([machine] if machine else None))[PENDING]
    if waiting.empty:
        out.print("No recording is pending review.")
        return waiting
    rows = waiting.fillna("nobody").astype(str).to_numpy().tolist()
    print_table(
        ["machine", "judged by", "recording", "path"],
        [[name, judge, digest[:DIGITS], path] for name, judge, digest, path in rows],
    )
    out.print(
        f"They are not used for training until you label them: `asd label PATH --as normal{option}`, or `--as "
        f"anomaly`; all of a machine: `asd label --pending --machine NAME --as normal{option}`."
    )
    return waiting


def counts(recordings: pd.DataFrame) -> list[str]:
    """A line for each machine: how many recordings, by split and label."""
    lines = []
    for machine, own in recordings.groupby("machine"):
        kinds = (own["split"] + " " + own["label"]).value_counts(sort=False).sort_index()
        lines.append(f"{machine}: {len(own)} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})")
    return lines


def _list(lines: list[str], place: Home) -> None:
    for line in lines[:SHOWN]:
        err.print(line.replace("\n", r"\n"))  # Of the name of a file.
    if len(lines) > SHOWN:
        err.print(f"... and {len(lines) - SHOWN} more in {place.recordings}")
