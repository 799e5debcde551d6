"""Which rule of `asd screen` finds faults among unlabelled recordings: on real machines, then on simulated ones.

    python benchmarks/screening.py --data FOLDER [--quick] [--json]

``--data``: the folder of real machines (benchmarks/real_machines.py), or ASD_SAMPLE_DATA. 1, 5 or 15 faults of one kind
are mixed into the normal recordings of a machine, never more than half as many (of the recordings of the sessions: 5
among 8). Where a set has no real faults, so many normal recordings are exchanged for their own pseudo-faults. The
recordings of the sessions are cut into clips; of the DCASE machines, with four recordings each, clips are taken for
recordings. Each rule ranks each mix: AUC, and the fraction of faults (of the most there can be) among the first 5 and
10. A machine's value is the mean over its sets and draws. Differences are those from
``left-out distances alone``, paired by machine; their intervals, 95 %, are a bootstrap over machines.

Then how often something stands out in folders without a fault, drawn from the same normal recordings, and in the mixes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_machines import RATE, REAL, Recordings, Waveform, parser_of, real_sets, simulated_sets
from representation import CPU
from sklearn.metrics import roc_auc_score

from asdcore.encoder.base import load_base
from asdcore.encoder.embedding import embeddings
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.fusion import SMALLEST_SCALE, Fusion
from asdcore.normality.neighbours import StandardisedNeighbours
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.normality.screening import FEWEST, screened
from asdcore.progress import progress, say
from asdcore.settings import Settings
from asdcore.storage.files import digest_of

Vectors = dict[str, NDArray[np.float32]]
FAULTY = (1, 5, 15)
CLEAN = (10, 20, 40, 75)
STRENGTHS = (0.25, 0.5)
RESAMPLES = 10_000
ALONE, CHOSEN = "left-out distances alone", "chosen: a quarter, 10 % aside"
RULES: dict[str, dict[str, Any]] = {
    ALONE: {"neighbours": 0, "left_aside": 0},
    "10 % aside": {"neighbours": 0},
    "20 % aside": {"neighbours": 0, "left_aside": 0.2},
    "30 % aside": {"neighbours": 0, "left_aside": 0.3},
    "3 neighbours": {"neighbours": 3, "left_aside": 0},
    "a quarter as neighbours": {"left_aside": 0},
    CHOSEN: {},
    "a quarter, 20 % aside": {"left_aside": 0.2},
    "a quarter, 30 % aside": {"left_aside": 0.3},
    "median and MAD": {"neighbours": 0, "left_aside": 0, "robust": True},
    "a quarter, median and MAD": {"left_aside": 0, "robust": True},
}
SCORERS = build_scorers(Settings().normality)


class RobustFusion(Fusion):
    """With the median absolute deviation in place of the standard deviation."""

    def fit(self, left_out: Any, y: object = None, groups: Any = None) -> "RobustFusion":
        super().fit(left_out, groups=groups)
        away = np.abs(np.log(np.maximum(left_out, 1e-300)) - self.centre_)
        self.scale_ = np.maximum(1.4826 * np.median(away, axis=0), SMALLEST_SCALE)
        return self


@dataclass
class Mix:
    """A folder: vectors of its clips, the recording of each, and which recordings are faulty."""

    vectors: Vectors
    recordings: NDArray[np.str_]
    faulty: NDArray[np.bool_]
    """of each clip"""


class Source:
    """The vectors of a set's normal recordings, and of the faults to mix into them."""

    def __init__(self, of: Recordings, quick: bool) -> None:
        self.of = of
        self.clips = 5 if of.name.startswith("sessions") else 1
        """of a recording"""
        normal = [*of.training, *(samples for samples, faulty in zip(of.test, of.anomalous, strict=True) if not faulty)]
        self.normal = vectors_of(normal)
        self.faults: dict[str, Vectors] = {}
        """by kind; of pseudo-faults one for each normal recording"""
        self.pseudo = of.group == REAL and "fault" not in of.kinds
        if self.pseudo:
            for kind in list(KINDS)[: 2 if quick else None]:
                for strength in STRENGTHS[-1:] if quick else STRENGTHS:
                    made = [
                        pseudo_fault(samples, RATE, kind, strength, _rng(of.name, str(index), kind, str(strength)))
                        for index, samples in enumerate(normal)
                    ]
                    self.faults[f"{kind} {strength}"] = vectors_of(made)
        else:
            for kind in dict.fromkeys(kind for kind in of.kinds if kind != "normal"):
                own = [samples for samples, named in zip(of.test, of.kinds, strict=True) if named == kind]
                self.faults[kind] = vectors_of(own)

    @property
    def count(self) -> int:
        """Normal recordings."""
        return len(self.normal["spectrum"]) // self.clips

    def mixes(self, faulty: int, draws: int) -> Iterator[Mix]:
        rng = _rng(self.of.name, str(faulty))
        kinds = list(self.faults)
        for draw in range(draws):
            made = self.faults[kinds[draw % len(kinds)]]
            there = len(made["spectrum"]) // self.clips
            if faulty > there:  # A simulated machine has fewer of one kind.
                made = {name: np.concatenate([one[name] for one in self.faults.values()]) for name in self.normal}
                there = len(made["spectrum"]) // self.clips
            rows = self._rows(rng.choice(there, faulty, replace=False))
            kept = np.setdiff1d(np.arange(len(self.normal["spectrum"])), rows if self.pseudo else [])
            vectors = {name: np.concatenate([X[kept], made[name][rows]]) for name, X in self.normal.items()}
            n = len(kept) + len(rows)
            names = np.array([f"{row // self.clips:04d}" for row in range(n)])
            yield Mix(vectors, names, np.arange(n) >= len(kept))

    def clean(self, size: int, draws: int) -> Iterator[Mix]:
        rng = _rng(self.of.name, "clean", str(size))
        for _ in range(draws if size < self.count else 1):
            rows = self._rows(rng.choice(self.count, size, replace=False))
            names = np.array([f"{row // self.clips:04d}" for row in range(len(rows))])
            yield Mix({name: X[rows] for name, X in self.normal.items()}, names, np.zeros(len(rows), bool))

    def _rows(self, recordings: NDArray[np.intp]) -> NDArray[np.intp]:
        return (recordings[:, None] * self.clips + np.arange(self.clips)).ravel()


