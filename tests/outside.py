"""A package that adds an encoder, a loss, a normality model and a scorer to `asd`, as an installer leaves it."""

from pathlib import Path

MODULE = '''
import numpy as np
import torch
from torch import nn

from asdcore import Encoder, FrozenEncoder, Loss, NormalityModel, Scorer


class MedianModel(NormalityModel):
    name = "median"

    def _fit(self, X, domain):
        self.median_ = np.median(X, axis=0)

    def _distance(self, X):
        return np.abs(X - self.median_).max(axis=1)


class PeakScorer(Scorer):
    name = "peak"

    def feature(self, spectrogram, embedding):
        return spectrogram.max(axis=1)

    def model(self):
        return MedianModel()


class Spread(Loss):
    """Embeddings away from each other."""

    uses_z = False

    def forward(self, h, z, labels):
        return (nn.functional.normalize(h, dim=1).mean(dim=0) ** 2).sum()


class Bands(Encoder):
    def __init__(self, z_size):
        super().__init__(16, z_size)
        self.bands = nn.Linear(128, 16)
        self.head = nn.Linear(16, z_size)

    def hidden(self, x):
        return torch.tanh(self.bands(x.mean(dim=3)[:, 0]))


class Loudness(FrozenEncoder):
    def embed(self, samples, sample_rate):
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
        levels = np.log(frames.std(axis=1) + 1e-6)
        return np.array([levels.mean(), levels.std(), levels.max()])
'''
ENTRY_POINTS = """
[asd.normality_models]
median = outside_asd:MedianModel
misnamed = outside_asd:MedianModel
broken = outside_asd_gone:Nothing
ml = outside_asd:MedianModel
[asd.scorers]
peak = outside_asd:PeakScorer
[asd.losses]
spread = outside_asd:Spread
[asd.encoders]
bands = outside_asd:Bands
loudness = outside_asd:Loudness
"""


def install(folder: Path, name: str, entry_points: str) -> None:
    """What an installer leaves of a package: its metadata."""
    metadata = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(entry_points)
