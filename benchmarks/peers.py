"""The default detector beside other packages and published systems: same recordings, same run, same cores.

    python benchmarks/peers.py --data FOLDER [--quick] [--json] [--trained [--folder FOLDER]]

``--data``: the folder of real machines (benchmarks/real_machines.py), or ASD_SAMPLE_DATA. Needs the extra: ``pip
install 'asd[peers]'``; without a package its rows are left out, and a message says so. Every system is fitted on the
normal training recordings of a machine and scores its test recordings one by one; values and differences are those of
benchmarks/representation.py.

- ``default``, ``spectrum``: this project's detector, and with the scorer `spectrum` alone.
- ``pyod ...``: 74 statistics of MFCC, chroma and spectral shape at 22.05 kHz, standardised, then a detector of pyod
  with its own defaults: `EmbeddingOD` with the encoder of `EmbeddingOD.for_audio`. That call's own choice is KNN; its
  quality "fast" is IForest, "best" is LUNAR. ``pyod AudioAE``: its autoencoder of log-mel windows, 40 epochs as by
  default.
- ``audio-anomaly``: its `Monitor`, with the training recordings one after the other as the recording that is known to
  be good; the score is the highest of the report's frames, or in the second row their mean.
- ``autoencoder ...``: the official baseline with each of its scores, 100 epochs as published.
- ``paper``: with ``--trained``, the preset, but 20 epochs (100 in the preset) of crops of 64 frames (313), since clips
  have 63, at a learning rate of 0.001: at its own, 0.5, so few recordings collapse. With ``--folder`` it resumes.

What depends on a seed (MCD, IForest and LUNAR of pyod) is the mean of three. Seconds to fit and milliseconds to score
one recording are of whole systems, from samples in memory, after one recording that does not count.
"""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from real_machines import Recordings, Waveform, parser_of, real_sets, simulated_sets
from representation import CPU, DEFAULT, RATE, SEEDS, Floats, by_machine, differences, trained_by_group
from sklearn.metrics import roc_auc_score

from asdcore import Detector
from asdcore.baselines.autoencoder import SCORES, fit_autoencoder
from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.network import TrainedEncoder
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.normality.machine import MachineModel
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.progress import progress, say
from asdcore.settings import NormalitySettings, Settings

PACKAGES = {"pyod": "pyod", "audio-anomaly": "audio_anomaly"}
"""name to install: name to import"""
PYOD = {"KNN": False, "MCD": True, "LOF": False, "IForest": True, "LUNAR": True}
"""detector of pyod: whether it depends on a seed"""
PAPER = Settings.preset("paper")
PAPER_TRAINING = PAPER.training.model_copy(
    update={"epochs": 20, "crop_frames": 64, "learning_rate": 1e-3, "device": "cpu"}
)
SPECTRUM = Settings(normality=NormalitySettings(scorers=("spectrum",)))
QUICK = ("mini bldcA", "mini fan")
OURS = (DEFAULT, "spectrum")
RESAMPLES = 500


class Scored(NamedTuple):
    """A system, fitted on a set."""

    system: str
    by_seed: list[Floats]
    """scores of the test recordings"""
    fit_seconds: float
    milliseconds: float
    """to score one recording, the median"""


def detector(of: Recordings, settings: Settings, encoder: TrainedEncoder) -> Detector:
    scorers = list(build_scorers(settings.normality).values())
    embeds = any(scorer.needs_encoder for scorer in scorers)
    rows = []
    for samples in of.training:
        values = as_stored(spectrogram(samples, RATE, settings.mel))
        embedding = Embedding(*next(iter(embeddings(encoder, [values], CPU)))) if embeds else None
        rows.append(features_of(scorers, values, embedding))
    models = {
        scorer.name: scorer.model().fit(
            np.stack([row[scorer.name] for row in rows]), domains=of.domains, groups=of.sessions
        )
        for scorer in scorers
    }
    return Detector(settings, encoder, {of.machine: MachineModel(models, groups=of.sessions)})


def ours(of: Recordings, systems: dict[str, tuple[Settings, TrainedEncoder]]) -> Iterator[Scored]:
    for name, (settings, encoder) in systems.items():
        started = time.perf_counter()
        fitted = detector(of, settings, encoder)
        seconds = time.perf_counter() - started
        scores, milliseconds = one_by_one(
            of.test, lambda samples, own=fitted: own.score_waveform(samples, RATE)["score"]
        )
        yield Scored(name, [np.array(scores)], seconds, milliseconds)


