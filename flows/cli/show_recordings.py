"""What the command line prints of recordings: of an ingest, of what waits for a label, of what is forgotten."""

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from asdcore.recordings.catalog import Catalog, pending_review, training_recordings
from asdcore.recordings.clips import clip_lengths, cut
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.cli.console import err, out
from flows.cli.tables import print_table
from tasks.recordings import machine_table

SHOWN = 20
"""lines of a list of files"""
DIGITS = 12
"""of a digest"""


def home_option(place: Home) -> str:
    """What a printed command needs to find this home: empty, or with a space before it."""
    return "" if place.root == Home.default().root else f" --home {shlex.quote(place.name)}"


def show_ingest(done: Mapping[str, Any], place: Home, settings: Settings) -> None:
    """The machines of an ingest, what was done to their recordings, and what was left out."""
    catalog = Catalog(place.recordings)
    rows = [row for row in machine_table(catalog) if row["machine"] in done["machines"]]
    if rows:
        print_table(list(rows[0]), [[str(value) for value in row.values()] for row in rows], right=range(1, 8))
    own = catalog.recordings[catalog.recordings["machine"].isin(done["machines"])]
    treated = own[own["treatment"] != ""]
    for treatment, n in treated["treatment"].value_counts().items():
        out.print(f"{n} x {treatment}")
    out.print(
        f"{done['added'] + done['known']} recordings of {len(rows)} machine(s) there: {done['added']} added, "
        f"{done['known']} known already, {done['duplicates']} the same content under another name, "
        f"{len(done['quarantined'])} quarantined. The table above counts all that was ever ingested of these machines."
    )
    _list([f"quarantined: {file}: {reason}" for file, reason in sorted(done["quarantined"].items())], place)
    _show_doubted(done["pending"], own, home_option(place))
    if done["forgotten"]:
        _list([f"left out, as it was forgotten: {file}" for file in done["forgotten"]], place)
        err.print(f"`asd forget --undo PATH{home_option(place)}` brings them back.")
    minimum = settings.recordings.minimum_training_recordings
    clips = training_recordings(cut(own, clip_lengths(own, settings.recordings))).groupby("machine").size()
    few = [row["machine"] for row in rows if clips.get(row["machine"], 0) < minimum]
    if few:
        err.print(f"too few normal training recordings for a detector (a machine needs {minimum}): {', '.join(few)}")


def _show_doubted(paths: list[str], recordings: pd.DataFrame, option: str) -> None:
    doubted = recordings[recordings["path"].isin(paths)]
    for machine, rows in doubted.groupby("machine"):
        n = len(rows)
        what = "1 new recording sounds" if n == 1 else f"{n} new recordings sound"
        err.print(
            f"{machine}: {what} suspect or anomalous to {rows['labelled_by'].iloc[0]}, the champion. Pending: nothing "
            "learns from them until you have decided:"
        )
        for path in rows["path"].head(SHOWN):
            err.print(f"  {path}")
        if n > SHOWN:
            err.print(f"  and {n - SHOWN} more; `asd label --pending{option}` lists them")
        name = shlex.quote(str(machine))
        err.print(f"  one of them:     asd label PATH --as anomaly{option}")
        err.print(f"  all the others:  asd label --pending --machine {name} --as normal{option}")


def show_pending(catalog: Catalog, machine: str | None, option: str) -> None:
    """The recordings that wait for a label, and the commands that settle them."""
    waiting = pending_review(catalog.of_machines([machine] if machine else None))
    if waiting.empty:
        out.print("No recording is pending.")
        return
    columns = ["machine", "labelled_by", "recording", "path"]
    rows = waiting[columns].fillna("nobody").astype(str).to_numpy().tolist()
    print_table(
        ["machine", "judged by", "recording", "path"],
        [[name, judge, digest[:DIGITS], path] for name, judge, digest, path in rows],
    )
    out.print(
        f"They do not train until they are labelled: `asd label PATH --as normal{option}`, or `--as anomaly`; all of "
        f"a machine: `asd label --pending --machine NAME --as normal{option}`."
    )


def counts(recordings: pd.DataFrame) -> list[str]:
    """A line for each machine: how many recordings, by split and label."""
    lines = []
    for machine, own in recordings.groupby("machine"):
        kinds = (own["split"] + " " + own["label"]).value_counts(sort=False).sort_index()
        lines.append(f"{machine}: {len(own)} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})")
    return lines


def _list(lines: list[str], place: Home) -> None:
    for line in lines[:SHOWN]:
        err.print(line)
    if len(lines) > SHOWN:
        err.print(f"... and {len(lines) - SHOWN} more in {place.recordings}")
