"""The gate between challenger and champion: both judge the same recordings, and the better one is the champion."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from asdcore.detector import Detector
from asdcore.errors import OutdatedDetectorError
from asdcore.monitoring.comparison import compare
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.registry import champion_version, registered_folder, set_challenger, set_champion, was_champion
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
    """Judge a challenger (its version, and the folder of its detector) against the champion, a version of the registry.

    The judgement is the value of the artifact.
    """
    with registered_folder(Home.current(), champion) as (folder, _):
        judgement = compare(Detector.load(folder), Detector.load(challenger), recordings, settings)
    out.write_text(json.dumps(judgement, indent=2))
    return judgement


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
    try:
        judged = dict(judge_challenger(home.registry, champion, version, str(detector), recordings, settings).facts)
    except OutdatedDetectorError:
        # Nobody can score with it any more, so it must not keep out the one that replaces it.
        why = f"version {champion}, the champion, is of an older format and cannot be read: nothing to compare with"
        warn(why)
        set_champion(home, version, why)
        return None
    if judged["promote"]:
        set_champion(home, version, " ".join(judged["reasons"]))
    return judged


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
    lines += [f"- {machine}: by {how}" for machine, how in judged["by"].items()]
    return "\n".join(lines)