def pyod(of: Recordings, seeds: int) -> Iterator[Scored]:
    from pyod.models.audio_ae import AudioAE
    from pyod.models.embedding import EmbeddingOD
    from pyod.utils.encoders.audio import AudioFeatureEncoder

    encoder = AudioFeatureEncoder()
    started = time.perf_counter()
    training = encoder.encode([(samples, RATE) for samples in of.training])
    encoding = time.perf_counter() - started
    rows, milliseconds = one_by_one(of.test, lambda samples: encoder.encode([(samples, RATE)])[0])
    test = np.stack(rows)
    for name, random in PYOD.items():
        scores, fits, takes = [], [], []
        for seed in range(seeds if random else 1):
            started = time.perf_counter()
            # The vectors are computed once for all detectors: an encoder may be any callable.
            fitted = EmbeddingOD(np.asarray, name, random_state=seed).fit(training)
            fits.append(time.perf_counter() - started)
            values, took = one_by_one(test, lambda row, own=fitted: own.decision_function(row[None])[0])
            scores.append(np.array(values))
            takes.append(took)
        yield Scored(f"pyod {name}", scores, encoding + float(np.median(fits)), milliseconds + float(np.median(takes)))
    started = time.perf_counter()
    autoencoder = AudioAE().fit([(samples, RATE) for samples in of.training])
    seconds = time.perf_counter() - started
    scores, took = one_by_one(of.test, lambda samples: autoencoder.decision_function([(samples, RATE)])[0])
    yield Scored("pyod AudioAE", [np.array(scores)], seconds, took)


def audio_anomaly(of: Recordings) -> Iterator[Scored]:
    from audio_anomaly import Monitor

    started = time.perf_counter()
    monitor = Monitor(np.concatenate(of.training), sample_rate=RATE)
    seconds = time.perf_counter() - started
    reports, milliseconds = one_by_one(of.test, monitor.check)
    yield Scored("audio-anomaly", [np.array([report.max_score for report in reports])], seconds, milliseconds)
    means = np.array([report.scores.mean() for report in reports])
    yield Scored("audio-anomaly, mean", [means], seconds, milliseconds)


def autoencoder(of: Recordings) -> Iterator[Scored]:
    settings = Settings().autoencoder

    def heard(samples: Waveform) -> Spectrogram:
        return spectrogram(samples, RATE, settings.mel)

    started = time.perf_counter()
    pairs = [(heard(samples), domain) for samples, domain in zip(of.training, of.domains, strict=True)]
    model = fit_autoencoder(pairs, settings, CPU)
    seconds = time.perf_counter() - started
    for score in SCORES:
        scores, took = one_by_one(of.test, lambda samples, own=score: model.score(heard(samples), own))
        yield Scored(f"autoencoder {score}", [np.array(scores)], seconds, took)


def one_by_one(items: Sequence[Any], score: Callable[[Any], Any]) -> tuple[list[Any], float]:
    """The score of each item, and the median of the milliseconds that one took."""
    score(items[0])
    made, taken = [], []
    for item in items:
        started = time.perf_counter()
        made.append(score(item))
        taken.append(1000 * (time.perf_counter() - started))
    return made, float(np.median(taken))


def missing() -> list[str]:
    return [package for package, module in PACKAGES.items() if find_spec(module) is None]


