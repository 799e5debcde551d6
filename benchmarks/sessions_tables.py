"""The tables of docs/evidence/sessions.md, as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from asdcore.monitoring.intervals import rate_interval

FUSED = "fused"
METHODS = ("leave-one-out", "leave-one-session-out")
FALSE = ("false_alarms", "false_alarms_any")
FOUND = ("found", "found_any")
RESAMPLES = 10_000
MEANS = "| asked | sessions | of each | worth | false alarms: anomalous | suspect or anomalous | found: anomalous "
MEANS += "| suspect or anomalous |"
Row = dict[str, Any]


def page(figures: dict[str, Any]) -> str:
    """All tables, one after the other, each with its title."""
    parts = []
    for data in ("real", "simulated"):
        rows = figures.get(data, [])
        if not rows:
            continue
        parts += [f"{data}: leave-one-out -> **leave-one-session-out**, means over the machines", means(rows)]
        parts += [f"{data}, by machine, 10 % asked", by_machine(rows)]
        parts += [f"{data}, by scorer, 10 % asked, leave-one-session-out", by_scorer(rows)]
        parts += ["\n".join(ratio(rows, asked) for asked in _values(rows, "asked"))]
    if alone := [row for row in figures.get("real", []) if row["every_session_unheard_once"]]:
        parts += ["real, each session by a machine that heard all the others, leave-one-session-out", unheard(alone)]
    if figures["same_number"]:
        parts += ["simulated, 36 recordings, 10 % asked", by_machine(figures["same_number"])]
    if "manifest" in figures:
        parts += ["real, split of the manifest", manifest(figures["manifest"])]
        parts += ["16 recordings", sixteen(figures["sixteen"])]
    return "\n\n".join([*parts, f"{figures['draws']} draws, {figures['seconds']} s"])


def means(rows: Sequence[Row]) -> str:
    """Fused; a line per rate and number of sessions. Draws of their own sessions have intervals."""
    lines = [MEANS, "|" + "---:|" * 8]
    for asked in _values(rows, "asked"):
        for sessions, each in _plans(rows):
            one, whole = _both(rows, asked=asked, sessions=sessions, per_session=each)
            cells = [
                f"{_percent(_mean(one, name))} → **{_percent(_mean(whole, name))}**{_interval(whole, name)}"
                for name in (*FALSE, *FOUND)
            ]
            lines.append(_line(_asked(asked), sessions, each, f"{_mean(whole, 'n_effective'):.1f}", *cells))
    return "\n".join(lines)


def by_machine(rows: Sequence[Row], asked: float = 0.1) -> str:
    """Fused; a line per machine, number of sessions and recordings of each."""
    lines = ["| machine | sessions | of each | worth | false alarms: anomalous | largest of any draw "]
    lines[0] += "| suspect or anomalous | found: anomalous | suspect or anomalous |"
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for machine in _values(rows, "machine"):
        for sessions, each in _plans(row for row in rows if row["machine"] == machine):
            chosen = {"machine": machine, "sessions": sessions, "per_session": each, "asked": asked}
            (one,), (whole,) = _both(rows, **chosen)
            lines.append(
                _line(
                    machine,
                    sessions,
                    each,
                    f"{whole['n_effective']:.1f}",
                    f"{_percent(one['false_alarms'])} → **{_percent(whole['false_alarms'])}**",
                    f"{_percent(max(whole['by_draw']['false_alarms']))}",
                    f"{_percent(whole['false_alarms_any'])}",
                    f"{_percent(one['found'])} → **{_percent(whole['found'])}**",
                    f"{_percent(whole['found_any'])}",
                )
            )
    return "\n".join(lines)


def by_scorer(rows: Sequence[Row], asked: float = 0.1) -> str:
    """A line per number of sessions; for each scorer false alarms and faults found, suspect or anomalous."""
    scorers = _values(rows, "scorer")
    lines = ["| sessions | of each | " + " | ".join(scorers) + " |", "|---:|---:|" + "---:|" * len(scorers)]
    for sessions, each in _plans(rows):
        cells = []
        for scorer in scorers:
            _, whole = _both(rows, scorer=scorer, sessions=sessions, per_session=each, asked=asked)
            cells.append(f"{_percent(_mean(whole, 'false_alarms_any'))}, {_percent(_mean(whole, 'found_any'))}")
        lines.append(_line(sessions, each, *cells))
    return "\n".join(lines)


def unheard(rows: Sequence[Row]) -> str:
    """Fused; how many sessions had a false alarm. Recordings of a session are alike, so the session is what counts."""
    lines = ["| asked | sessions | with an anomalous clip | interval | with a suspect or anomalous clip | interval |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for asked in _values(rows, "asked"):
        _, whole = _both(rows, asked=asked)
        cells: list[str] = []
        for name in FALSE:
            of_sessions = [value > 0 for row in whole for value in row["by_draw"][name]]
            low, high = (100 * end for end in rate_interval(sum(of_sessions), len(of_sessions)))
            cells += [str(sum(of_sessions)), f"{low:.0f} to {high:.0f} %"]
        lines.append(_line(_asked(asked), len(of_sessions), *cells))
    return "\n".join(lines)


def manifest(rows: Sequence[Row]) -> str:
    """Fused; a line per machine and rate."""
    lines = ["| machine | asked | worth | false alarms: anomalous | suspect or anomalous | found: anomalous "]
    lines[0] += "| suspect or anomalous |"
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for machine in _values(rows, "machine"):
        for asked in _values(rows, "asked"):
            (one,), (whole,) = _both(rows, machine=machine, asked=asked)
            cells = [f"{_percent(one[name])} → **{_percent(whole[name])}**" for name in (*FALSE, *FOUND)]
            lines.append(_line(machine, _asked(asked), f"{whole['n_effective']:.1f}", *cells))
    return "\n".join(lines)


def sixteen(rows: Sequence[Row]) -> str:
    """A line per motor, scorer and rate: anomalous + suspect."""
    lines = ["| motor | scorer | asked | faulty: anomalous + suspect | normal: anomalous + suspect |"]
    lines.append("|---|---|---:|---:|---:|")
    for row in rows:
        cells = [
            f"{row[f'{label}_anomalous']} + {row[f'{label}_any'] - row[f'{label}_anomalous']} of {row[label]}"
            for label in ("anomaly", "normal")
        ]
        lines.append(_line(row["machine"], row["scorer"], _asked(row["asked"]), *cells))
    return "\n".join(lines)


def ratio(rows: Sequence[Row], asked: float) -> str:
    """False alarms over those asked for, by method: the mean over machines and numbers of sessions above 1."""
    several = [row for row in rows if row["sessions"] > 1]
    one, whole = _both(several, asked=asked)
    pairs = [
        f"{label} {_mean(one, name) / asked / 100:.2f} -> {_mean(whole, name) / asked / 100:.2f}"
        for label, name in zip(("anomalous", "suspect or anomalous"), FALSE, strict=True)
    ]
    what = f"{asked:.0%} asked, 2 sessions or more, fused, times what was asked, {' -> '.join(METHODS)}"
    return "; ".join([what, *pairs])


def _both(rows: Iterable[Row], scorer: str = FUSED, **chosen: Any) -> tuple[list[Row], list[Row]]:
    """The rows with these values, of each method."""
    wanted = chosen | {"scorer": scorer}
    own = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    one, whole = ([row for row in own if row["method"] == method] for method in METHODS)
    return one, whole


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.nanmean([row[name] for row in rows]))


def _interval(rows: Sequence[Row], name: str) -> str:
    """Of the mean over machines: 95 %, by a bootstrap over the draws of each. Choices among the same sessions, which
    share recordings, have none, and values that are all the same.
    """
    if rows[0]["data"] == "real" or len({value for row in rows for value in row["by_draw"][name]}) == 1:
        return ""
    rng = np.random.default_rng(0)
    values = [np.asarray(row["by_draw"][name]) for row in rows]
    resampled = [of[rng.integers(len(of), size=(RESAMPLES, len(of)))].mean(axis=1) for of in values]
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5])
    return f" ({_percent(low)} to {_percent(high)})"


def _plans(rows: Iterable[Row]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((row["sessions"], row["per_session"]) for row in rows))


def _values(rows: Iterable[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _asked(rate: float) -> str:
    return f"{100 * rate:g} %"


def _percent(value: float) -> str:
    """Tenths, where there are any; of no recording nothing."""
    return "–" if np.isnan(value) else f"{round(value, 1):g}"


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
