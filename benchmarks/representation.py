"""Which scorers and which encoder find faults: on real machines, then on simulated ones.

    python benchmarks/representation.py --data FOLDER [--quick] [--json] [--encoder FILE ...] [--trained]

``--data``: the folder of real machines (benchmarks/real_machines.py), or ASD_SAMPLE_DATA. Each system is fitted on the
normal training recordings of a machine and scores its test recordings, as a detector does. A machine's value is the
mean of AUC and pAUC (false-alarm rate up to 0.1), over its sets. Differences are paired by machine; their intervals,
95 %, are a bootstrap over machines.

The rule, stated before the table: an encoder is the default if on the real machines ``spectrum + change + encoder`` is
ahead of ``spectrum``, of ``spectrum + change`` and of the same with an untrained encoder by intervals that exclude 0.
Beside the rule, every machine on which the AUC falls by more than .01 below ``spectrum + change`` is named.

``untrained``: the network of the base encoder with random weights, its batch normalisation fitted to random machines,
mean of three seeds. ``--trained``: what version 0.1 did by default, a ResNet-18 trained on the recordings (loss
`discriminative`, 40 epochs, crops of 64 frames, since clips have 63, one seed), with two normality models. With
``--folder`` it resumes.
``--encoder``: base encoders of other seeds, files of `asd pretrain`.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_machines import REAL, SIMULATED, Recordings, parser_of, real_sets, simulated_sets
from sklearn.metrics import roc_auc_score

from asdcore.encoder.base import BaseEncoder, load_base
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.network import TrainedEncoder
from asdcore.encoder.pretrain import NORMALS, random_spectrograms
from asdcore.encoder.training import train
from asdcore.features.augmentation import spectrograms
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.features.store import Store, write_shard
from asdcore.normality.base import model_class
from asdcore.normality.fusion import Fusion
from asdcore.normality.scorers import ChangeScorer, Scorer, SpectrumScorer
from asdcore.progress import progress, say
from asdcore.settings import Settings, TrainingSettings
from asdcore.storage.files import digest_of

Floats = NDArray[np.float64]
CPU = torch.device("cpu")
RATE = 16_000
SEEDS = 3
RESAMPLES = 10_000
PLAIN: tuple[type[Scorer], ...] = (SpectrumScorer, ChangeScorer)
NONE, DEFAULT = "spectrum + change", "default"
"""no encoder; spectrum, change and base encoder"""
RULES = {"log-sum-exp": 1.0, "mean": 1e-6}
"""the default's scorers by other rules of fusion: their sharpness"""
RESNET18 = Settings(training=TrainingSettings(encoder="resnet18", crop_frames=64, device="cpu"))
"""as version 0.1 trained by default"""
COMPARED = ("spectrum", "change", NONE, "base alone", DEFAULT)


class Fitted:
    """Distances of one scorer: of the training recordings, left out, and of the test recordings."""

    def __init__(self, model: str | Scorer, training: Floats, test: Floats, of: Recordings) -> None:
        unfitted = model.model() if isinstance(model, Scorer) else model_class(model)()
        fitted = unfitted.fit(training, domains=of.domains, groups=of.sessions)
        assert fitted.left_out_ is not None
        self.left_out, self.test = fitted.left_out_, fitted.distance(test)


def fused(scorers: Sequence[Fitted], of: Recordings, sharpness: float | None = None) -> Floats:
    """The anomaly scores of the test recordings, as a detector computes them, or with another sharpness."""
    fusion = Fusion().fit(np.column_stack([one.left_out for one in scorers]), groups=of.sessions)
    fusion.sharpness_ = sharpness or fusion.sharpness_
    return fusion.score(np.column_stack([one.test for one in scorers]))


