"""False alarms in sessions that were not heard, and faults found: leave-one-session-out against leave-one-out.

    OMP_NUM_THREADS=1 python benchmarks/sessions.py [--quick] [--json FILE] [--plot FILE]

A machine is fitted on K sessions and judges the normal and the faulty recordings of its other sessions by
`MachineModel` with the scorers of the default detector: spectrum, change, and embedding by the base encoder, each alone
and all fused. Once whole sessions are left out for calibration (leave-one-session-out), once each recording by itself
(leave-one-out, the named alternative): the same recordings, models and draws of sessions. Figures are means over draws.
What is printed are the tables of docs/evidence/sessions.md.

Simulated machines: see `asdcore.datasets.sessions`, faults of half to one and a half times strength 1. Each draw has
sessions of its own, so that intervals, 95 %, are a bootstrap over draws. If the variable ASD_SAMPLE_DATA names a folder
with ``real-sessions`` (three brushless motors; a session is a recording of 10 s at one speed, cut to clips of 2 s) and
``real-mini`` (16 normal recordings of each of two motors), these are measured as well.
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
import torch
from numpy.typing import ArrayLike, NDArray
from sessions_plot import draw
from sessions_tables import FUSED, METHODS, page
from threadpoolctl import threadpool_limits

from asdcore.arrays import Floats
from asdcore.datasets.machines import BUILT_IN_FAULTS, MACHINES, SAMPLE_RATE, SPECIFICATIONS
from asdcore.datasets.sessions import Session
from asdcore.datasets.simulate import waveform
from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.base import NormalityModel
from asdcore.normality.machine import ANOMALOUS, NORMAL, MachineModel
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.progress import progress
from asdcore.recordings.names import find_recordings
from asdcore.settings import MelSettings, NormalitySettings

RATES = (0.01, 0.05, 0.1)
PER_SESSION = 6
PLAN = tuple((sessions, PER_SESSION) for sessions in (1, 2, 3, 5, 8, 12, 20))
"""sessions, recordings of each"""
INDEPENDENT = (100, 1)
"""enough for 1 %, which 99 independent recordings support"""
SAME_NUMBER = ((3, 12), (6, 6), (12, 3), (18, 2))
"""36 recordings"""
UNHEARD = 8
"""sessions with faults, never heard"""
SCORERS = build_scorers(NormalitySettings())
ENCODER = load_base()
AVERAGED = ("false_alarms", "false_alarms_any", "found", "found_any", "n_effective")
CLIP_SECONDS = 2
SEED = 0
Vectors = dict[str, NDArray[np.floating]]


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
    made = as_stored(spectrogram(samples, SAMPLE_RATE, MelSettings()))
    ((h, z),) = embeddings(ENCODER, [made], torch.device("cpu"))
    return dict(features_of(list(SCORERS.values()), made, Embedding(h, z)))


def gathered(rows: Sequence[tuple[Vectors, str]]) -> Recordings:
    vectors = {name: np.stack([row[name] for row, _ in rows]) if rows else np.zeros((0, 1)) for name in SCORERS}
    return Recordings(vectors, np.array([session for _, session in rows], str))


def simulated(machine: str, draw: int, plans: Sequence[tuple[int, int]]) -> Case:
    """Recordings of the source domain: as many of as many sessions as the plans need, and `UNHEARD` other sessions of
    `PER_SESSION` normal recordings and one of each fault.
    """
    settings = SPECIFICATIONS[machine].settings["source"]
    rows: dict[str, list[tuple[Vectors, str]]] = {"normal": [], "anomaly": []}
    heard = max(sessions for sessions, _ in plans)
    for index in range(heard + UNHEARD):
        key = [SEED, MACHINES.index(machine), draw, index]
        session = Session.draw(np.random.default_rng(key))
        count = max((each for sessions, each in plans if index < sessions), default=PER_SESSION)
        for number, fault in enumerate([None] * count + (list(BUILT_IN_FAULTS) if index >= heard else [])):
            rng = np.random.default_rng([*key, number])
            label = "anomaly" if fault else "normal"
            samples = waveform(
                machine,
                domain="source",
                label=label,
                rng=rng,
                setting=settings[(number + index) % len(settings)],
                fault=fault,
                strength=float(rng.spawn(1)[0].uniform(0.5, 1.5)),
                session=session,
            )
            rows[label].append((vectors_of(samples), f"{index:03d}"))
    return Case("simulated", machine, gathered(rows["normal"]), gathered(rows["anomaly"]))


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


class Measured(NormalityModel):
    """A fitted model whose distances have been computed: what it is given are distances, (m, 1)."""

    def __init__(self, model: NormalityModel) -> None:
        self.left_out_, self.report_ = model.left_out_, model.report_

    def distance(self, X: ArrayLike) -> Floats:
        return np.asarray(X)[:, 0]


def distances(models: dict[str, NormalityModel], recordings: Recordings) -> Recordings:
    """What a machine of `Measured` models judges: computed once, whatever the calibration and the rate."""
    empty = not len(recordings.session)
    vectors = {
        name: np.zeros((0, 1)) if empty else model.distance(recordings.vectors[name])[:, None]
        for name, model in models.items()
    }
    return Recordings(vectors, recordings.session)


def fitted(training: Recordings, method: str) -> dict[str, NormalityModel]:
    """By scorer. How recordings are left out does not matter to what the models make of others."""
    groups = training.session if method == METHODS[1] else None
    return {name: scorer.model().fit(training.vectors[name], groups=groups) for name, scorer in SCORERS.items()}


def machines(training: Recordings, models: dict[str, NormalityModel], method: str) -> dict[str, MachineModel]:
    """The machine of each scorer, and that of all, to judge `distances`."""
    groups = training.session if method == METHODS[1] else None
    own = {name: Measured(model) for name, model in models.items()}
    alone = {name: MachineModel({name: model}, groups=groups) for name, model in own.items()}
    return alone | {FUSED: MachineModel(own, groups=groups)}


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
    models = {method: fitted(heard, method) for method in METHODS}
    unheard, faulty = (distances(models[METHODS[1]], part) for part in (unheard, faulty))
    rows = []
    for method in METHODS:
        for scorer, machine in machines(heard, models[method], method).items():
            for rate in RATES:
                row = {"data": case.data, "machine": case.machine, "method": method, "scorer": scorer, "asked": rate}
                row["false_alarms"], row["false_alarms_any"] = judged(machine, unheard, rate)
                row["found"], row["found_any"] = judged(machine, faulty, rate)
                rows.append(row | {"n_effective": machine.calibration.n_effective_})
    return rows


def choices(case: Case, sessions: int, most: int) -> list[NDArray[np.str_]]:
    """Which sessions are heard: of simulated machines the first ones, of real ones each choice, or so many of them."""
    names = np.unique(case.normal.session)
    if case.data == "simulated":
        return [names[:sessions]]
    every = list(combinations(names, sessions))
    order = np.random.default_rng([SEED, sessions]).permutation(len(every))
    return [np.array(every[index]) for index in order[:most]]


def by_sessions(cases: Sequence[Case], plan: Sequence[tuple[int, int]], most: int = 1) -> list[dict[str, Any]]:
    """One row per number of sessions and recordings of each, method, scorer and rate: means over draws of sessions.

    Args:
        cases: of one machine: its draws, or a real machine.
        plan: sessions, and recordings of each.
        most: choices of sessions of each case.
    """
    rows = []
    available = len(np.unique(cases[0].normal.session))
    for sessions, per_session in progress([p for p in plan if p[0] < available], f"{cases[0].data} {cases[0].machine}"):
        of_draws = [
            measured(case, np.isin(case.normal.session, chosen) & first(case, per_session))
            for case in cases
            for chosen in choices(case, sessions, most)
        ]
        for of_row in zip(*of_draws, strict=True):
            row = of_row[0] | {"sessions": sessions, "per_session": per_session, "draws": len(of_row)}
            row["by_draw"] = {name: [single[name] for single in of_row] for name in AVERAGED}
            row |= {name: float(np.mean(values)) for name, values in row["by_draw"].items()}
            row["every_session_unheard_once"] = cases[0].data == "real" and sessions == available - 1
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
    models = fitted(training, METHODS[0])
    test = {label: distances(models, gathered(rows["test", label])) for label in ("normal", "anomaly")}
    result = []
    for scorer, of_scorer in machines(training, models, METHODS[0]).items():
        for rate in RATES:
            row: dict[str, Any] = {
                "machine": machine,
                "scorer": scorer,
                "asked": rate,
                "training": len(training.session),
            }
            for label, recordings in test.items():
                anomalous, strange = (
                    share * len(recordings.session) / 100 for share in judged(of_scorer, recordings, rate)
                )
                row |= {
                    label: len(recordings.session),
                    f"{label}_anomalous": round(anomalous),
                    f"{label}_any": round(strange),
                }
            result.append(row)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sessions and draws: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one JSON object; - is stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw false alarms and faults found by sessions")
    arguments = parser.parse_args()
    started = time.monotonic()
    plan, same, draws = (PLAN[::2][:3], (), 2) if arguments.quick else ((*PLAN, INDEPENDENT), SAME_NUMBER, 15)
    figures: dict[str, Any] = {"benchmark": "sessions", "draws": draws, "simulated": [], "same_number": []}
    for machine in MACHINES:
        cases = [simulated(machine, index, [*plan, *same]) for index in progress(range(draws), machine)]
        figures["simulated"] += by_sessions(cases, plan)
        figures["same_number"] += by_sessions(cases, same)
    if folder := os.environ.get("ASD_SAMPLE_DATA"):
        motors = real_sessions(Path(folder) / "real-sessions")
        most = 3 if arguments.quick else 20
        figures["real"] = [
            row for case, _ in motors for row in by_sessions([case], [(k, 5) for k in range(1, 8)], most)
        ]
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
    print(page(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
