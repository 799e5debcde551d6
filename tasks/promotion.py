"""The gate between challenger and champion: both score the same recordings, and the better one becomes the champion."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import OutdatedDetectorError
from asdcore.monitoring.comparison import compare
from asdcore.monitoring.incidents import challenger_promoted, challenger_refused
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.incidents import unfailing
from tasks.notification import notified
from tasks.registered import load_detector
from tasks.registry import champion_version, set_challenger, set_champion, was_champion
from tasks.stage import Facts, stage
from tasks.warn import warn


@stage("runs/judgements/{key}.json", uncounted=("challenger",))
def judge_challenger(
    out: Path,
    registry: str,
    champion: str,
    version: str,
    challenger: str,
    recordings: pd.DataFrame,
    settings: Settings,
) -> Facts:
    """Compare a challenger (its version, and the folder of its detector) with the champion, a registered version.

    The judgement is the facts of the artifact.
    """
    known, _ = load_detector(Home.current(), champion)
    judgement = compare(known, Detector.load(challenger), recordings, settings)
    out.write_text(json.dumps(judgement, indent=2))
    return judgement


def decided(
    home: Home, version: str, detector: Path, recordings: pd.DataFrame, settings: Settings
) -> dict[str, Any] | None:
    """Compare a registered version with the champion, and make it the champion if it passes the gate.

    Returns:
        The judgement; None if there is no other champion to compare with.
    """
    champion = champion_version(home)
    if not champion:
        set_champion(home, version, "the first version")
        return None
    if champion == version or was_champion(home, version):
        # A champion that a person has replaced does not come back by itself.
        return None
    set_challenger(home, version)
    try:
        judged = dict(judge_challenger(home.registry, champion, version, str(detector), recordings, settings).facts)
    except OutdatedDetectorError:
        # It cannot score any more, so it must not block its replacement.
        reason = f"the champion, version {champion}, has an older format and cannot be read: there is no comparison"
        warn(reason)
        set_champion(home, version, reason)
        return None
    if judged["promote"]:
        set_champion(home, version, " ".join(judged["reasons"]))
        unfailing(lambda: challenger_promoted(home, f"the promotion of version {version}"))
    else:
        sentence = f"version {version} was not promoted: {' '.join(judged['reasons'])}"
        unfailing(lambda: challenger_refused(home, sentence))
    notified(home)
    return judged


def gate_sentence(judged: dict[str, Any] | None, version: str, champion: str) -> str:
    """What became of a registered version, and why."""
    if judged is not None:
        stays = f"was not promoted, version {champion} stays the champion"
        outcome = "became the champion" if judged["promote"] else stays
        return f"Version {version} {outcome}: {' '.join(judged['reasons'])}"
    if champion == version:
        return f"Version {version} became the champion without a comparison: there was no other readable champion."
    return f"Version {version} is not judged again; version {champion} stays the champion."


def judgement_text(judged: dict[str, Any], version: str) -> str:
    """The judgement in Markdown."""
    outcome = "is the new champion" if judged["promote"] else "was not promoted; the champion stays"
    lines = [f"### Version {version} {outcome}", "", *(f"- {reason}" for reason in judged["reasons"]), ""]
    if compared := judged.get("compared"):
        lines += [
            "| machine | champion | challenger | difference, 80 % interval | recordings |",
            "|---|--:|--:|--:|--:|",
        ]
        for row in compared:
            interval = f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
            metrics = f"{100 * row['champion']:.1f} | {100 * row['challenger']:.1f}"
            lines.append(f"| {row['machine']} | {metrics} | {interval} | {row['recordings']} |")
        lines.append("")
    lines += [f"- {machine}: by {criterion}" for machine, criterion in judged["by"].items()]
    return "\n".join(lines)