def scores_of(
    of: Recordings, encoders: dict[str, list[TrainedEncoder]], trained: TrainedEncoder | None
) -> dict[str, list[Floats]]:
    """system: scores of the test recordings, by each of its seeds."""
    settings = Settings()
    training, test = (
        [as_stored(spectrogram(samples, RATE, settings.mel)) for samples in part] for part in (of.training, of.test)
    )
    plain = {}
    for kind in PLAIN:
        scorer = kind(settings.normality)
        vectors = [np.stack([scorer.feature(one, None) for one in part]) for part in (training, test)]
        plain[scorer.name] = Fitted(scorer, vectors[0].astype(np.float64), vectors[1].astype(np.float64), of)
    both = list(plain.values())
    scores = {name: [one.test] for name, one in plain.items()} | {NONE: [fused(both, of)]}
    for name, made in encoders.items():
        own = [Fitted("standardised_knn", *_embedded(encoder, training, test), of) for encoder in made]
        scores[f"{name} alone"] = [one.test for one in own]
        scores[DEFAULT if name == "base" else f"with {name}"] = [fused([*both, one], of) for one in own]
        if name == "base":
            scores |= {rule: [fused([*both, *own], of, sharpness)] for rule, sharpness in RULES.items()}
    if trained is not None:
        vectors = _embedded(trained, training, test)
        for model in ("tied", "standardised_knn"):
            one = Fitted(model, *vectors, of)
            scores[f"resnet18 {model} alone"] = [one.test]
            scores[f"with resnet18 {model}"] = [fused([*both, one], of)]
    return scores


def _embedded(encoder: TrainedEncoder, training: list[Spectrogram], test: list[Spectrogram]) -> tuple[Floats, Floats]:
    training_h, test_h = (
        np.stack([h for h, _ in embeddings(encoder, part, CPU)]).astype(np.float64) for part in (training, test)
    )
    return training_h, test_h


def untrained(seed: int) -> TrainedEncoder:
    """Random weights, and the batch statistics of normal recordings of random machines."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = BaseEncoder()
    normalisation = load_base().normalisation
    clips = random_spectrograms(16, 1000 + seed)[:, :NORMALS]
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # The mean over all batches.
    with torch.no_grad():
        for index in range(NORMALS):
            encoder(torch.from_numpy(normalisation(clips[:, index].astype(np.float32)))[:, None])
    return TrainedEncoder(encoder.eval(), normalisation, [])


def trained_on(sets: list[Recordings], folder: Path, settings: Settings = RESNET18) -> TrainedEncoder:
    """An encoder trained on the training recordings of these sets."""
    rows, shard = [], []
    for of in sets:
        for index, (samples, session, domain) in enumerate(zip(of.training, of.sessions, of.domains, strict=True)):
            name = digest_of(of.name, str(index))
            columns = spectrograms(samples, name, RATE, settings.mel, settings.augmentation)
            shard.append((name, {key: values.astype(np.float16) for key, values in columns.items()}))
            about = json.dumps({"domain": domain})
            rows.append({"recording": name, "machine": of.name, "attributes": about, "session": session})
    if not (folder / "features").exists():
        write_shard(folder / "features", shard)
    return train(Store(folder / "features"), pd.DataFrame(rows), settings.training, folder / "checkpoints")


def trained_by_group(sets: list[Recordings], folder: Path, settings: Settings = RESNET18) -> dict[str, TrainedEncoder]:
    """Set: its encoder, of three or fewer: one for the sessions, one for the other real sets, one for the simulated."""
    # Sessions and mini share sounds, so that one's training may be the other's test.
    groups = [[of for of in sets if of.name.startswith("sessions")]]
    groups += [[of for of in sets if of not in groups[0] and of.group == group] for group in (REAL, SIMULATED)]
    trained: dict[str, TrainedEncoder] = {}
    for index, group in enumerate(filter(None, groups)):
        trained |= dict.fromkeys([of.name for of in group], trained_on(group, folder / str(index), settings))
    return trained


def measured(
    sets: list[Recordings], encoders: dict[str, list[TrainedEncoder]], trained: dict[str, TrainedEncoder]
) -> pd.DataFrame:
    """One row per set and system: auc, pauc and value, means over seeds."""
    rows = []
    for of in progress(sets, "machines"):
        for system, by_seed in scores_of(of, encoders, trained.get(of.name)).items():
            auc = float(np.mean([roc_auc_score(of.anomalous, one) for one in by_seed]))
            pauc = float(np.mean([roc_auc_score(of.anomalous, one, max_fpr=0.1) for one in by_seed]))
            about = {"group": of.group, "machine": of.machine, "set": of.name, "n": len(of.training)}
            rows.append({**about, "system": system, "auc": auc, "pauc": pauc, "value": (auc + pauc) / 2})
    return pd.DataFrame(rows)


def by_machine(rows: pd.DataFrame, group: str, what: str) -> pd.DataFrame:
    """Machines by systems: a machine's mean over its sets."""
    own = rows[rows["group"] == group].pivot_table(index="machine", columns="system", values=what, sort=False)
    return own[list(dict.fromkeys(rows["system"]))]


