"""False alarms in sessions that were not heard, and faults found: leave-one-session-out against leave-one-out.

    OMP_NUM_THREADS=1 python benchmarks/sessions.py [--quick] [--json FILE] [--plot FILE]

A machine is fitted on K sessions and judges the normal and the faulty recordings of its other sessions by
`MachineModel` with the scorers that need no network: spectrum, change, and both fused. Once whole sessions are left out
for calibration (leave-one-session-out), once each recording by itself (leave-one-out, the named alternative): the same
recordings, models and draws of sessions. Figures are means over draws.

Simulated machines: see `asdcore.datasets.sessions`, faults of half to one and a half times strength 1. If the variable
ASD_SAMPLE_DATA names a folder with ``real-sessions`` (three brushless motors; a session is a recording of 10 s at one
speed, cut to clips of 2 s) and ``real-mini`` (16 normal recordings of each of two motors), these are measured as well.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from sessions_plot import draw
from threadpoolctl import threadpool_limits

from asdcore.datasets.machines import FAULTS, MACHINES, SAMPLE_RATE, SPECIFICATIONS
from asdcore.datasets.sessions import Session
from asdcore.datasets.simulate import waveform
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.machine import ANOMALOUS, NORMAL, MachineModel
from asdcore.normality.scorers import build_scorers, features_of
from asdcore.progress import progress
from asdcore.recordings.names import find_recordings
from asdcore.settings import MelSettings, NormalitySettings

RATES = (0.01, 0.05, 0.1)
SESSIONS = (1, 2, 3, 5, 8, 12, 20)
PER_SESSION = 6
SAME_NUMBER = ((3, 12), (6, 6), (12, 3), (18, 2))
"""sessions, recordings of each: 36 recordings"""
SCORERS = build_scorers(NormalitySettings(scorers=("spectrum", "change")))
FUSED = "fused"
AVERAGED = ("false_alarms", "false_alarms_any", "found", "found_any", "n_effective")
METHODS = ("leave-one-out", "leave-one-session-out")
CLIP_SECONDS = 2
SEED = 0
Vectors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Recordings:
    """Feature vectors by scorer, (n, p), and the session of each row."""

    vectors: Vectors
    session: NDArray[np.str_]

    def of(self, chosen: NDArray[Any]) -> "Recordings":
        return Recordings({name: X[chosen] for name, X in self.vectors.items()}, self.session[chosen])


@dataclass(frozen=True)
class Case:
    """A machine: its normal recordings and its faulty ones."""

    data: str
    machine: str
    normal: Recordings
    faulty: Recordings


def vectors_of(samples: NDArray[np.float32]) -> Vectors:
    return features_of(list(SCORERS.values()), as_stored(spectrogram(samples, SAMPLE_RATE, MelSettings())), None)


def gathered(rows: Sequence[tuple[Vectors, str]]) -> Recordings:
    if not rows:
        return Recordings(
            {name: np.zeros((0, MelSettings().n_mels), np.float32) for name in SCORERS}, np.array([], str)
        )
    vectors = {name: np.stack([row[name] for row, _ in rows]) for name in SCORERS}
    return Recordings(vectors, np.array([session for _, session in rows]))


def simulated(machine: str, sessions: int, per_session: int) -> Case:
    """So many sessions of so many normal recordings and one of each fault, all of the source domain."""
    settings = SPECIFICATIONS[machine].settings["source"]
    normal: list[tuple[Vectors, str]] = []
    faulty: list[tuple[Vectors, str]] = []
    for index in range(sessions):
        key = [SEED, MACHINES.index(machine), index]
        session = Session.draw(np.random.default_rng(key))
        for number in range(per_session + len(FAULTS)):
            rng = np.random.default_rng([*key, number])
            broken = number >= per_session
            samples = waveform(
                machine,
                domain="source",
                label="anomaly" if broken else "normal",
                rng=rng,
                setting=settings[(number + index) % len(settings)],
                fault=FAULTS[number - per_session] if broken else None,
                strength=float(rng.spawn(1)[0].uniform(0.5, 1.5)),
                session=session,
            )
            (faulty if broken else normal).append((vectors_of(samples), f"{index:02d}"))
    return Case("simulated", machine, gathered(normal), gathered(faulty))


def clips(path: Path) -> Iterator[NDArray[np.float32]]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == SAMPLE_RATE, f"{path}: {rate} Hz"
    length = CLIP_SECONDS * rate
    for start in range(0, len(samples) - length + 1, length):
        yield samples[start : start + length, 0]


def real_sessions(folder: Path) -> list[tuple[Case, NDArray[np.bool_]]]:
    """Each motor, and which of its normal clips the manifest gives for training."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases: list[tuple[Case, NDArray[np.bool_]]] = []
    for machine in dict.fromkeys(row["machine"] for row in rows):
        of: dict[str, list[tuple[Vectors, str]]] = {"normal": [], "anomaly": []}
        training = []
        for row in (row for row in rows if row["machine"] == machine):
            for clip in clips(folder / row["path"]):
                # A faulty recording is one of its own, at whatever speed.
                of[row["label"]].append((vectors_of(clip), f"{row['label']} {row['session']}"))
                if row["label"] == "normal":
                    training.append(row["split"] == "train")
        cases.append((Case("real", machine, gathered(of["normal"]), gathered(of["anomaly"])), np.array(training)))
    return cases