def vectors_of(recordings: list[Waveform]) -> Vectors:
    """scorer: (n, p), by the default scorers and the base encoder."""
    encoder, mel = load_base(), Settings().mel
    made = [as_stored(spectrogram(samples, RATE, mel)) for samples in recordings]
    rows = [
        features_of(list(SCORERS.values()), values, Embedding(h, z))
        for values, (h, z) in zip(made, embeddings(encoder, made, CPU), strict=True)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in SCORERS}


def ranked(mix: Mix, rule: str) -> pd.DataFrame:
    """The table of a mix by a rule, with the column ``faulty``."""
    options = dict(RULES[rule])
    models = {name: scorer.model() for name, scorer in SCORERS.items()}
    if options.get("neighbours", 0) > 1:
        models |= dict.fromkeys(("change", "embedding"), StandardisedNeighbours(options["neighbours"]))
        options["neighbours"] = 0
    if options.pop("robust", False):
        options["fusion"] = RobustFusion()
    table = screened(mix.vectors, models, list(mix.recordings), **options)
    faulty = dict(zip(mix.recordings, mix.faulty, strict=True))
    return table.assign(faulty=table["recording"].map(faulty).astype(bool))


def measured(sources: list[Source], draws: int, rules: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per mix and rule; and one row per folder, clean or not, by the chosen rule."""
    rows, folders = [], []
    for source in progress(sources, "machines"):
        about = {"group": source.of.group, "machine": source.of.machine, "set": source.of.name}
        for faulty in FAULTY:
            if 2 * faulty > source.count + 2 * (source.clips > 1):
                continue
            for mix in source.mixes(faulty, draws):
                for rule in rules:
                    table = ranked(mix, rule)
                    row = about | {
                        "faults": faulty,
                        "rule": rule,
                        "auc": roc_auc_score(table["faulty"], table["score"]),
                    }
                    row |= {f"first {n}": table["faulty"][:n].sum() / min(n, faulty) for n in (5, 10)}
                    rows.append(row)
                    if rule == CHOSEN:
                        folders.append(about | {"faults": faulty, "n": len(table)} | _standing_out(table))
        for size in [size for size in CLEAN if size <= source.count]:
            for mix in source.clean(size, draws):
                folders.append(about | {"faults": 0, "n": size} | _standing_out(ranked(mix, CHOSEN)))
    return pd.DataFrame(rows), pd.DataFrame(folders)


def _standing_out(table: pd.DataFrame) -> dict[str, float]:
    out = table["stands_out"]
    return {"stands_out": out.any(), "count": out.sum(), "fault_stands_out": (out & table["faulty"]).any()}


def by_machine(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Machines (and numbers of faults) by rules: means over sets and draws."""
    own = rows.groupby(["faults", "machine", "set", "rule"], sort=False)[what].mean()
    values = own.reset_index().pivot_table(index=["faults", "machine"], columns="rule", values=what, sort=False)
    return values[list(dict.fromkeys(rows["rule"]))]


def summary(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """For each group, number of faults and rule: means over machines, and the AUC less that of left-out alone."""
    made = []
    for group, of_group in rows.groupby("group", sort=False):
        auc, first5, first10 = (by_machine(of_group, what) for what in ("auc", "first 5", "first 10"))
        for faults in dict.fromkeys(of_group["faults"]):
            values = auc.loc[faults]
            drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
            for rule in values.columns:
                margin = (values[rule] - values[ALONE]).to_numpy()
                low, high = np.quantile(margin[drawn].mean(axis=1), [0.025, 0.975])
                means = {"auc": values[rule].mean(), "difference": margin.mean(), "low": low, "high": high}
                means |= {"first 5": first5.loc[faults][rule].mean(), "first 10": first10.loc[faults][rule].mean()}
                about = {"group": group, "faults": faults, "machines": len(values), "rule": rule}
                made.append(about | {name: float(value) for name, value in means.items()})
    return made


def tables(rows: pd.DataFrame, folders: pd.DataFrame) -> str:
    """Everything in Markdown."""
    lines: list[str] = []
    made = pd.DataFrame(summary(rows))
    for (group, faults), own in made.groupby(["group", "faults"], sort=False):
        lines += [f"{faults} {'fault' if faults == 1 else 'faults'}, {own['machines'].iloc[0]} {group} machines:", ""]
        lines += ["| rule | AUC | less left-out alone | among the first 5 | first 10 |", "| --- |" + " ---: |" * 4]
        for row in own.to_dict("records"):
            margin = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            margin = "" if row["rule"] == ALONE else margin
            found = f"{100 * row['first 5']:.0f} % | {100 * row['first 10']:.0f} %"
            lines.append(f"| {row['rule']} | {row['auc']:.3f} | {margin} | {found} |")
        lines.append("")
    for group, own in rows.groupby("group", sort=False):
        auc = by_machine(own, "auc")
        lines += [f"AUC by machine, {ALONE} → chosen, {group} machines:", "", "| machine | 1 | 5 | 15 |"]
        lines.append("| --- | ---: | ---: | ---: |")
        for machine in dict.fromkeys(own["machine"]):
            known = [n for n in FAULTY if (n, machine) in auc.index]
            said = {n: " → ".join(f"{auc.loc[(n, machine), rule]:.2f}" for rule in (ALONE, CHOSEN)) for n in known}
            cells = [said.get(n, "") for n in FAULTY]
            lines.append(f"| {machine} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["Folders in which something stands out; in brackets: a fault does:", ""]
    lines += ["| machine | no fault | recordings, mean | 1 | 5 | 15 |", "| --- |" + " ---: |" * 5]
    for (_, machine), own in folders.groupby(["group", "machine"], sort=False):
        cells = []
        for faults in (0, *FAULTY):
            part = own[own["faults"] == faults]
            said = f"{100 * part['stands_out'].mean():.0f} %" if len(part) else ""
            if faults and len(part):
                said += f" ({100 * part['fault_stands_out'].mean():.0f} %)"
            cells.append(said)
        cells.insert(1, f"{own[own['faults'] == 0]['count'].mean():.1f}")
        lines.append(f"| {machine} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rng(*parts: str) -> np.random.Generator:
    return np.random.default_rng(int(digest_of("screening", *parts), 16))


def main() -> None:
    parser = parser_of(__doc__, "two rules, two draws, two pseudo-faults: under a minute")
    arguments = parser.parse_args()
    started = time.monotonic()
    sets = [*real_sets(arguments.data), *simulated_sets(training=40, normals=20)]
    sources = [Source(of, arguments.quick) for of in progress(sets, "vectors")]
    sources = [source for source in sources if source.count >= FEWEST]
    rules = [ALONE, CHOSEN] if arguments.quick else list(RULES)
    rows, folders = measured(sources, 2 if arguments.quick else 10, rules)
    minutes = round((time.monotonic() - started) / 60, 1)
    if arguments.json:
        kept = {"benchmark": "screening", "minutes": minutes, "summary": summary(rows)}
        print(json.dumps(kept | {"folders": json.loads(folders.to_json(orient="records"))}))
    else:
        print(tables(rows, folders))
        say(f"{len(sets)} sets, {len(folders)} folders, {minutes} minutes")


if __name__ == "__main__":
    main()
