"""What the command line prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.text import Text

from asdcore.errors import AsdError
from asdcore.evaluation.table import cells
from asdcore.heard import clock
from asdcore.monitoring.reliability import reliability_of
from asdcore.normality.threshold import Threshold
from asdcore.recordings.health import counted
from asdcore.screening import sentences
from asdcore.storage.home import Home
from flows.cli.console import out
from flows.cli.output import Output, number
from flows.cli.show_recordings import home_option
from flows.cli.tables import print_table

if TYPE_CHECKING:
    from asdcore.detector import Detector


MOST_ROWS = 50
"""of a table of recordings; the rest is where the command says"""
TOGETHER = "those of one session are not; a rule of several recordings may alarm far more often"


def show_results(done: Mapping[str, Any], place: Home) -> None:
    """What the verdicts of a retraining or benchmark come to, its table of metrics, notes, and where the rest is."""
    for line in done["outcomes"]:
        out.print(line)
    if done["table"]:
        tables = [pd.read_parquet(place.root / done[name]) for name in ("table", "differences")]
        header, *rows = cells(*tables)
        title = done["report"].splitlines()[0].removeprefix("## ")
        print_table(header, rows, right=range(2, len(header)), title=f"{title}, percent; 50 is chance")
    else:
        out.print("There are no labelled test recordings: no metrics can be computed.")
    for line in done["report"].splitlines():
        if line.startswith("- ") and line.removeprefix("- ") not in done["outcomes"]:
            out.print(line)
    out.print(f"plots      {short(place.root / done['plots'])}")
    out.print(f"scores     {short(place.root / done['scores'])}")


def write_results(output: Output, done: Mapping[str, Any], place: Home) -> None:
    """What a retraining or benchmark came to, as data."""
    tables = [
        pd.read_parquet(place.root / done[name]) if done[name] else pd.DataFrame(columns=names)
        for name, names in (("table", ["machine", "metric"]), ("differences", ["system", "difference", "low", "high"]))
    ]
    facts: dict[str, Any] = {name: done[name] for name in ("detector", "run") if name in done}
    facts |= {name: number(done[name]) for name in ("version", "champion") if name in done}
    facts |= {name: str(place.root / done[name]) for name in ("plots", "scores")}
    judged, outcomes = done.get("judgement"), list(done["outcomes"])
    output.write(
        tables[0],
        list(tables[0].columns),
        differences=tables[1],
        outcomes=outcomes,
        gate=judged["reasons"] if judged else [],
        **facts,
    )


def show_registered(done: Mapping[str, Any], place: Home) -> None:
    """Where a retraining has left its detector."""
    option = home_option(place)
    judged = done.get("judgement")
    for reason in judged["reasons"] if judged else ():
        out.print(f"gate       {reason}")
    rank = "the champion" if done["champion"] == done["version"] else f"the champion is version {done['champion']}"
    out.print(f"detector   {short(Path(done['detector']))}")
    out.print(f"registry   asd-detector version {done['version']}, {rank}; see asd models{option}")
    out.print(f"UI         asd ui{option}")
    for line in done.get("listen_first", ()):
        out.print(line)
    if done.get("page"):
        out.print(f"Report: {done['page']}")


def show_enrolment(done: Mapping[str, Any], place: Home) -> None:
    """The version that an enrolment or a retirement has made."""
    count = done.get("training_recordings")
    what = f"enrolled on {count} normal recordings" if count else "retired"
    what = what if count or done["machine"] not in done["machines"] else "has another threshold"
    out.print(f"{done['machine']} {what}; nothing else of version {done['parent']} has changed")
    for sentence in done.get("reliability", ())[:1]:
        out.print(f"{done['machine']}: {sentence}")
    out.print(f"machines   {', '.join(done['machines'])}")
    show_registered(done, place)


def show_threshold(machine: str, detector: "Detector", per_day: float | None, output: Output) -> None:
    """When a machine raises an alarm, whether its recordings support that, and how often it will be false."""
    threshold = detector.threshold_of(detector.enrolled(machine))
    calibration = detector.machines[machine].calibration
    rate = threshold.false_alarm_rate
    rows = [["anomalous", f"at {100 * rate:g} % false alarms"]]
    low: float | None = None
    high: float | None = None
    if rate < calibration.supported_rate:
        supported = f"{100 * calibration.supported_rate:.2g} %"
        rows.append(["", f"not supported: {supported} is the lowest rate that its recordings support; suspect at most"])
    else:
        low, high = calibration.interval(rate)
        rows.append(["", f"actual rate: 90 % interval {100 * low:.2g} to {100 * high:.2g} %"])
    rows.append(["alarm", f"{threshold.needed} anomalous of the last {threshold.last} recordings"])
    often = threshold.per_recording()
    expected = f"{1000 * often:.2g} in 1000 recordings"
    if per_day:
        expected = f"{7 * per_day * often:.2g} a week at {per_day:g} recordings a day"
    rows.append(["false alarms", f"{expected}, if recordings are independent: {TOGETHER}"])
    print_table([machine, ""], rows)
    output.write(
        _pairs(rows),
        machine=machine,
        false_alarm_rate=rate,
        supported_rate=calibration.supported_rate,
        low=low,
        high=high,
        needed=threshold.needed,
        last=threshold.last,
        false_alarms_per_recording=often,
    )


def _pairs(rows: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """The rows of a table of two columns, as data."""
    return [{"what": what, "value": value} for what, value in rows]


def show_reliability(machine: str, detector: "Detector", version: str, output: Output) -> None:
    """The reliability report of one machine of a registered detector."""
    report = reliability_of(detector, machine)
    if report is None:
        raise AsdError(f"version {version} has no reliability report of {machine}; retrain, or enroll it again")
    domains = ", ".join(f"{n} {name}" for name, n in report.domains.items())
    out.print(f"{machine}, detector version {version}: {report.rating}", style="bold")
    for sentence in report.sentences:
        out.print(f"- {sentence}")
    if detector.learned_from_simulated(machine):
        out.print("- Learned from simulated recordings.")
    rows = [["normal training recordings", f"{report.n} ({domains})"]]
    rows += [["false alarms asked", _asked(report.asked, detector.thresholds.get(machine))]]
    for what, achieved in (("left out of the training", report.left_out), ("of the test", report.test)):
        for domain, one in achieved.items():
            whose = what if domain == "all" else f"{what}, {domain}"
            rows.append([f"false alarms {whose}", f"{one.alarms} of {one.recordings}, 95 % interval {one.percent}"])
    for point in report.next_sessions:
        shares = f"{100 * point.anomalous:.0f} % anomalous, {100 * point.strange:.0f} % suspect or anomalous"
        known = f"{point.sessions} {'session' if point.sessions == 1 else 'sessions'} known"
        known += f", {100 * report.next_asked:g} % asked" if report.next_asked != report.asked else ""
        rows.append([f"false alarms of the next session, {known}", f"{shares}, mean of {point.draws} draws"])
    for scorer, own in report.scorers.items():
        condition = "infinite" if own.condition is None else f"{own.condition:.2g}"
        seen = f"{own.rank} of {own.p} directions seen, condition {condition}, effective rank {own.effective_rank:.1f}"
        rows.append([f"{scorer} ({own.estimator})", seen])
    print_table(["what", "value"], rows)
    output.write(_pairs(rows), machine=machine, version=number(version), **report.to_json())


def _asked(rate: float, own: Threshold | None) -> str:
    """The rate of a reliability report, and whether it is the machine's own."""
    return f"{100 * rate:g} %" + (", the machine's own rate (asd threshold)" if own else "")


