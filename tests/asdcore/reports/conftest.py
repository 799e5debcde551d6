"""A small detector with the files that it was fitted on, and recordings to report."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from asdcore.detector import Detector
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.explanation.profile import Profile
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.normality.machine import MachineModel
from asdcore.normality.scorers import build_scorers, features_of
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from asdcore.storage.files import digest_of_file

RATE = 16_000
SETTINGS = Settings(
    training=TrainingSettings(encoder="resnet18", z_size=8, device="cpu"),
    normality=NormalitySettings(scorers=("change", "spectrum"), false_alarm_rate=0.1),
)


def hum(seed: int, hertz: float = 120.0, whistle: float = 0.0, seconds: float = 2.0) -> NDArray[np.float32]:
    """A tone in noise, and a whistle at 3 kHz: (n_samples,)."""
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=len(t))
    tone = np.sin(2 * np.pi * hertz * t) + whistle * np.sin(2 * np.pi * 3000 * t)
    return (0.05 * tone + 0.02 * noise).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")
    return path


def table_of(files: dict[Path, tuple[str, str, str]], machine: str = "pump") -> pd.DataFrame:
    """A table of recordings. ``files``: path: split, label, session."""
    rows = [
        {
            "recording": digest_of_file(path),
            "path": str(path),
            "machine": machine,
            "split": split,
            "label": label,
            "session": session,
            "attributes": "{}",
        }
        for path, (split, label, session) in files.items()
    ]
    return pd.DataFrame(rows)


class Page(HTMLParser):
    """What a browser would find: tags, attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self._text: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._open != "style":
            self._text.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    def values(self, tag: str, name: str) -> list[str]:
        return [value for own, attribute, value in self.attributes if (own, attribute) == (tag, name)]

    def sounds(self) -> list[np.ndarray]:
        content = [value.removeprefix("data:audio/flac;base64,") for value in self.values("audio", "src")]
        return [soundfile.read(io.BytesIO(base64.b64decode(one)), dtype="float32")[0] for one in content]


@dataclass
class Plant:
    folder: Path
    detector: Detector
    training: list[Path]
    table: pd.DataFrame

    def recording(self, name: str, seed: int, whistle: float = 0.0, seconds: float = 2.0) -> Path:
        """A new recording, with or without a whistle."""
        return write(self.folder / name, hum(seed, whistle=whistle, seconds=seconds))


def vectors_of(files: list[Path]) -> dict[str, NDArray[np.float32]]:
    """scorer: (n, p)."""
    values = [as_stored(spectrogram(soundfile.read(path, dtype="float32")[0], RATE, SETTINGS.mel)) for path in files]
    scorers = list(build_scorers(SETTINGS.normality).values())
    rows = [features_of(scorers, one, None) for one in values]
    return {scorer.name: np.stack([row[scorer.name] for row in rows]) for scorer in scorers}


def detector_of(training: list[Path], machine: str = "pump") -> Detector:
    """A detector by spectrum and change; its encoder is random and not used."""
    values = [as_stored(spectrogram(soundfile.read(path, dtype="float32")[0], RATE, SETTINGS.mel)) for path in training]
    scorers = build_scorers(SETTINGS.normality)
    rows = [features_of(list(scorers.values()), one, None) for one in values]
    models = {name: scorer.model().fit(np.stack([row[name] for row in rows])) for name, scorer in scorers.items()}
    profile = Profile.fit(values, ["source"] * len(values), SETTINGS.mel, RATE)
    model = MachineModel(models, profile, clips=[digest_of_file(path) for path in training], clip_seconds=10.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = TrainedEncoder(build_encoder("resnet18", 8).eval(), Normalisation.fit(values), [])
    return Detector(SETTINGS, encoder, {machine: model})


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """Sixteen normal recordings of a pump in four sessions, and its detector."""
    folder = tmp_path_factory.mktemp("plant")
    training = [write(folder / "pump" / f"{seed:02d}.wav", hum(seed, 120.0 + seed)) for seed in range(16)]
    table = table_of({path: ("train", "normal", f"day {seed // 4}") for seed, path in enumerate(training)})
    return Plant(folder, detector_of(training), training, table)


@pytest.fixture(scope="session")
def detectors() -> Callable[..., Detector]:
    return detector_of
