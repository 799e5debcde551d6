"""Which representation finds faults: loss_name x layer x normality model, alone and fused with the spectrum.

    python benchmarks/losses.py [--quick] [--trials] [--json] [--real FOLDER] [--folder FOLDER] [--figure FILE]

Machines stand in two folds, and an encoder is trained on those of one: its figures there are ``seen``, those on
machines of the other fold, enrolled from their normal recordings alone, are ``first-shot``. Small trainings: crops of
48 frames, batches of 24, 200 steps; three seeds. Faults: the ladder of simulated machines (benchmarks/ladder.py), and
real machines in the DCASE layout (``--real``, or the folder real-mini of ASD_SAMPLE_DATA).

A figure is the AUC of one kind of fault against the normal recordings of both domains, of one machine; means are over
machines, then kinds, then seeds. Intervals, 95 %: bootstrap over test recordings and seeds, paired for differences.
With this few recordings (n below p) ``ml`` is ``ledoit_wolf``, and it is called so. ``--trials``: instead of the other
loss_names, augmentations of the discriminative one (benchmarks/trials.py).
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from ladder import REAL, SIMULATED, Ladder, make_ladder, spectrograms_of
from numpy.typing import NDArray
from trials import TRIALS, augmented

from asdcore.baselines.autoencoder import SCORES, fit_autoencoder
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.encoder.training import train
from asdcore.features.normalisation import Normalisation
from asdcore.features.statistics import time_statistics
from asdcore.normality.base import model_class
from asdcore.normality.calibration import Calibration
from asdcore.progress import progress, say
from asdcore.settings import AutoencoderSettings, Settings
from asdcore.storage.files import atomic_write, digest_of

Floats = NDArray[np.float64]
CPU = torch.device("cpu")

UNTRAINED = "untrained"
EMBEDDING_WEIGHT = 0.25
"""of the fused p-values of embedding and spectrum"""
LOSSES = ("nt_xent", "supervised_contrastive", "discriminative", "combined", UNTRAINED)
LAYERS = ("h", "z", "both")
STATISTICS = {"spectrum": "mean", "spectrum-deviation": "mean_and_deviation"}
"""time-averaged spectrum; the same with the deviation over time beside it"""
MODELS: tuple[str, ...] = ("ledoit_wolf", "tied", "knn")
SETTINGS = ("seen", "first-shot")
RATE = 0.1
"""of false alarms, for the alarms in each domain"""
RESAMPLES = 1000


class System(NamedTuple):
    loss_name: str
    """or spectrum, autoencoder"""
    layer: str
    model: str
    fused: str
    """with which spectrum statistic; empty: with none"""

    def __str__(self) -> str:
        name = " / ".join(part for part in self[:3] if part)
        return f"{name} + {self.fused}" if self.fused else name


PAPER = System("nt_xent", "z", "ledoit_wolf", "")
SPECTRUM = System("spectrum", "", "ledoit_wolf", "")
EYE = System("spectrum-deviation", "", "tied", "")
"""the default's second scorer alone"""
AUTOENCODER = System("autoencoder", "", "mse", "")
DEFAULT = System("discriminative", "h", "tied", "spectrum-deviation")
"""what the preset ``default`` is"""
OTHERS = (PAPER, SPECTRUM, EYE, AUTOENCODER)

Scores = dict[tuple[System, str, int], tuple[Floats, Floats]]
"""(system, seen or first-shot, seed): score and p-value of each test recording"""


def harmonic(p: Floats, weight: float) -> Floats:
    """One p-value, (m,), of those of two scorers, (m, 2): their harmonic mean with the weights v and w = 1 - v.

    x + v w x ** 2 log((1 - v x) (1 - w x) / (v w x ** 2)) of the mean x (Wilson 2019 for many; of two, integrated
    exactly where they are independent). The detector no longer fuses like this, but these figures were made so.
    """
    weights = np.array([weight, 1 - weight])
    smallest = p.min(axis=1, keepdims=True)
    # Ratios first: the inverse of a p-value that is next to nothing would overflow.
    x = smallest[:, 0] / (weights * (smallest / p)).sum(axis=1)
    inside = np.log1p(-weights[0] * x) + np.log1p(-weights[1] * x) - np.log(weights).sum() - 2 * np.log(x)
    result: Floats = np.clip(x + weights.prod() * x * x * inside, np.finfo(np.float64).tiny, 1.0)
    return result