def show_differences(names: tuple[str, str], a: dict[str, str], b: dict[str, str], output: Output) -> None:
    """What differs between two registered versions: scores with the difference, machines, settings, lineage."""
    rows = []
    for what in sorted(dict.fromkeys([*a, *b]), key=lambda what: not what.startswith("score ")):
        left, right = a.get(what), b.get(what)
        if left != right:
            scored = what.startswith("score ") and left is not None and right is not None
            difference = round(float(right) - float(left), 2) if scored and left and right else None
            rows.append({"what": what, "left": left, "right": right, "difference": difference})
    output.write(rows, ["what", "left", "right", "difference"])
    if not rows:
        out.print(f"{names[0]} and {names[1]} are the same in settings, recordings, machines and scores.")
        return
    drawn = [
        [str(row["what"]), str(row["left"] or "-"), str(row["right"] or "-"), _signed(row["difference"])]
        for row in rows
    ]
    print_table(["what", *names, "difference"], drawn, right=[3])


def _signed(value: Any) -> str:
    return "" if value is None else f"{value:+.2f}"


def show_metrics(metrics: pd.DataFrame, means: dict[str, float]) -> None:
    """The metrics of each machine and section, and the means over all."""
    header = [str(name) for name in metrics.columns]
    rows = [[f"{v:.4f}" if isinstance(v, float) else str(v) for v in row] for row in metrics.itertuples(index=False)]
    print_table(header, rows, right=range(2, len(header)))
    print_table(["mean", "value"], [[name, f"{value:.4f}"] for name, value in means.items()], right=[1])


