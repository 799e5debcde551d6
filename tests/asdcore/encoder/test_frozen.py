"""Frozen encoders: from another package, and tables of embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from asdcore.detector import Detector
from asdcore.encoder.frozen import build_frozen, load_encoder, training_history
from asdcore.encoder.network import build_encoder
from asdcore.errors import AsdError
from asdcore.settings import NormalitySettings, Settings, TrainingSettings
from asdcore.storage.files import digest_of_file
from tests.asdcore.conftest import Recorder


def settings_of(encoder: str, **training: Any) -> Settings:
    return Settings(
        training=TrainingSettings(encoder=encoder, device="cpu", **training),
        normality=NormalitySettings(scorers=("spectrum", "embedding"), estimator="knn"),
    )


@pytest.fixture
def recordings(tmp_path: Path, record: Recorder) -> list[Path]:
    """Ten recordings of a fan."""
    return [record(tmp_path / "recordings" / "fan" / f"{seed}.wav", seed) for seed in range(10)]


def write(file: Path, rows: list[dict[str, Any]], encoder: str = "elsewhere 1") -> Path:
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata({"encoder": encoder}), file)
    return file


def test_ten_lines_from_outside_embed_waveforms_and_the_detector_is_saved_and_scores(
    outside: Path, tmp_path: Path, recordings: list[Path]
) -> None:
    detector = Detector.fit(tmp_path / "recordings", settings_of("loudness"))
    detector.save(tmp_path / "detector")
    again = Detector.load(tmp_path / "detector")
    assert type(again.encoder).__name__ == "Loudness"
    scores = again.score(recordings)
    assert scores["reason"].tolist() == [""] * 10 and np.isfinite(scores["score"]).all()
    assert scores["score"].tolist() == detector.score(recordings)["score"].tolist()


def test_an_encoder_that_gives_no_finite_vector_is_named(outside: Path, recordings: list[Path], tmp_path: Path) -> None:
    detector = Detector.fit(tmp_path / "recordings", settings_of("loudness"))
    detector.encoder.embed = lambda samples, rate: np.full(3, np.nan)  # type: ignore[method-assign, assignment, misc]
    assert detector.score(recordings[:1])["reason"].tolist() == [
        "encoder 'loudness' gives an embedding that is not finite"
    ]
    detector.encoder.embed = lambda samples, rate: np.zeros((2, 2))  # type: ignore[method-assign, assignment, misc]
    with pytest.raises(AsdError, match=r"shape \(2, 2\), not \(d,\)"):
        detector.score(recordings[:1])


def test_a_table_of_embeddings_is_looked_up_by_path_or_content(tmp_path: Path, recordings: list[Path]) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10, 4)).tolist()
    by_path = [{"path": f"recordings/fan/{i}.wav", "embedding": v} for i, v in enumerate(vectors)]
    by_digest = [{"recording": digest_of_file(f), "embedding": v} for f, v in zip(recordings, vectors, strict=True)]
    scores = []
    for name, rows in (("path", by_path), ("digest", by_digest)):
        file = write(tmp_path / f"{name}.parquet", rows)
        detector = Detector.fit(tmp_path / "recordings", settings_of("embeddings", source=str(file)))
        assert detector.machines["fan"].models["embedding"].n_features_in_ == 4
        scores.append(detector.score(recordings)["score"].tolist())
    assert scores[0] == scores[1]


def test_rows_may_be_added_but_another_encoder_is_refused(
    tmp_path: Path, recordings: list[Path], record: Recorder
) -> None:
    new = record(tmp_path / "recordings" / "fan" / "new.wav", 77)
    rng = np.random.default_rng(0)
    rows = [{"path": str(file), "embedding": rng.normal(size=4).tolist()} for file in recordings]
    file = write(tmp_path / "embeddings.parquet", rows)
    known = pd.DataFrame({"path": recordings, "machine": "fan"})
    Detector.fit(known, settings_of("embeddings", source=str(file))).save(tmp_path / "detector")
    reason = Detector.load(tmp_path / "detector").score([new])["reason"].iloc[0]
    assert reason == f"no embedding of it in {file}: add a row for it"
    write(file, [*rows, {"path": str(new), "embedding": [0.0] * 4}])
    assert Detector.load(tmp_path / "detector").score([new])["reason"].iloc[0] == ""
    write(file, rows, encoder="elsewhere 2")
    with pytest.raises(AsdError, match="no longer that of the encoder 'embeddings'"):
        Detector.load(tmp_path / "detector")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "a.wav", "vector": [1.0]}], "has the columns path, vector; it needs the columns path"),
        ([{"path": "a.wav", "embedding": 1.0}], "is of type double, not lists of numbers"),
        ([{"path": "a.wav", "embedding": ["a"]}], "not lists of numbers"),
        ([{"path": "a.wav", "embedding": [1.0]}, {"path": "b.wav", "embedding": [1.0, 2.0]}], r"have \[1, 2\] values"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AsdError, match=message):
        build_frozen("embeddings", write(tmp_path / "wrong.parquet", rows))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    for file in (tmp_path / "text.parquet", tmp_path / "gone.parquet"):
        with pytest.raises(AsdError, match=f"{file}: cannot be read as a Parquet table of embeddings"):
            build_frozen("embeddings", file)


def test_a_saved_frozen_encoder_has_no_weights_and_no_history(tmp_path: Path) -> None:
    source = write(tmp_path / "embeddings.parquet", [{"path": "a.wav", "embedding": [1.0, 2.0]}])
    encoder = build_frozen("embeddings", source)
    encoder.save(tmp_path / "encoder.safetensors")
    assert (tmp_path / "encoder.safetensors").stat().st_size < 1000
    assert training_history(tmp_path / "encoder.safetensors") == []
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    assert (loaded.architecture, loaded.digest, loaded.revision) == (  # type: ignore[union-attr]
        "embeddings",
        encoder.digest,
        "elsewhere 1",
    )


def test_settings_say_what_is_trained_and_what_needs_a_source(outside: Path) -> None:
    assert TrainingSettings(encoder="bands").trains
    assert not TrainingSettings(encoder="loudness").trains
    with pytest.raises(ValidationError, match="encoder=embeddings needs source"):
        TrainingSettings(encoder="embeddings")
    with pytest.raises(AsdError, match="'loudness' is frozen and cannot be trained"):
        build_encoder("loudness")
    with pytest.raises(AsdError, match="'resnet18' is not a frozen one"):
        build_frozen("resnet18", None)