def fitted(training: Recordings, method: str) -> dict[str, MachineModel]:
    """The machine of each scorer, and that of both."""
    groups = training.session if method == METHODS[1] else None
    models = {name: scorer.model().fit(training.vectors[name], groups=groups) for name, scorer in SCORERS.items()}
    machines = {name: MachineModel({name: model}, groups=groups) for name, model in models.items()}
    return machines | {FUSED: MachineModel(models, groups=groups)}


def judged(machine: MachineModel, recordings: Recordings, rate: float) -> tuple[float, float]:
    """Percent that are anomalous, and that are suspect or anomalous; NaN of no recording."""
    if not len(recordings.session):
        return float("nan"), float("nan")
    verdict = machine.verdict(recordings.vectors, rate)["verdict"]
    return 100 * float((verdict == ANOMALOUS).mean()), 100 * float((verdict != NORMAL).mean())


def measured(case: Case, training: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """One row per method, scorer and rate, of one choice of training sessions."""
    heard = case.normal.of(training)
    unheard, faulty = (part.of(~np.isin(part.session, heard.session)) for part in (case.normal, case.faulty))
    rows = []
    for method in METHODS:
        for scorer, machine in fitted(heard, method).items():
            for rate in RATES:
                row = {"data": case.data, "machine": case.machine, "method": method, "scorer": scorer, "asked": rate}
                row["false_alarms"], row["false_alarms_any"] = judged(machine, unheard, rate)
                row["found"], row["found_any"] = judged(machine, faulty, rate)
                rows.append(row | {"n_effective": machine.calibration.n_effective_})
    return rows


def by_sessions(case: Case, plan: Sequence[tuple[int, int]], draws: int) -> list[dict[str, Any]]:
    """One row per number of sessions and recordings of each, method, scorer and rate: means over draws of sessions."""
    rows = []
    names = np.unique(case.normal.session)
    for sessions, per_session in progress([p for p in plan if p[0] < len(names)], f"{case.data} {case.machine}"):
        rng = np.random.default_rng([SEED, sessions])
        subsets = [rng.choice(names, sessions, replace=False) for _ in range(draws)]
        if case.data == "real":  # few enough to take each once
            every = list(combinations(names, sessions))
            subsets = [np.array(every[index]) for index in rng.permutation(len(every))[:draws]]
        of_draws = [
            measured(case, np.isin(case.normal.session, subset) & first(case, per_session)) for subset in subsets
        ]
        for of_row in zip(*of_draws, strict=True):
            row = of_row[0] | {"sessions": sessions, "per_session": per_session, "draws": len(of_row)}
            for name in AVERAGED:
                row[name] = float(np.mean([single[name] for single in of_row]))
            row["largest_false_alarms"] = max(single["false_alarms"] for single in of_row)
            rows.append(row)
    return rows


def first(case: Case, count: int) -> NDArray[np.bool_]:
    """Which normal recordings are among the first so many of their sessions."""
    session = case.normal.session
    return np.array([(session[:index] == name).sum() < count for index, name in enumerate(session)])


def sixteen(folder: Path, machine: str) -> list[dict[str, Any]]:
    """Two motors of which 16 normal recordings are all there is, each of unknown session."""
    rows: dict[tuple[str, str], list[tuple[Vectors, str]]] = {}
    for found in find_recordings(folder):
        if found.machine == machine:
            (clip,) = clips(found.path)
            rows.setdefault((found.split, found.label), []).append((vectors_of(clip), found.path.name))
    training = gathered(rows["train", "normal"])
    machines = fitted(training, METHODS[0])
    result = []
    for scorer, fitted_machine in machines.items():
        for rate in RATES:
            row: dict[str, Any] = {
                "machine": machine,
                "scorer": scorer,
                "asked": rate,
                "training": len(training.session),
            }
            for label in ("normal", "anomaly"):
                recordings = gathered(rows["test", label])
                anomalous, strange = (
                    share * len(recordings.session) / 100 for share in judged(fitted_machine, recordings, rate)
                )
                row |= {
                    label: len(recordings.session),
                    f"{label}_anomalous": round(anomalous),
                    f"{label}_any": round(strange),
                }
            result.append(row)
    return result


def averaged(rows: Sequence[dict[str, Any]], **chosen: Any) -> dict[str, float]:
    """The mean over machines of the rows that have these values."""
    of = [row for row in rows if all(row[name] == value for name, value in chosen.items())]
    return {name: float(np.nanmean([row[name] for row in of])) for name in AVERAGED}


def table(rows: Sequence[dict[str, Any]], asked: float) -> str:
    """Fused; one line per machine, number of sessions and recordings of each."""
    columns = f"{'machine':12}{'sessions':>9}{'each':>5}{'worth':>7} |{'false':>9}{'found':>12} |"
    columns += f"{'false':>9}{'largest':>12}{'found':>15} |{'false':>9}{'found':>12}"
    lines = [f"{'':33} | leave-one-out:       | leave-one-session-out: anomalous     | suspect or anomalous", columns]
    for machine, sessions, per_session in dict.fromkeys((r["machine"], r["sessions"], r["per_session"]) for r in rows):
        key = (machine, sessions, per_session, FUSED, asked)
        by_method = {
            row["method"]: row
            for row in rows
            if (row["machine"], row["sessions"], row["per_session"], row["scorer"], row["asked"]) == key
        }
        one, whole = (by_method[method] for method in METHODS)
        lines.append(
            f"{machine:12}{sessions:9}{per_session:5}{whole['n_effective']:7.1f} |"
            f"{one['false_alarms']:9.1f}{one['found']:12.1f} |"
            f"{whole['false_alarms']:9.1f}{whole['largest_false_alarms']:12.0f}{whole['found']:15.1f} |"
            f"{whole['false_alarms_any']:9.1f}{whole['found_any']:12.1f}"
        )
    return "\n".join(lines)


def means(rows: Sequence[dict[str, Any]]) -> str:
    """The mean over machines, one line per scorer, rate and number of sessions."""
    lines = []
    for scorer, rate in [(scorer, 0.1) for scorer in SCORERS] + [(FUSED, rate) for rate in RATES]:
        for sessions in dict.fromkeys(row["sessions"] for row in rows):
            chosen = {"scorer": scorer, "asked": rate, "sessions": sessions}
            one, whole = (averaged(rows, method=method, **chosen) for method in METHODS)
            pairs = [f"{one[name]:5.1f} -> {whole[name]:5.1f}" for name in AVERAGED]
            lines.append(
                f"{scorer:9}{rate:5.0%}{sessions:4} sessions: false alarms {pairs[0]}, with suspects {pairs[1]}; "
                f"found {pairs[2]}, with suspects {pairs[3]}"
            )
    return "\n".join(lines)


def ratio(rows: Sequence[dict[str, Any]], asked: float) -> str:
    """False alarms over those asked for, by method: the mean over machines and numbers of sessions above 1."""
    of = [row for row in rows if row["sessions"] > 1]
    one, whole = (averaged(of, method=method, scorer=FUSED, asked=asked) for method in METHODS)
    return "; ".join(
        [f"{asked:.0%} asked, 2 sessions or more, fused, times what was asked, leave-one-out -> leave-one-session-out"]
        + [
            f"{label} {one[name] / asked / 100:.2f} -> {whole[name] / asked / 100:.2f}"
            for label, name in (("anomalous", "false_alarms"), ("suspect or anomalous", "false_alarms_any"))
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sessions and draws: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one JSON object; - is stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw false alarms and faults found by sessions")
    arguments = parser.parse_args()
    started = time.monotonic()
    counts, pool, draws = ((1, 3, 8), 12, 3) if arguments.quick else (SESSIONS, 40, 20)
    cases = [simulated(machine, pool, SAME_NUMBER[0][1]) for machine in progress(MACHINES, "simulated machines")]
    rows = [row for case in cases for row in by_sessions(case, [(count, PER_SESSION) for count in counts], draws)]
    figures: dict[str, Any] = {"benchmark": "sessions", "draws": draws, "simulated": rows, "same_number": []}
    if not arguments.quick:
        figures["same_number"] = [row for case in cases for row in by_sessions(case, SAME_NUMBER, draws)]
    if folder := os.environ.get("ASD_SAMPLE_DATA"):
        motors = real_sessions(Path(folder) / "real-sessions")
        figures["real"] = [row for case, _ in motors for row in by_sessions(case, [(k, 5) for k in range(1, 8)], draws)]
        figures["manifest"] = [row for case, training in motors for row in measured(case, training)]
        figures["sixteen"] = [
            row for machine in ("bldcA", "bldcB") for row in sixteen(Path(folder) / "real-mini", machine)
        ]
    figures["seconds"] = round(time.monotonic() - started, 1)
    if arguments.plot:
        draw(figures, arguments.plot)
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(figures))
        return
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


def show(figures: dict[str, Any]) -> None:
    print("Percent of normal recordings of unheard sessions called anomalous (false), and of faults (found).")
    for data in ("simulated", "real"):
        if data in figures:
            print(f"\n{data}, fused, 10 % asked\n{table(figures[data], 0.1)}")
            print(f"\n{data}, mean over machines, leave-one-out -> leave-one-session-out\n{means(figures[data])}\n")
            print("\n".join(ratio(figures[data], rate) for rate in RATES))
    if figures["same_number"]:
        print("\nsimulated, 36 recordings in more or fewer sessions, fused, 10 % asked")
        print(table(figures["same_number"], 0.1))
    print()
    for row in figures.get("manifest", []):
        if row["scorer"] == FUSED:
            values = "; ".join(f"{name} {row[name]:.0f}" for name in AVERAGED[:4])
            print(f"real, split of the manifest, {row['machine']}, {row['method']}, {row['asked']:.0%} asked: {values}")
    for row in figures.get("sixteen", []):
        counts = {
            label: f"{row[f'{label}_anomalous']} + {row[f'{label}_any'] - row[f'{label}_anomalous']} of {row[label]}"
            for label in ("normal", "anomaly")
        }
        print(
            f"16 recordings, {row['machine']}, {row['scorer']}, {row['asked']:.0%} asked, anomalous + suspect: "
            f"normal {counts['normal']}, faulty {counts['anomaly']}"
        )
    print(f"{figures['seconds']} s")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