def encoders(
    ladder: Ladder, folder: Path, loss_names: tuple[str, ...], seeds: int, steps: int
) -> Iterator[tuple[str, int, int, TrainedEncoder]]:
    """Loss, fold, seed, and the encoder trained on the machines of the fold; what was trained before is kept."""
    folds = ladder.training["machine"].map(ladder.folds)
    plan = list(product(loss_names, (0, 1), range(seeds)))
    for loss_name, fold, seed in progress(plan, "encoders"):
        own = ladder.training[folds == fold]
        file = folder / f"{loss_name}-{fold}-{seed}-{steps}.safetensors"
        if not file.exists():
            _trained(ladder, own, loss_name, seed, steps, file.with_suffix("")).save(file)
        yield loss_name, fold, seed, TrainedEncoder.load(file)


def _trained(
    ladder: Ladder, own: pd.DataFrame, loss_name: str, seed: int, steps: int, checkpoints: Path
) -> TrainedEncoder:
    settings = Settings.preset("demo").training.model_copy(update={"encoder": "resnet18"})
    if loss_name == UNTRAINED:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            originals = (ladder.store.read(recording, "original") for recording in own["recording"])
            return TrainedEncoder(
                build_encoder(settings.encoder, settings.z_size).eval(), Normalisation.fit(originals), []
            )
    batch = 24
    epochs_a_cycle = max(1, round(steps / (len(own) // batch) / settings.cycles))
    changed: dict[str, Any] = {"crop_frames": 48, "batch_size": batch, "seed": seed}
    changed |= {"loss": loss_name if loss_name in LOSSES else "discriminative"}
    settings = settings.model_copy(update=changed | {"epochs": epochs_a_cycle * settings.cycles})
    rows = own[["recording", "machine", "attributes"]].assign(session="")
    with augmented(loss_name, seed) if loss_name in TRIALS else nullcontext():
        return train(ladder.store, rows, settings, checkpoints)


def vectors(ladder: Ladder, encoder: TrainedEncoder, file: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """h, z and both of the training recordings, and of the test recordings: (n, p) each; kept in ``file``."""
    n = len(ladder.training)
    if not file.exists():
        originals = [ladder.store.read(recording, "original") for recording in ladder.training["recording"]]
        pairs = list(embeddings(encoder, [*originals, *ladder.spectrograms], CPU))
        h, z = (np.stack(values) for values in zip(*pairs, strict=True))
        with atomic_write(file) as temporary, temporary.open("wb") as written:
            np.savez(written, h=h, z=z)
    with np.load(file) as arrays:
        h, z = (arrays[layer].astype(np.float64) for layer in ("h", "z"))
    made = {"h": h, "z": z, "both": np.hstack([h, z])}
    return {layer: own[:n] for layer, own in made.items()}, {layer: own[n:] for layer, own in made.items()}


def judged(ladder: Ladder, training: Floats, test: Floats, model: str) -> tuple[Floats, Floats]:
    """Distance and p-value of every test recording by the model of its machine."""
    distance, p = np.empty(len(test)), np.empty(len(test))
    for machine, own in ladder.training.groupby("machine"):
        fitted = model_class(model)().fit(training[own.index], domains=own["domain"])
        mine = (ladder.test["machine"] == machine).to_numpy()
        distance[mine] = fitted.distance(test[mine])
        p[mine] = Calibration().fit(fitted.left_out_).p_value(distance[mine])
    return distance, p


def score(ladder: Ladder, folder: Path, loss_names: tuple[str, ...], seeds: int, steps: int, epochs: int) -> Scores:
    """What every system says of every test recording."""
    scores: Scores = {}
    statistics = spectrum_scores(ladder)
    for (name, model), how, seed in product(statistics, SETTINGS, range(seeds)):
        scores[SPECTRUM._replace(loss=name, model=model), how, seed] = statistics[name, model]
    for name, values in _autoencoder(ladder, epochs).items():
        for how, seed in product(SETTINGS, range(seeds)):
            scores[AUTOENCODER._replace(model=name), how, seed] = values
    return scores | encoder_scores(ladder, folder, loss_names, seeds, steps, statistics)


def spectrum_scores(ladder: Ladder) -> dict[tuple[str, str], tuple[Floats, Floats]]:
    """(statistic, model): distance and p-value of each test recording."""
    originals = [ladder.store.read(recording, "original") for recording in ladder.training["recording"]]
    averaged = [[time_statistics(values) for values in part] for part in (originals, ladder.spectrograms)]
    judgements = {}
    for name, model in product(STATISTICS, MODELS):
        own = [np.stack([one[STATISTICS[name]] for one in part]).astype(np.float64) for part in averaged]
        judgements[name, model] = judged(ladder, own[0], own[1], model)
    return judgements


def encoder_scores(
    ladder: Ladder,
    folder: Path,
    loss_names: tuple[str, ...],
    seeds: int,
    steps: int,
    statistics: dict[tuple[str, str], tuple[Floats, Floats]],
) -> Scores:
    """What every encoder says, by each layer and normality model, alone and fused with `spectrum_scores`."""
    scores: Scores = {}
    tested = digest_of(ladder.test.to_csv())
    fold_of = ladder.test["machine"].map(ladder.folds).to_numpy()
    for loss_name, fold, seed, encoder in encoders(ladder, folder, loss_names, seeds, steps):
        training, test = vectors(ladder, encoder, folder / f"{loss_name}-{fold}-{seed}-{steps}-{tested}.npz")
        for layer, model in product(LAYERS, MODELS):
            distance, p = judged(ladder, training[layer], test[layer], model)
            verdicts = {"": (distance, p)}
            for name in STATISTICS:
                # The spectrum beside a network is judged as the detector does it: by the same normality model.
                both = harmonic(np.column_stack([p, statistics[name, model][1]]), EMBEDDING_WEIGHT)
                verdicts[name] = (-np.log10(both), both)
            for (fused, values), how in product(verdicts.items(), SETTINGS):
                mine = (fold_of == fold) == (how == "seen")
                key = (System(loss_name, layer, model, fused), how, seed)
                kept = scores.setdefault(key, (np.empty(len(mine)), np.empty(len(mine))))
                for whole, part in zip(kept, values, strict=True):
                    whole[mine] = part[mine]
    return scores


def _autoencoder(ladder: Ladder, epochs: int) -> dict[str, tuple[Floats, Floats]]:
    """The official baseline, a network a machine, one seed. It gives scores but no p-values."""
    settings = Settings.preset("demo")
    official = AutoencoderSettings(epochs=epochs)
    made = {name: (np.empty(len(ladder.test)), np.full(len(ladder.test), np.nan)) for name in SCORES}
    for machine, own in progress(list(ladder.training.groupby("machine")), "official baseline"):
        read = spectrograms_of(own["path"].tolist(), settings, official.mel)
        model = fit_autoencoder(zip(read, own["domain"], strict=True), official, CPU)
        for index in np.flatnonzero(ladder.test["machine"] == machine):
            for name in SCORES:
                made[name][0][index] = model.score(ladder.short_window[index], name)
    return {str(name): values for name, values in made.items()}


class Judge:
    """AUCs of systems and of their differences, on the same resamples of recordings and seeds."""

    def __init__(self, ladder: Ladder, seeds: int) -> None:
        self.test, self.seeds = ladder.test, seeds
        rng = np.random.default_rng(0)
        self.seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        self.cells: list[tuple[str, str, str, NDArray[np.intp], NDArray[np.intp], Floats, Floats]] = []
        """group, machine, kind; normal and faulty rows, and how often each resample has them"""
        for (group, machine), own in self.test.groupby(["group", "machine"]):
            normal = own[own["kind"] == "normal"]
            of_normal = self._drawn(rng, normal, "domain")
            for kind, faulty in own[own["kind"] != "normal"].groupby("kind"):
                of_faulty = self._drawn(rng, faulty, "strength")
                rows = (normal.index.to_numpy(), faulty.index.to_numpy())
                self.cells.append((str(group), str(machine), str(kind), *rows, of_normal, of_faulty))

    @staticmethod
    def _drawn(rng: np.random.Generator, rows: pd.DataFrame, stratum: str) -> Floats:
        """(RESAMPLES + 1, n): each stratum with replacement; the first row has each recording once."""
        weights = np.ones((RESAMPLES + 1, len(rows)))
        for value in rows[stratum].unique():
            members = np.flatnonzero(rows[stratum] == value)
            weights[1:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), RESAMPLES)
        return weights

    def kinds(self, scores: Scores, system: System, how: str) -> dict[tuple[str, str], Floats]:
        """(group, kind): mean AUC over machines, (seeds, RESAMPLES + 1)."""
        of: dict[tuple[str, str], list[Floats]] = {}
        for group, _, kind, normal, faulty, of_normal, of_faulty in self.cells:
            aucs = []
            for seed in range(self.seeds):
                values = scores[system, how, seed][0]
                above = values[faulty][:, None] - values[normal][None]
                wins = (above > 0) + 0.5 * (above == 0)
                won = np.einsum("rf,fn,rn->r", of_faulty, wins, of_normal, optimize=True)
                aucs.append(won / of_faulty.sum(axis=1) / of_normal.sum(axis=1))
            of.setdefault((group, kind), []).append(np.stack(aucs))
        return {key: np.mean(aucs, axis=0) for key, aucs in of.items()}

    def groups(self, kinds: dict[tuple[str, str], Floats]) -> dict[str, Floats]:
        """group: mean over its kinds."""
        names = dict.fromkeys(group for group, _ in kinds)
        return {name: np.mean([aucs for (group, _), aucs in kinds.items() if group == name], axis=0) for name in names}

    def spread(self, aucs: Floats) -> tuple[float, float, float]:
        """Estimate and the ends of its interval, of (seeds, RESAMPLES + 1)."""
        resampled = (aucs[:, 1:] * self.seed_weights.T).sum(axis=0)
        low, high = np.quantile(resampled, [0.025, 0.975])
        return float(aucs[:, 0].mean()), float(low), float(high)


def figures(ladder: Ladder, scores: Scores, seeds: int) -> dict[str, Any]:
    """Everything that is printed."""
    judge = Judge(ladder, seeds)
    systems = list(dict.fromkeys(system for system, _, _ in scores))
    rows, kept = [], {}
    for system, how in progress(list(product(systems, SETTINGS)), "bootstrap"):
        kinds = judge.kinds(scores, system, how)
        if system in (DEFAULT, *OTHERS):
            kept[system, how] = kinds
        row: dict[str, Any] = {**system._asdict(), "setting": how}
        for group, aucs in judge.groups(kinds).items():
            names = ("auc", "low", "high")
            row |= {f"{group} {name}": round(x, 4) for name, x in zip(names, judge.spread(aucs), strict=True)}
        for domain in ("source", "target"):
            mine = ((ladder.test["kind"] == "normal") & (ladder.test["domain"] == domain)).to_numpy()
            p = np.concatenate([scores[system, how, seed][1][mine] for seed in range(seeds)])
            row[f"alarms {domain}"] = None if np.isnan(p).any() else round(float((p <= RATE).mean()), 4)
        rows.append(row)
    margins = []
    for how, other in product(SETTINGS, OTHERS):
        ours, theirs = kept[DEFAULT, how], kept[other, how]
        difference = {key: ours[key] - theirs[key] for key in ours}
        named = {(group, "all"): aucs for group, aucs in judge.groups(difference).items()} | difference
        for (group, kind), aucs in named.items():
            estimate, low, high = judge.spread(aucs)
            own = {"margin": round(estimate, 4), "low": round(low, 4), "high": round(high, 4)}
            margins.append({"setting": how, "over": str(other), "group": group, "kind": kind, **own})
    strengths = []
    for system, how, (group, strength) in product((DEFAULT, *OTHERS), SETTINGS, _rungs(ladder.test)):
        aucs = [
            _auc(scores[system, how, seed][0], own)
            for seed in range(seeds)
            for _, own in _of_strength(ladder.test, group, strength)
        ]
        own = {"group": group, "strength": strength, "auc": round(float(np.mean(aucs)), 4)}
        strengths.append({"system": str(system), "setting": how, **own})
    return {"default": str(DEFAULT), "systems": rows, "margins": margins, "strengths": strengths}


def _rungs(test: pd.DataFrame) -> list[tuple[str, float]]:
    faulty = test[(test["kind"] != "normal") & (test["strength"] > 0)]
    return sorted(set(zip(faulty["group"], faulty["strength"], strict=True)), reverse=True)


def _of_strength(test: pd.DataFrame, group: str, strength: float) -> Iterator[tuple[str, pd.DataFrame]]:
    for machine, own in test[test["group"] == group].groupby("machine"):
        for _, faulty in own[own["strength"] == strength].groupby("kind"):
            yield str(machine), pd.concat([own[own["kind"] == "normal"], faulty])


def _auc(values: Floats, own: pd.DataFrame) -> float:
    normal, faulty = (values[own.index[(own["kind"] == "normal") == is_normal]] for is_normal in (True, False))
    above = faulty[:, None] - normal[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def tables(made: dict[str, Any]) -> str:
    """The results in Markdown."""
    systems = pd.DataFrame(made["systems"])
    groups = [group for group in (SIMULATED, REAL) if f"{group} auc" in systems]
    columns = [(how, group) for how in SETTINGS for group in groups]
    lines = ["| loss_name | layer | model | fused | " + " | ".join(f"{how}, {group}" for how, group in columns)]
    lines[0] += " | alarms, source | target |"
    lines.append("| --- | --- | --- | --- |" + " ---: |" * (len(columns) + 2))
    for key, own in systems.groupby(["loss", "layer", "model", "fused"], sort=False):
        of = {row["setting"]: row for row in own.to_dict("records")}
        name = " | ".join(key)
        cells = [
            f"{of[how][f'{group} auc']:.3f} ({of[how][f'{group} low']:.2f}-{of[how][f'{group} high']:.2f})"
            for how, group in columns
        ]
        alarms = [of["first-shot"][f"alarms {domain}"] for domain in ("source", "target")]
        cells += ["" if pd.isna(rate) else f"{rate:.0%}" for rate in alarms]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    margins = pd.DataFrame(made["margins"])
    lines += ["", f"Margin of {made['default']} in AUC, paired, 95 % interval; * where it is significantly behind:", ""]
    others = [(how, over) for how in SETTINGS for over in dict.fromkeys(margins["over"])]
    lines.append("| machines | kind of fault | " + " | ".join(f"{how}, over {over}" for how, over in others) + " |")
    lines.append("| --- | --- |" + " ---: |" * len(others))
    for (group, kind), own in margins.groupby(["group", "kind"], sort=False):
        of_other = own.set_index(["setting", "over"])
        cells = []
        for key in others:
            margin, low, high = of_other.loc[key, ["margin", "low", "high"]]
            cells.append(f"{margin:+.3f} ({low:+.2f} to {high:+.2f}){'*' if high < 0 else ''}")
        lines.append(f"| {group} | {kind} | " + " | ".join(cells) + " |")
    strengths = pd.DataFrame(made["strengths"])
    lines += ["", "AUC by strength of the fault, first-shot:", ""]
    wide = strengths[strengths["setting"] == "first-shot"].pivot_table(
        index="system", columns=["group", "strength"], values="auc", sort=False
    )
    lines.append("| system | " + " | ".join(f"{group} {strength:g}" for group, strength in wide.columns) + " |")
    lines.append("| --- |" + " ---: |" * len(wide.columns))
    lines += [f"| {name} | " + " | ".join(f"{x:.3f}" for x in values) + " |" for name, values in wide.iterrows()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 40 steps, fewer recordings: under ten minutes")
    parser.add_argument("--trials", action="store_true", help="augmentations of the discriminative loss_name, one seed")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="real machines in the DCASE layout")
    parser.add_argument("--folder", type=Path, help="keep intermediate results here, and resume from them")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the figure of docs/evidence/losses.md")
    arguments = parser.parse_args()
    sample = os.environ.get("ASD_SAMPLE_DATA")
    real = arguments.real or (Path(sample) / "real-mini" if sample else None)
    seeds, steps, epochs, normals, faults = (1, 40, 20, 10, 4) if arguments.quick else (3, 200, 50, 20, 8)
    seeds = 1 if arguments.trials else seeds
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / ("quick" if arguments.quick else "whole")
        ladder = make_ladder(folder, real, Settings.preset("demo"), normals, faults)
        loss_names = ("nt_xent", "discriminative", *TRIALS) if arguments.trials else LOSSES
        scores = score(ladder, folder, loss_names, seeds, steps, epochs)
        made = figures(ladder, scores, seeds)
    made = {
        "benchmark": "losses",
        "data": f"{SIMULATED} machines" + (f", and real ones of {real.name}" if real else ""),
        "seeds": seeds,
        "steps": steps,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **made,
    }
    if arguments.figure:
        from losses_figure import draw

        draw(made, arguments.figure)
    if arguments.json:
        print(json.dumps(made))
    else:
        print(tables(made))
        say(f"{made['data']}; {seeds} seeds, {steps} steps, {made['minutes']} minutes")


if __name__ == "__main__":
    main()
