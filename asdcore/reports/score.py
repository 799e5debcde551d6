"""The report of a scoring run: verdicts, timeline, the recordings of interest, the table."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.explanation.explanation import Explanation
from asdcore.heard import Heard, clock, score_table, strangest_recordings
from asdcore.normality.machine import SUSPECT
from asdcore.normality.odds import odds
from asdcore.recordings.health import remarks
from asdcore.reports.cards import MOST_SHOWN, Card, Compare, bounded
from asdcore.reports.comparison import Compared, compared
from asdcore.reports.known import Known
from asdcore.reports.machines import STRANGE, labelled, plain, scored_machine, simulated_note
from asdcore.reports.page import count_of, prose, rendered, shortened
from asdcore.reports.page import score as score_text

MOST_ROWS = 1000
"""of the table"""
LABEL = "If you know what it is, label it"
ADD_LABELLED = "If you know what it is, label it: this adds it to the table of recordings"


def score_report(
    detector: Detector,
    heard: Sequence[Heard],
    known: Known | None = None,
    *,
    version: str = "",
    notes: Mapping[str, Sequence[str]] | None = None,
    names: Mapping[Path, str] | None = None,
    elsewhere: str = "",
    explanations: Mapping[str, Explanation] | None = None,
) -> str:
    """One HTML page about scored recordings.

    >>> heard = list(detector.listen(["pump/test/new.wav"]))                            # doctest: +SKIP
    >>> Path("report.html").write_text(score_report(detector, heard), encoding="utf-8") # doctest: +SKIP

    Args:
        detector: that heard them.
        heard: at least one recording; the files of those of interest are read again.
        known: labels, sessions and the files of the training recordings; None: nothing.
        version: of the detector, as it is registered.
        notes: machine: sentences about it, such as what its alarm is.
        names: path: what a recording without a file of its own is called.
        elsewhere: where all scores are, for a table that is cut.
        explanations: recording: what its strangest clip differs by, where that is known already.
    """
    known, names, explanations = known or Known(), names or {}, explanations or {}
    scores = pd.concat([score_table(heard), known.described(heard)], axis=1)
    folder = common_folder([one.path for one in heard if one.path not in names])
    scores["name"] = [names.get(one.path) or below(folder, one.path) for one in heard]
    files = known.training_files()

    def comparison(index: int, with_sound: bool) -> Compared:
        one = heard[index]
        explanation = explanations.get(one.recording)
        return compared(detector, one, files, with_sound=with_sound, explanation=explanation)

    about = [f"Detector version {version}"] if version else []
    about += [f"Recordings in {shortened(str(folder))}"] if folder else []
    strangest = strangest_recordings(scores, MOST_SHOWN)
    commands = {index: [] if heard[index].path in names else known.commands(heard[index]) for index in strangest}
    return scores_page(
        detector,
        scores,
        {index: partial(comparison, index) for index in strangest},
        commands,
        notes or {},
        title=f"Scores of {count_of(len(scores), 'recording')}",
        about=about,
        elsewhere=elsewhere,
    )


def scores_page(
    detector: Detector,
    scores: pd.DataFrame,
    compare: Mapping[int, Compare],
    commands: Mapping[int, Sequence[str]],
    notes: Mapping[str, Sequence[str]],
    *,
    title: str,
    about: Sequence[str],
    elsewhere: str,
    waiting: Mapping[str, str] | None = None,
    label_command: str = "",
) -> str:
    """One HTML page about a table of scores.

    Args:
        detector: whose limits are drawn; all machines are enrolled.
        scores: the columns of `asdcore.heard.score_table` and `Known.described`, and name.
        compare: row: explains a recording of interest; the strangest first.
        commands: row: the command lines that label it.
        notes: machine: sentences about it.
        title: of the page.
        about: lines below it.
        elsewhere: where all scores are.
        waiting: machine: how many of its recordings are pending review.
        label_command: lists them.
    """
    scores = scores.assign(name=scores["name"].map(shortened), anchor="")
    scores.loc[list(compare), "anchor"] = [f"recording-{place}" for place in range(1, len(compare) + 1)]
    found = [
        (score_card(plain(scores.loc[index].to_dict()), commands[index]), explain) for index, explain in compare.items()
    ]
    cards, left_out = bounded(found)
    ordered = scores.sort_values("score", ascending=False, na_position="last")
    return rendered(
        "score.html",
        title=title,
        about=about,
        simulated=simulated_note(scores["simulated"]),
        machines=[
            scored_machine(detector, str(machine), rows, notes.get(str(machine), ()))
            for machine, rows in scores.groupby("machine")
        ],
        labelled=labelled(scores),
        cards=cards,
        strange=int(scores["verdict"].isin(STRANGE).sum()),
        waiting=waiting or {},
        label_command=label_command,
        left_out=left_out,
        table=[plain(row) for row in ordered.head(MOST_ROWS).to_dict("records")],
        count=len(scores),
        long=bool((scores["clips"] > 1).any()),
        sessions=bool((scores["session"] != "").any()),
        labels=bool((scores["label"] != "unknown").any()),
        elsewhere=elsewhere,
    )


def score_card(row: Mapping[str, Any], commands: Sequence[str]) -> Card:
    """What is said of a recording that was scored. ``row``: of a table as `scores_page` takes it."""
    facts = [("machine", str(row["machine"]))]
    if not row["reason"]:
        facts.append(("score", f"{score_text(row['score'])}. {prose(odds(row['p_value'], row['verdict']))}"))
    if row["session"]:
        facts.append(("session", str(row["session"])))
    if row["label"] != "unknown":
        facts.append(("labelled", str(row["label"])))
    if row["clips"] and row["clips"] > 1:
        at = f"at {clock(row['strangest_at'])}, of {row['clips']} clips; that clip is shown"
        facts.append(("strangest", at))
    if found := remarks(str(row.get("treatment") or "")):
        facts.append(("recording", "; ".join(found)))
    if row["in_training"]:
        facts.append(("in training", "the detector was fitted on it; this is the verdict of a model without it"))
    hint = LABEL if row["in_table"] else ADD_LABELLED
    badge, tone = ("not readable", SUSPECT) if row["reason"] else (row["verdict"], row["verdict"])
    return Card(row["anchor"], row["name"], badge, tone, facts, hint, commands)


def common_folder(paths: Sequence[Path]) -> Path | None:
    """The folder that all of them are in; None if they have none in common."""
    try:
        return Path(os.path.commonpath([path.absolute().parent for path in paths]))
    except ValueError:
        return None


def below(folder: Path | None, path: Path) -> str:
    """A path as it is called within a folder."""
    return os.path.relpath(path, folder) if folder else str(path)
