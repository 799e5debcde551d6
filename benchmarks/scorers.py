"""What each scorer of the default detector is worth, which others were tried, and how many recordings they need.

    python benchmarks/scorers.py --data FOLDER [--quick] [--json]

``--data``: the folder of real machines (benchmarks/real_machines.py), or ASD_SAMPLE_DATA. Machines, values and
intervals are those of benchmarks/representation.py: a machine's value is the mean of AUC and pAUC, and differences are
paired by machine.

- **alone**, and **without**: each of the three scorers by itself, and the detector without it.
- **with**: the detector with one more scorer: other statistics of the spectrogram, another normality model of the
  embedding, and one that is nothing but noise (ten seeds).
- **kinds of fault**: AUC of the simulated machines by kind, the detector less each scorer; the interval is a bootstrap
  over the test recordings of each machine, since there are only three machines.
- **recordings**: the same detector fitted on fewer (or more) recordings: the real fan with 75 (pseudo-faults, five
  draws), and the simulated machines.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_machines import REAL, SIMULATED, Recordings, parser_of, real_sets, simulated_sets
from representation import RATE, Fitted, by_machine, differences, fused
from scipy.fft import dct
from sklearn.metrics import roc_auc_score

from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.features.statistics import mean_and_deviation, mean_change, mean_spectrum
from asdcore.progress import progress, say
from asdcore.settings import MelSettings
from asdcore.storage.files import digest_of

Floats = NDArray[np.float64]
DETECTOR = "detector"
SCORERS = {
    "spectrum": ("mean", "ledoit_wolf"),
    "change": ("change", "standardised_knn"),
    "embedding": ("base", "standardised_knn"),
}
"""scorer: its feature and its normality model, those of the default detector"""
OTHERS = {
    "spectrum, nearest": ("mean", "standardised_knn"),
    "change, Ledoit-Wolf": ("change", "ledoit_wolf"),
    "mean and deviation": ("mean and deviation", "tied"),
    "modulation": ("modulation", "standardised_knn"),
    "cepstrum": ("cepstrum", "standardised_knn"),
    "quantiles": ("quantiles", "ledoit_wolf"),
    "mean power": ("power", "ledoit_wolf"),
    "eight bands": ("eight bands", "standardised_knn"),
    "level": ("level", "ledoit_wolf"),
    "finer frequency": ("fine", "ledoit_wolf"),
    "embedding, cosine": ("unit base", "knn"),
    "embedding, not standardised": ("base", "knn"),
}
"""that could be added to them"""
NOISE_SEEDS = 10
DRAWS = 5
REAL_COUNTS, SIMULATED_COUNTS = (10, 20, 40), (10, 20, 50, 200)
RESAMPLES = 2_000
FINE = MelSettings(n_fft=8192, n_mels=256)
Features = dict[str, Floats]
"""name: (n, p), one row per recording"""


def modulation(spectrogram: Spectrogram) -> Floats:
    """How strongly 16 ranges of bands rise and fall, at 8 rates from once in 63 frames to every other frame: (128,)."""
    traces = np.stack([part.mean(axis=0) for part in np.array_split(spectrogram.astype(np.float64), 16)])
    traces -= traces.mean(axis=1, keepdims=True)
    strength = np.abs(np.fft.rfft(traces * np.hanning(traces.shape[1]), axis=1)) / traces.shape[1]
    rates = np.fft.rfftfreq(traces.shape[1])
    edges = np.geomspace(1 / 63, 0.5, 9)
    ranges = [(rates >= low) & (rates <= high) for low, high in pairwise(edges)]
    return np.log(np.stack([strength[:, own].mean(axis=1) for own in ranges], axis=1) + 1e-3).ravel()


def cepstrum(spectrogram: Spectrogram) -> Floats:
    """Mean and deviation over time of 20 mel-frequency cepstral coefficients: (40,)."""
    coefficients = dct(spectrogram.astype(np.float64), axis=0, norm="ortho")[:20]
    return np.r_[coefficients.mean(axis=1), coefficients.std(axis=1)]


def levels(spectrogram: Spectrogram, bands: int) -> Floats:
    """Mean level in dB of so many ranges of bands: (bands,)."""
    power = 10 ** (spectrogram.astype(np.float64) / 10)
    in_ranges = np.stack([part.sum(axis=0) for part in np.array_split(power, bands)])
    return np.asarray(10 * np.log10(in_ranges.mean(axis=1) + 1e-10))


STATISTICS: dict[str, Callable[[Spectrogram], NDArray[Any]]] = {
    "mean": mean_spectrum,
    "change": mean_change,
    "mean and deviation": mean_and_deviation,
    "modulation": modulation,
    "cepstrum": cepstrum,
    "quantiles": lambda one: np.quantile(one.astype(np.float64), [0.1, 0.5, 0.9], axis=1).ravel(),
    "power": lambda one: 10 * np.log10((10 ** (one.astype(np.float64) / 10)).mean(axis=1) + 1e-12),
    "eight bands": lambda one: levels(one, 8),
    "level": lambda one: levels(one, 1),
}


def features_of(recordings: Sequence[NDArray[np.float32]], names: set[str]) -> Features:
    """Of waveforms, those that are named."""
    spectrograms = [as_stored(spectrogram(samples, RATE, MelSettings())) for samples in recordings]
    made = {
        name: np.stack([statistic(one) for one in spectrograms]).astype(np.float64)
        for name, statistic in STATISTICS.items()
        if name in names
    }
    made["base"] = np.stack([h for h, _ in embeddings(load_base(), spectrograms, torch.device("cpu"))]).astype(float)
    if "unit base" in names:
        made["unit base"] = made["base"] / np.linalg.norm(made["base"], axis=1, keepdims=True)
    if "fine" in names:
        fine = [mean_spectrum(as_stored(spectrogram(samples, RATE, FINE))) for samples in recordings]
        made["fine"] = np.stack(fine).astype(np.float64)
    return made


def fitted(scorer: tuple[str, str], training: Features, test: Features, of: Recordings) -> Fitted:
    feature, model = scorer
    return Fitted(model, training[feature], test[feature], of)


def noise(of: Recordings, seed: int) -> Fitted:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(len(of.training) + len(of.test), 128))
    return Fitted("standardised_knn", drawn[: len(of.training)], drawn[len(of.training) :], of)


def detector_scores(of: Recordings, training: Features, test: Features) -> dict[str, Floats]:
    """Anomaly scores of the test recordings: of the detector, and of each of its scorers alone."""
    own = {name: fitted(scorer, training, test, of) for name, scorer in SCORERS.items()}
    return {DETECTOR: fused(list(own.values()), of)} | {name: one.test for name, one in own.items()}


def every_score(of: Recordings, training: Features, test: Features) -> dict[str, list[Floats]]:
    """system: anomaly scores of the test recordings, by seed."""
    own = {name: fitted(scorer, training, test, of) for name, scorer in SCORERS.items()}
    every = list(own.values())
    scores = {DETECTOR: [fused(every, of)]} | {f"{name} alone": [one.test] for name, one in own.items()}
    for name in own:
        scores[f"without {name}"] = [fused([one for other, one in own.items() if other != name], of)]
    for name, scorer in OTHERS.items():
        if scorer[0] in training:
            scores[f"with {name}"] = [fused([*every, fitted(scorer, training, test, of)], of)]
    scores["with noise"] = [fused([*every, noise(of, seed)], of) for seed in range(NOISE_SEEDS)]
    return scores


def values(anomalous: NDArray[np.bool_], by_seed: Sequence[Floats]) -> dict[str, float]:
    """auc, pauc and value, means over seeds."""
    auc = float(np.mean([roc_auc_score(anomalous, one) for one in by_seed]))
    pauc = float(np.mean([roc_auc_score(anomalous, one, max_fpr=0.1) for one in by_seed]))
    return {"auc": auc, "pauc": pauc, "value": (auc + pauc) / 2}


def by_kind(sets: Sequence[tuple[Recordings, dict[str, Floats]]]) -> list[dict[str, Any]]:
    """AUC of the detector less that of each scorer for each kind of fault, mean over machines, 95 % interval."""
    rng = np.random.default_rng(0)
    kinds = sorted({kind for of, _ in sets for kind in of.kinds} - {"normal"})
    rows = []
    for kind in kinds:
        drawn: dict[str, list[Floats]] = {name: [] for name in (DETECTOR, *SCORERS)}
        for of, scores in sets:
            own = np.array(of.kinds)
            normal, faulty = np.flatnonzero(own == "normal"), np.flatnonzero(own == kind)
            # The first row is the sample itself.
            n_rows = [
                np.vstack([np.arange(len(x)), rng.integers(0, len(x), (RESAMPLES, len(x)))]) for x in (normal, faulty)
            ]
            for name, score in scores.items():
                wins = np.greater.outer(score[faulty], score[normal]) + np.equal.outer(score[faulty], score[normal]) / 2
                drawn[name].append(np.array([wins[np.ix_(f, n)].mean() for n, f in zip(*n_rows, strict=True)]))
        mean = {name: np.mean(one, axis=0) for name, one in drawn.items()}
        for name in SCORERS:
            margin = mean[DETECTOR] - mean[name]
            low, high = np.quantile(margin[1:], [0.025, 0.975])
            about = {"kind": kind, "over": name, "detector": float(mean[DETECTOR][0]), "scorer": float(mean[name][0])}
            rows.append(about | {"difference": float(margin[0]), "low": float(low), "high": float(high)})
    return rows


def by_count(of: Recordings, counts: Sequence[int], training: Features, test: Features) -> list[dict[str, Any]]:
    """Values of the detector and its scorers by the number of training recordings, means over draws."""
    rows = []
    for count in (count for count in counts if count <= len(of.training)):
        draws = DRAWS if count < len(of.training) else 1
        for draw in range(draws):
            rng = np.random.default_rng(int(digest_of(of.name, str(count), str(draw)), 16))
            chosen = np.sort(rng.permutation(len(of.training))[:count])
            fewer = replace(
                of,
                training=[of.training[i] for i in chosen],
                sessions=[of.sessions[i] for i in chosen],
                domains=[of.domains[i] for i in chosen],
            )
            scores = detector_scores(fewer, {name: X[chosen] for name, X in training.items()}, test)
            about = {"machine": of.machine, "group": of.group, "recordings": count, "draw": draw}
            rows += [about | {"system": name} | values(of.anomalous, [one]) for name, one in scores.items()]
    return rows


def tables(rows: pd.DataFrame, kinds: list[dict[str, Any]], counts: pd.DataFrame) -> str:
    """Everything in Markdown."""
    lines: list[str] = []
    for group in dict.fromkeys(rows["group"]):
        means = by_machine(rows, group, "value").mean()
        lines += [f"Mean of AUC and pAUC, {group} machines:", ""]
        lines += ["| system | value | detector less it | machines ahead, behind |", "| --- | ---: | ---: | ---: |"]
        lines.append(f"| {DETECTOR} | {means[DETECTOR]:.3f} | | |")
        for row in differences(rows, group, DETECTOR):
            margin = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            lines.append(f"| {row['over']} | {means[row['over']]:.3f} | {margin} | {row['ahead']}, {row['behind']} |")
        lines.append("")
    lines += ["AUC by kind of fault, simulated machines, and the detector less each scorer:", ""]
    lines += ["| kind | detector | " + " | ".join(SCORERS) + " |", "| --- |" + " ---: |" * (1 + len(SCORERS))]
    for kind in dict.fromkeys(row["kind"] for row in kinds):
        own = [row for row in kinds if row["kind"] == kind]
        cells = [
            f"{row['scorer']:.3f}, {row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" for row in own
        ]
        lines.append(f"| {kind} | {own[0]['detector']:.3f} | " + " | ".join(cells) + " |")
    lines += ["", "Mean of AUC and pAUC by the number of training recordings:", ""]
    lines += [f"| machine | recordings | {DETECTOR} | " + " | ".join(SCORERS) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * (1 + len(SCORERS)))
    own_means = counts.groupby(["machine", "recordings", "system"], sort=False)["value"].mean()
    for machine, count in dict.fromkeys(zip(counts["machine"], counts["recordings"], strict=True)):
        cells = [f"{own_means[machine, count, name]:.3f}" for name in (DETECTOR, *SCORERS)]
        lines.append(f"| {machine} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, "no added scorer but noise, 50 recordings at most")
    arguments = parser.parse_args()
    started = time.monotonic()
    names = {feature for feature, _ in SCORERS.values()}
    if not arguments.quick:
        names |= {feature for feature, _ in OTHERS.values()}
    rows, counts, ladder = [], [], []
    for of in progress([*real_sets(arguments.data), *simulated_sets()], "machines"):
        training, test = features_of(of.training, names), features_of(of.test, names)
        about = {"group": of.group, "machine": of.machine, "set": of.name}
        for system, by_seed in every_score(of, training, test).items():
            rows.append(about | {"system": system} | values(of.anomalous, by_seed))
        if of.group == REAL and len(of.training) >= max(REAL_COUNTS):
            counts += by_count(of, REAL_COUNTS, training, test)
    most, normals, faults = (50, 24, 4) if arguments.quick else (max(SIMULATED_COUNTS), 100, 20)
    for of in progress(simulated_sets(most, normals, faults), "ladder"):
        training, test = features_of(of.training, names), features_of(of.test, names)
        ladder.append((of, detector_scores(of, training, test)))
        counts += by_count(of, SIMULATED_COUNTS, training, test)
    kinds, minutes = by_kind(ladder), (time.monotonic() - started) / 60
    frame, by_counts = pd.DataFrame(rows), pd.DataFrame(counts)
    if arguments.json:
        groups = {
            group: differences(frame, group, DETECTOR) for group in (REAL, SIMULATED) if (frame["group"] == group).any()
        }
        found = {"rows": rows, "differences": groups, "kinds": kinds, "recordings": counts}
        print(json.dumps({"benchmark": "scorers", "minutes": round(minutes, 1), **found}))
    else:
        print(tables(frame, kinds, by_counts))
        say(f"{minutes:.1f} minutes")


if __name__ == "__main__":
    main()