def measured(
    sets: list[Recordings], papers: dict[str, TrainedEncoder], seeds: int = SEEDS
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row per set and system; and by set the interval of the default less the best other system."""
    base, absent, rows, best = load_base(), missing(), [], {}
    for of in progress(sets, "machines"):
        systems = {DEFAULT: (Settings(), base), "spectrum": (SPECTRUM, base)}
        if of.name in papers:
            systems["paper"] = (PAPER, papers[of.name])
        scored = [*ours(of, systems), *autoencoder(of)]
        scored += [] if "pyod" in absent else pyod(of, seeds)
        scored += [] if "audio-anomaly" in absent else audio_anomaly(of)
        own = []
        for one in scored:
            aucs, paucs = zip(*(area(of.anomalous, scores) for scores in one.by_seed), strict=True)
            auc, pauc = float(np.mean(aucs)), float(np.mean(paucs))
            about = {"group": of.group, "machine": of.machine, "set": of.name, "n": len(of.training)}
            about |= {"seconds": len(of.test[0]) / RATE, "system": one.system}
            costs = {"fit_seconds": one.fit_seconds, "milliseconds": one.milliseconds}
            own.append({**about, "auc": auc, "pauc": pauc, "value": (auc + pauc) / 2, **costs})
        rows += own
        others = [row for row in own if row["system"] not in OURS]
        name = max(others, key=lambda row: row["value"])["system"]
        scores_of = {one.system: one.by_seed for one in scored}
        best[of.name] = {"system": name, **margin(of.anomalous, scores_of[DEFAULT], scores_of[name])}
    return pd.DataFrame(rows), best


def area(anomalous: np.ndarray, scores: Floats) -> tuple[float, float]:
    return float(roc_auc_score(anomalous, scores)), float(roc_auc_score(anomalous, scores, max_fpr=0.1))


def margin(anomalous: np.ndarray, first: list[Floats], second: list[Floats]) -> dict[str, float]:
    """A 95 % interval of the difference of two systems: bootstrap over normal and anomalous recordings."""
    rng = np.random.default_rng(0)
    normals, faults = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rng.choice(normals, len(normals)), rng.choice(faults, len(faults))])
        values = [np.mean([area(anomalous[rows], one[rows]) for one in seeds]) for seeds in (first, second)]
        drawn.append(values[0] - values[1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def tables(rows: pd.DataFrame, best: dict[str, Any]) -> str:
    """Everything in Markdown."""
    lines: list[str] = []
    for group in dict.fromkeys(rows["group"]):
        own = rows[rows["group"] == group]
        auc, pauc, value = (by_machine(rows, group, what) for what in ("auc", "pauc", "value"))
        lines += [f"AUC / pAUC, {group} machines:", "", "| machine | " + " | ".join(auc.columns) + " |"]
        lines.append("| --- |" + " ---: |" * len(auc.columns))
        for machine in auc.index:
            cells = [f"{auc.loc[machine, name]:.3f} / {pauc.loc[machine, name]:.3f}" for name in auc.columns]
            lines.append(f"| {machine} | " + " | ".join(cells) + " |")
        cells = [f"{auc[name].mean():.3f} / {pauc[name].mean():.3f}" for name in auc.columns]
        lines += ["| mean | " + " | ".join(cells) + " |", "", f"Values and costs, {group} machines:", ""]
        lengths = sorted(own["seconds"].unique())
        costs = [f"ms to score {length:g} s" for length in lengths]
        lines.append(
            "| system | value | default less it | machines ahead, behind | s to fit | " + " | ".join(costs) + " |"
        )
        lines.append("| --- |" + " ---: |" * (4 + len(lengths)))
        margins = {row["over"]: row for row in differences(rows, group)}
        for name in value.columns:
            mine = own[own["system"] == name]
            less, counts = "", ""
            if row := margins.get(name):
                less = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
                counts = f"{row['ahead']}, {row['behind']}"
            cells = [f"{value[name].mean():.3f}", less, counts, f"{mine['fit_seconds'].median():.2f}"]
            cells += [f"{mine.loc[mine['seconds'] == length, 'milliseconds'].median():.0f}" for length in lengths]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["", f"Values by set, {group} machines, and the best other system there:", ""]
        lines += ["| set | n | default | spectrum | best other | its value | default less it |"]
        lines.append("| --- | ---: | ---: | ---: | --- | ---: | ---: |")
        of_set = own.pivot_table(index="set", columns="system", values="value", sort=False)
        n = own.groupby("set")["n"].first()
        for name in of_set.index:
            one, values = best[name], of_set.loc[name]
            less = f"{values[DEFAULT] - values[one['system']]:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
            cells = [f"{values[DEFAULT]:.3f}", f"{values['spectrum']:.3f}", one["system"]]
            lines.append(f"| {name} | {n[name]} | " + " | ".join([*cells, f"{values[one['system']]:.3f}", less]) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, "two sets, one seed: under a minute")
    parser.add_argument("--trained", action="store_true", help="also the paper's system, which is trained")
    parser.add_argument("--folder", type=Path, help="where --trained keeps its checkpoints, and resumes from them")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn|pyod")  # More neighbours or dimensions than recordings.
    started = time.monotonic()
    sets = [*real_sets(arguments.data), *simulated_sets()]
    if arguments.quick:
        sets = [of for of in sets if of.name in QUICK] or sets[:1]
    papers: dict[str, TrainedEncoder] = {}
    if arguments.trained:
        with tempfile.TemporaryDirectory() as temporary:
            settings = PAPER.model_copy(update={"training": PAPER_TRAINING})
            papers = trained_by_group(sets, arguments.folder or Path(temporary), settings)
        say(f"trained in {(time.monotonic() - started) / 60:.1f} minutes")
    rows, best = measured(sets, papers, 1 if arguments.quick else SEEDS)
    minutes = round((time.monotonic() - started) / 60, 1)
    if arguments.json:
        groups_differ = {group: differences(rows, group) for group in dict.fromkeys(rows["group"])}
        kept = {"benchmark": "peers", "minutes": minutes, "missing": missing(), "rows": rows.to_dict("records")}
        print(json.dumps({**kept, "differences": groups_differ, "best_other": best}))
    else:
        print(tables(rows, best))
        say(f"{len(sets)} sets, {minutes} minutes")
    for package in missing():
        say(f"{package} is not installed, and its rows are left out: pip install 'asd[peers]'")


if __name__ == "__main__":
    main()