def short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_scores(scores: pd.DataFrame, suspicions: Mapping[str, str]) -> None:
    """The most anomalous recordings first, at most `MOST_ROWS`; what is wrong with them; what the suspect ones mean."""
    ordered = scores.assign(in_training=scores["in_training"].fillna(False), order=scores["verdict"].map(_ORDER))
    # Scores compare recordings of one machine: of several, the normal ones come after all that are strange.
    ordered = ordered.sort_values(["order", "score"], ascending=[True, False], na_position="last").head(MOST_ROWS)
    long = bool((scores["clips"] > 1).any())
    header = ["machine", "score", "p-value", "verdict", "triggered by", *(["strangest"] if long else []), "recording"]
    rows: list[list[str | Text]] = []
    for values in ordered.to_dict("records"):
        row = {str(name): value for name, value in values.items()}
        verdict: list[str | Text] = ["-", "-", "not scored", ""]
        if not row["reason"]:
            verdict = [f"{row['score']:.1f}", f"{row['p_value']:.2g}", _verdict_cell(row), row["triggered_by"]]
        rows.append([row["machine"], *verdict, *([_strangest(row)] if long else []), row["path"]])
    print_table(header, rows, right=[1, 2])
    if len(scores) > len(rows):
        out.print(
            f"The {len(rows)} strangest of {len(scores)} recordings; the table named below, or --csv FILE, has all."
        )
    for line in counted(zip(ordered["path"], ordered["treatment"], strict=True)):
        out.print(line)
    for machine, sentence in suspicions.items():
        n = int(((scores["machine"] == machine) & (scores["verdict"] == "suspect")).sum())
        out.print(f"{machine}, {n} suspect: listen to {'it' if n == 1 else 'them'}. {sentence}")


def show_screening(table: pd.DataFrame, shown: int) -> None:
    """A sentence for each machine, then the recordings to listen to first: all that stand out, at least ``shown``."""
    for sentence in sentences(table):
        out.print(sentence, style="bold")
    ranked = table[table["reason"] == ""]
    first = ranked[ranked["stands_out"] | (ranked["rank"] <= shown)]
    long = bool((first["clips"] > 1).any())
    header = ["machine", "rank", "score", "times usual", "found by", *(["strangest"] if long else []), "recording"]
    rows: list[list[str | Text]] = []
    for values in first.to_dict("records"):
        row = {str(name): value for name, value in values.items()}
        score = Text(_brief(row["score"]), "yellow" if row["stands_out"] else "")
        cells_of_row = [row["machine"], str(row["rank"]), score, _brief(row["times_usual"]), row["found_by"]]
        rows.append([*cells_of_row, *([_strangest(row)] if long else []), short(Path(row["path"]))])
    if rows:
        print_table(header, rows, right=[1, 2, 3])
    for line in counted(zip(ranked["path"], ranked["treatment"], strict=True)):
        out.print(line)


def _brief(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}"


_ORDER = {"anomalous": 0, "suspect": 1, "normal": 2}
_VERDICTS = {"anomalous": ("ANOMALOUS", "red"), "suspect": ("suspect", "yellow"), "normal": ("normal", "")}


def _verdict_cell(row: Mapping[str, Any]) -> Text:
    """The verdict, coloured on a terminal; of a recording that the detector was fitted on it says so."""
    word, colour = _VERDICTS[row["verdict"]]
    return Text.assemble((word, colour), " (in training)" if row["in_training"] else "")


def _strangest(row: Mapping[str, Any]) -> str:
    """Where the strangest clip of a long recording starts."""
    if row["reason"] or row["clips"] < 2:
        return ""
    return f"at {clock(row['strangest_at'])} of {row['clips']} clips"


def print_explanations(done: Mapping[str, Any]) -> None:
    """Where the anomalous recordings differ from normal, and where that is drawn; if none is, the nearest to it."""
    strange = done["anomalous"] + done["suspect"]
    if done["explained"] and not strange:
        out.print(
            "\nNothing is anomalous or suspect. The recording nearest to it differs from what is usual as follows:"
        )
    for explained in done["explained"]:
        out.print(f"\n{explained['path']}")
        for sentence in explained["sentences"]:
            out.print(f"  {sentence}")
        out.print(f"  plot: {short(Path(explained['plot']))}")
    if 0 < len(done["explained"]) < strange:
        out.print(f"\nExplained: the {len(done['explained'])} most anomalous of {strange}.")