def differences(rows: pd.DataFrame, group: str, system: str = DEFAULT) -> list[dict[str, Any]]:
    """A system less every other one, paired by machine."""
    values = by_machine(rows, group, "value")
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    made = []
    for other in values.columns.drop(system):
        margin = (values[system] - values[other]).to_numpy()
        low, high = np.quantile(margin[drawn].mean(axis=1), [0.025, 0.975])
        counts = {"ahead": int((margin > 0).sum()), "behind": int((margin < 0).sum())}
        made.append({"over": other, "difference": float(margin.mean()), "low": low, "high": high, **counts})
    return made


def tables(rows: pd.DataFrame) -> str:
    """Everything in Markdown."""
    lines: list[str] = []
    for group in dict.fromkeys(rows["group"]):
        auc, pauc, value = (by_machine(rows, group, what) for what in ("auc", "pauc", "value"))
        shown = [name for name in auc.columns if name in COMPARED or name.startswith("with")]
        lines += [f"AUC / pAUC, {group} machines:", "", "| machine | " + " | ".join(shown) + " |"]
        lines.append("| --- |" + " ---: |" * len(shown))
        for machine in auc.index:
            cells = [f"{auc.loc[machine, name]:.3f} / {pauc.loc[machine, name]:.3f}" for name in shown]
            lines.append(f"| {machine} | " + " | ".join(cells) + " |")
        cells = [f"{auc[name].mean():.3f} / {pauc[name].mean():.3f}" for name in shown]
        lines.append("| mean | " + " | ".join(cells) + " |")
        lines += ["", f"Mean of AUC and pAUC, {group} machines, and by how much the default is ahead:", ""]
        lines += ["| system | value | default less it | machines ahead, behind |", "| --- | ---: | ---: | ---: |"]
        lines.append(f"| {DEFAULT} | {value[DEFAULT].mean():.3f} | | |")
        for row in differences(rows, group):
            margin = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            mean = value[row["over"]].mean()
            lines.append(f"| {row['over']} | {mean:.3f} | {margin} | {row['ahead']}, {row['behind']} |")
        for row in differences(rows, group, "base alone"):
            if row["over"] in ("spectrum", "untrained alone"):
                margin = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
                lines += ["", f"The base encoder alone less {row['over']}: {margin}"]
        fall = auc[DEFAULT] - auc[NONE]
        fallen = ", ".join(f"{machine} {change:+.3f}" for machine, change in fall[fall < -0.01].items())
        lines += ["", f"AUC more than .01 below {NONE}: {fallen or 'no machine'}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, "one untrained seed: under a minute")
    parser.add_argument("--trained", action="store_true", help="also a ResNet-18 trained on the recordings")
    parser.add_argument("--folder", type=Path, help="where --trained keeps its checkpoints, and resumes from them")
    parser.add_argument("--encoder", type=Path, action="append", default=[], help="base encoders of other seeds")
    arguments = parser.parse_args()
    started = time.monotonic()
    sets = [*real_sets(arguments.data), *simulated_sets()]
    encoders = {
        "base": [load_base()],
        "untrained": [untrained(seed) for seed in range(1 if arguments.quick else SEEDS)],
    }
    if arguments.encoder:
        encoders["other seeds"] = [TrainedEncoder.load(file) for file in arguments.encoder]
    trained: dict[str, TrainedEncoder] = {}
    if arguments.trained:
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.folder or Path(temporary)
            trained = trained_by_group(sets, folder)
    rows = measured(sets, encoders, trained)
    if arguments.json:
        kept = {"benchmark": "representation", "minutes": round((time.monotonic() - started) / 60, 1)}
        groups_differ = {group: differences(rows, group) for group in dict.fromkeys(rows["group"])}
        print(json.dumps({**kept, "rows": rows.to_dict("records"), "differences": groups_differ}))
    else:
        print(tables(rows))
        recordings = len(list(chain.from_iterable(of.test for of in sets)))
        say(f"{len(sets)} sets, {recordings} test recordings, {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
