import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from asdcore.detector import FORMAT, Detector
from asdcore.encoder.embedding import embeddings
from asdcore.encoder.network import TrainedEncoder, build_encoder
from asdcore.errors import AsdError
from asdcore.explanation.profile import Profile
from asdcore.features.compute import compute_features
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import as_stored, spectrogram
from asdcore.features.store import Store
from asdcore.heard import COLUMNS, clip_table, score_table
from asdcore.normality.machine import VERDICT, MachineModel
from asdcore.normality.scorers import Embedding, build_scorers, features_of
from asdcore.normality.threshold import Threshold
from asdcore.recordings.audio import decode
from asdcore.recordings.clips import Clip
from asdcore.settings import AugmentationSettings, NormalitySettings, Settings, TrainingSettings
from asdcore.storage.files import digest_of_file

RATE = 16_000
SETTINGS = Settings(
    augmentation=AugmentationSettings(pitch_method="spectral"),
    training=TrainingSettings(encoder="resnet18", z_size=8, device="cpu"),
    normality=NormalitySettings(estimator="ledoit_wolf"),
)


def hum(seconds: float, hertz: float = 120.0, seed: int = 0, rate: int = RATE) -> NDArray[np.float32]:
    """A tone with an overtone in some noise, (n_samples,) float32."""
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * hertz * t) + 0.5 * np.sin(2 * np.pi * 3.1 * hertz * t)
    noise = np.random.default_rng(seed).normal(size=len(t))
    return (0.1 * tone + 0.02 * noise).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A random encoder, and two machines that hum at different pitches."""
    return make_detector(SETTINGS)


def make_detector(settings: Settings) -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder("resnet18", settings.training.z_size).eval()
    pitches = {"fan": 120.0, "pump": 410.0}
    normal = {
        machine: [as_stored(spectrogram(hum(1, hertz + seed, seed), RATE, settings.mel)) for seed in range(12)]
        for machine, hertz in pitches.items()
    }
    normalisation = Normalisation.fit(values for own in normal.values() for values in own)
    bare = Detector(settings, TrainedEncoder(encoder, normalisation, [{"epoch": 1.0, "loss": 2.5}]), {})
    scorers = build_scorers(settings.normality)
    machines = {}
    for machine, own in normal.items():
        rows = [
            features_of(list(scorers.values()), values, Embedding(h, z))
            for values, (h, z) in zip(own, embeddings(bare.encoder, own, bare.device), strict=True)
        ]
        models = {name: scorer.model().fit(np.stack([row[name] for row in rows])) for name, scorer in scorers.items()}
        profile = Profile.fit(own, ["source"] * len(own), settings.mel, RATE)
        machines[machine] = MachineModel(models, profile)
    return Detector(settings, bare.encoder, machines, {"recordings": 24, "data": "abc"})


def test_an_explanation_names_the_frequency_of_a_new_tone_also_after_a_save(
    detector: Detector, saved: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "fan" / "whistle.wav", hum(1, 121, seed=50) + 0.5 * hum(1, 3000, seed=51))
    explanation = detector.explain(file)
    assert explanation.findings[0].kind in ("component", "louder")
    assert any(f.hz[0] < 3000 < f.hz[1] and f.decibels > 0 for f in explanation.findings)
    assert Detector.load(saved).explain(file).sentences == explanation.sentences


def test_an_explanation_names_what_triggered_and_begins_with_what_it_finds(detector: Detector, tmp_path: Path) -> None:
    throb = 1 + np.sin(2 * np.pi * 8 * np.arange(RATE) / RATE, dtype=np.float32)
    file = write(tmp_path / "fan" / "warble.wav", hum(1, 121, seed=50) + 0.5 * throb * hum(1, 3000, seed=51))
    (triggered_by,) = detector.score([file])["triggered_by"]
    said = " and ".join(triggered_by.rsplit("+", 1)).replace("+", ", ")
    assert triggered_by and detector.explain(file).trigger.startswith(f"Triggered by {said}")
    of_clip = detector.explain(file, clip=Clip(digest_of_file(file)))
    assert of_clip.sentences == detector.explain(file).sentences
    assert detector.explain(file, triggered_by="spectrum").findings[0].trait == "level"
    assert detector.explain(file, triggered_by="change").findings[0].trait == "change"
    assert detector.explain(file, triggered_by="embedding").trigger.startswith("Triggered by embedding, which cannot")
    with pytest.raises(AsdError, match=r"no scorer hum; this detector has spectrum, change, embedding"):
        detector.explain(file, triggered_by="spectrum+hum")


def test_what_triggered_nothing_has_no_such_sentence(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "fan" / "usual.wav", hum(1, 125, seed=5))
    assert (detector.score([file])["triggered_by"] == "").all()
    assert detector.explain(file).trigger == ""


def test_what_can_not_be_explained_is_an_error_that_says_why(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "fan" / "a.wav", hum(1))
    fan = MachineModel(detector.machines["fan"].models)
    with pytest.raises(AsdError, match="'fan' has no profile"):
        Detector(detector.settings, detector.encoder, {"fan": fan}).explain(file)
    file.write_bytes(b"no sound")
    with pytest.raises(AsdError, match=r"a\.wav cannot be explained: unreadable"):
        detector.explain(file)


@pytest.fixture
def saved(detector: Detector, tmp_path: Path) -> Path:
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


def test_a_recording_of_another_pitch_scores_higher_than_the_normal_ones(detector: Detector, tmp_path: Path) -> None:
    normal = [write(tmp_path / "fan" / f"{i}.wav", hum(1, 120 + i, seed=50 + i)) for i in range(4)]
    odd = write(tmp_path / "fan" / "odd.wav", hum(1, 900, seed=60))
    scores = detector.score([*normal, odd])["score"]
    assert scores.iloc[-1] > 5 + scores.iloc[:-1].max()


def test_a_row_for_each_file_in_their_order_with_the_machine_of_its_folder(detector: Detector, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "pump" / "test" / "section_00_source_test_normal_0001.wav", hum(1, 410)),
        write(tmp_path / "fan" / "monday.wav", hum(1)),
    ]
    table = detector.score(map(str, files))
    assert table.columns.tolist() == COLUMNS
    assert ((table["p_value"] > 0) & (table["p_value"] <= 1)).all()
    assert table["decision"].tolist() == [int(p <= 0.01) for p in table["p_value"]]
    assert table["path"].tolist() == [str(file) for file in files]
    assert table["machine"].tolist() == ["pump", "fan"]
    assert table["reason"].tolist() == ["", ""]
    assert np.isfinite(table["score"]).all()


def test_the_machine_of_a_relative_path_is_the_folder_it_lies_in(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "pump" / "monday.wav", hum(1))
    monkeypatch.chdir(file.parent)
    assert detector.score(["monday.wav"])["machine"].tolist() == ["pump"]


def test_a_machine_with_another_name_is_found_by_it_and_by_the_folder_of_the_old_one(
    detector: Detector, tmp_path: Path
) -> None:
    detector.with_threshold("pump", Threshold(0.2)).with_name("pump", "press").save(tmp_path / "saved")
    renamed = Detector.load(tmp_path / "saved")
    file = write(tmp_path / "pump" / "monday.wav", hum(1, 410))
    assert renamed.score([file])["machine"].tolist() == ["press"]
    assert renamed.score([file])["score"].tolist() == detector.score([file])["score"].tolist()
    assert set(renamed.machines) == set(detector.machines) - {"pump"} | {"press"}
    assert renamed.threshold_of("press").false_alarm_rate == 0.2
    with pytest.raises(AsdError, match="this detector knows a machine fan already"):
        detector.with_name("pump", "fan")
    with pytest.raises(AsdError, match="'pump' is not enrolled"):
        renamed.with_name("pump", "saw")


def test_a_machine_removed_by_another_spelling_of_its_umlaut_leaves_no_threshold(detector: Detector) -> None:
    composed, decomposed = "S\u00e4ge", "Sa\u0308ge"
    known = detector.with_threshold("pump", Threshold(0.2)).with_name("pump", composed)
    rest = known.without_machine(decomposed)
    assert list(rest.machines) == ["fan"] and composed not in rest.thresholds


def test_a_named_machine_goes_before_the_folder(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "pump" / "monday.wav", hum(1))
    as_fan, as_pump = detector.score([file], "fan").iloc[0], detector.score([file]).iloc[0]
    assert (as_fan["machine"], as_pump["machine"]) == ("fan", "pump")
    assert as_fan["score"] != as_pump["score"]


def test_an_unknown_machine_lists_the_enrolled_ones(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "lathe" / "monday.wav", hum(1))
    with pytest.raises(AsdError, match=r"monday\.wav: its folder says machine 'lathe'.*fan, pump"):
        detector.score([file])
    with pytest.raises(AsdError, match="machine 'lathe' is not enrolled; this detector knows fan, pump"):
        detector.score([file], "lathe")
    with pytest.raises(AsdError, match="'lathe' is not enrolled"):
        detector.score_waveform(hum(1), RATE, "lathe")
    with pytest.raises(AsdError, match="name the machine; this detector knows fan, pump"):
        detector.score_waveform(hum(1), RATE)


def test_the_only_machine_there_is_need_not_be_named(detector: Detector, tmp_path: Path) -> None:
    only = Detector(detector.settings, detector.encoder, {"pump": detector.machines["pump"]})
    file = write(tmp_path / "anywhere" / "monday.wav", hum(1))
    assert only.score([file])["machine"].tolist() == ["pump"]
    alone = only.score_waveform(hum(1), RATE)
    assert alone["machine"] == "pump" and alone == detector.score_waveform(hum(1), RATE, "pump")


def test_one_recording_alone_scores_the_same_as_among_many_bit_for_bit(detector: Detector, tmp_path: Path) -> None:
    lengths = (1.0, 0.6, 3.3, 1.0, 2.0)
    files = [write(tmp_path / "fan" / f"{i}.wav", hum(s, seed=i)) for i, s in enumerate(lengths)]
    together = detector.score(files)["score"].tolist()
    assert together == [detector.score([file])["score"].item() for file in files]
    assert together[::-1] == detector.score(files[::-1])["score"].tolist()


@pytest.mark.parametrize("seconds", [0.6, 60.0])
def test_a_recording_of_any_length_has_a_score(detector: Detector, tmp_path: Path, seconds: float) -> None:
    row = detector.score([write(tmp_path / "fan" / "a.wav", hum(seconds))]).iloc[0]
    assert np.isfinite(row["score"]) and row["reason"] == ""


@pytest.mark.parametrize("layer", ["h", "z"])
def test_a_path_and_the_same_samples_have_the_same_score(tmp_path: Path, layer: str) -> None:
    settings = SETTINGS.model_copy(update={"normality": NormalitySettings(estimator="ledoit_wolf", layer=layer)})  # type: ignore[arg-type]
    detector = make_detector(settings)
    file = write(tmp_path / "fan" / "a.wav", hum(1.3))
    verdict = detector.score([file])[["machine", *VERDICT]].iloc[0].to_dict()
    assert verdict == detector.score_waveform(hum(1.3), RATE, "fan")


def with_clips(detector: Detector, seconds: float, clips: list[str] | None = None) -> Detector:
    """The fan alone, its recordings cut into clips of about so many seconds."""
    fan = detector.machines["fan"]
    cutting = MachineModel(fan.models, fan.profile, None, clips, seconds)
    return Detector(detector.settings, detector.encoder, {"fan": cutting})


def test_a_long_recording_is_scored_in_clips_that_say_where_it_is_strange(detector: Detector, tmp_path: Path) -> None:
    cutting = with_clips(detector, 1.0)
    parts = [hum(1, 120 + i, seed=50 + i) for i in range(8)]
    parts[5] = hum(1, 900, seed=60)
    file = write(tmp_path / "fan" / "long.wav", np.concatenate(parts))
    (heard,) = cutting.listen([file])
    row, clips = score_table([heard]).iloc[0], clip_table([heard])
    assert (row["clips"], row["strangest_at"]) == (8, 5.0)
    assert clips["start"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert clips["score"].idxmax() == 5
    each = [cutting.score_waveform(part, RATE)["score"] for part in parts]
    np.testing.assert_allclose(clips["score"], each, rtol=1e-6)
    assert row["score"] == pytest.approx(np.quantile(each, 0.75))
    assert cutting.score_waveform(np.concatenate(parts), RATE)["score"] == pytest.approx(row["score"])
    assert any("louder" in sentence or "Hz" in sentence for sentence in cutting.explain(file).sentences)


def test_a_clip_that_must_not_be_used_is_left_out_and_the_others_judge(detector: Detector, tmp_path: Path) -> None:
    cutting = with_clips(detector, 1.0)
    parts = [hum(1, 121, seed=70), np.zeros(RATE, np.float32), hum(1, 122, seed=71)]
    file = write(tmp_path / "fan" / "pause.wav", np.concatenate(parts))
    (heard,) = cutting.listen([file])
    assert [clip.number for clip in heard.clips] == [1, 3]
    assert clip_table([heard])["start"].tolist() == [0.0, 2.0]
    assert cutting.score_waveform(np.concatenate(parts), RATE)["score"] == heard.verdict["score"]
    silent = write(tmp_path / "fan" / "off.wav", np.zeros(3 * RATE, np.float32))
    assert "no usable clip among 3" in cutting.score([silent])["reason"][0]


def test_a_long_recording_that_is_cut_off_is_not_scored(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "fan" / "long.wav", hum(5), subtype="PCM_16")
    file.write_bytes(file.read_bytes()[:-40_000])
    assert "cut off" in with_clips(detector, 1.0).score([file])["reason"][0]


def test_a_training_recording_is_judged_by_a_model_without_it_and_marked(detector: Detector, tmp_path: Path) -> None:
    settings, fan = detector.settings, tmp_path / "fan"
    files = [write(fan / f"{seed}.wav", hum(1, 120 + seed % 3, seed)) for seed in range(12)]
    files.append(write(fan / "fault.wav", hum(1, 900, 99)))
    files.append(write(fan / "new.wav", hum(1, 121, 100)))
    rows = [detector._vectors(decode(file, settings.recordings).samples) for file in files[:13]]
    scorers = build_scorers(settings.normality)
    models = {name: scorer.model().fit(np.concatenate([row[name] for row in rows])) for name, scorer in scorers.items()}
    learned = MachineModel(models, clips=[digest_of_file(file) for file in files[:13]])
    table = Detector(settings, detector.encoder, {"fan": learned}).score(files)
    assert table["in_training"].tolist() == [True] * 13 + [False]
    # It was learned as normal; left out, it is the strangest.
    assert table["verdict"][12] == "suspect"
    assert table["p_value"][12] == table["p_value"].min() == pytest.approx(1 / 13)
    two = {name: np.concatenate([rows[0][name], rows[1][name]]) for name in rows[0]}
    judged = learned.judge(two, 0.1, [learned.clips[0], "a clip that was not learned"])
    assert len(judged.clips["score"]) == 2 and judged.verdict["in_training"]


def test_other_rates_and_channels_are_brought_to_those_of_the_settings(detector: Detector, tmp_path: Path) -> None:
    mono, other = hum(2, seed=1), hum(2, 700, seed=2)
    eight = np.stack([mono, *[other] * 7], axis=1)
    stereo = np.stack([hum(2, rate=44_100), hum(2, 700, rate=44_100)], axis=1)
    files = [
        write(tmp_path / "fan" / "eight.wav", eight),
        write(tmp_path / "fan" / "flac.flac", mono, subtype="PCM_24"),
        write(tmp_path / "fan" / "stereo.wav", stereo, 44_100, "PCM_16"),
    ]
    table = detector.score(files)
    assert table["reason"].tolist() == ["", "", ""]
    of_mono = detector.score_waveform(mono, RATE, "fan")["score"]
    assert table["score"][0] == of_mono
    assert table["score"][1] == pytest.approx(of_mono, rel=0.05)
    samples, _ = soundfile.read(files[2], dtype="float32")
    assert table["score"][2] == detector.score_waveform(samples, 44_100, "fan")["score"]


def test_a_name_that_is_not_utf8_has_a_score_and_a_path_that_can_be_stored(detector: Detector, tmp_path: Path) -> None:
    named = write(tmp_path / "fan" / "good.wav", hum(1)).rename(tmp_path / os.fsdecode(b"valve\xff.wav"))
    (row,) = detector.score([named], "fan").to_dict("records")
    assert not row["reason"] and row["score"] > -np.inf and row["path"].endswith("valve\\xff.wav")


def test_a_bad_file_has_a_reason_and_no_score_and_the_rest_is_scored(detector: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "fan"
    good = write(folder / "good.wav", hum(1))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound in here")
    write(folder / "short.wav", hum(0.2))
    write(folder / "silent.wav", np.zeros(RATE, np.float32))
    spoilt = hum(1)
    spoilt[7] = np.nan
    write(folder / "nan.wav", spoilt)
    (folder / "folder.wav").mkdir()
    names = ["empty", "text", "short", "good", "silent", "nan", "folder", "missing"]
    table = detector.score([folder / f"{name}.wav" for name in names]).set_index("path")

    assert table.loc[str(good), "score"] == detector.score([good])["score"].item()
    reasons = {Path(str(path)).stem: reason for path, reason in table["reason"].items()}
    starts = {
        "empty": "empty",
        "text": "unreadable",
        "short": "too short",
        "good": "",
        "silent": "silent",
        "nan": "not finite",
        "folder": "unreadable: Is a directory",
        "missing": "unreadable: No such file",
    }
    for name, start in starts.items():
        assert reasons[name].startswith(start) and bool(reasons[name]) == bool(start)
    assert table["score"].isna().sum() == len(names) - 1


def test_a_bad_waveform_is_refused_with_the_reason(detector: Detector) -> None:
    with pytest.raises(AsdError, match="cannot be scored: too short"):
        detector.score_waveform(hum(0.2), RATE, "fan")


def test_no_file_gives_an_empty_table(detector: Detector) -> None:
    assert detector.score([]).columns.tolist() == COLUMNS


def test_the_spectrogram_of_the_store_gives_the_score_of_the_file(detector: Detector, tmp_path: Path) -> None:
    file = write(tmp_path / "fan" / "a.wav", hum(1.7))
    digest = digest_of_file(file)
    _, failures = compute_features(tmp_path / "store", None, [(digest, str(file))], SETTINGS)
    assert not failures
    values = Store(tmp_path / "store").read(digest, "original")
    ((h, z),) = embeddings(detector.encoder, [values], detector.device)
    scorers = list(build_scorers(SETTINGS.normality).values())
    stored = {name: vector[None] for name, vector in features_of(scorers, values, Embedding(h, z)).items()}
    verdict = detector.machines["fan"].verdict(stored, 0.01)
    assert verdict["score"].item() == detector.score([file])["score"].item()


def test_a_saved_detector_comes_back_with_all_it_holds_and_the_same_scores_bit_for_bit(
    detector: Detector, saved: Path, tmp_path: Path
) -> None:
    loaded = Detector.load(saved)
    files = [write(tmp_path / machine / "a.wav", hum(1.3, 300)) for machine in ("fan", "pump")]
    assert loaded.score(files)["score"].tolist() == detector.score(files)["score"].tolist()
    assert loaded.settings == detector.settings
    assert sorted(loaded.machines) == ["fan", "pump"]
    assert loaded.about == detector.about
    assert loaded.encoder.history == detector.encoder.history
    for name, machine in loaded.machines.items():
        assert all(
            model.report_ == detector.machines[name].models[scorer].report_ for scorer, model in machine.models.items()
        )


def test_a_machine_may_have_any_name(detector: Detector, tmp_path: Path) -> None:
    named = dict(zip(["Lüfter 1/2", "0.location"], detector.machines.values(), strict=True))
    Detector(SETTINGS, detector.encoder, named).save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert list(loaded.machines) == sorted(named)
    for name, machine in named.items():
        for scorer, model in machine.models.items():
            np.testing.assert_array_equal(loaded.machines[name].models[scorer].left_out_, model.left_out_)


def test_the_folder_holds_no_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == [
        "detector.json",
        "encoder.safetensors",
        "normality.npz",
    ]
    json.loads((saved / "detector.json").read_text())
    with np.load(saved / "normality.npz", allow_pickle=False) as arrays:
        assert not any(arrays[name].dtype.hasobject for name in arrays)


WITHOUT_PICKLE = """
import pickle, sys
import numpy as np
import torch
from asdcore.detector import Detector
from asdcore.features.spectrogram import spectrogram
from asdcore.settings import MelSettings

# librosa loads itself at the first use, and numba then unpickles what it has compiled: nothing of the detector's.
spectrogram(np.zeros(16_000, np.float32), 16_000, MelSettings())

def refuse(*_, **__):
    raise SystemExit("something was unpickled")

pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = torch.load = refuse
print(repr(float(Detector.load(sys.argv[1]).score([sys.argv[2]])["score"].item())))
"""


def test_loading_and_scoring_unpickle_nothing(detector: Detector, saved: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "fan" / "a.wav", hum(1))
    done = run(WITHOUT_PICKLE, str(saved), str(file))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == detector.score([file])["score"].item()


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def one_bit(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def described(**change: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "detector.json"
        values = json.loads(file.read_text()) | change
        file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (without("detector.json"), "detector.json"),
        (without("encoder.safetensors"), "encoder.safetensors: missing or damaged"),
        (without("normality.npz"), "normality.npz: missing or damaged"),
        (one_bit("encoder.safetensors"), "encoder.safetensors: missing or damaged"),
        (one_bit("normality.npz"), "normality.npz: missing or damaged"),
        (lambda folder: (folder / "detector.json").write_bytes(b"\xff\xfe\x00"), "detector.json"),
        (lambda folder: (folder / "detector.json").write_text("{"), "detector.json"),
        (lambda folder: (folder / "detector.json").write_text("[]"), "detector.json"),
        (described(sha256={}), "detector.json"),
        (described(machines=None), "detector.json"),
        (described(settings={"mel": {"unheard": 1}}), "detector.json"),
    ],
)
def test_what_is_missing_or_damaged_is_named(saved: Path, damage: Callable[[Path], None], named: str) -> None:
    damage(saved)
    with pytest.raises(AsdError, match=f"detector/{named}"):
        Detector.load(saved)


def test_a_newer_format_is_refused(saved: Path) -> None:
    # Whatever else a newer version has changed, it is not read.
    described(format=FORMAT + 1, asd="9.9", settings={"unheard": 1})(saved)
    with pytest.raises(AsdError, match=r"made by asd 9\.9, a newer version than this"):
        Detector.load(saved)


def test_an_older_format_is_refused_with_the_remedy(saved: Path) -> None:
    described(format=FORMAT - 1, asd="0.0")(saved)
    with pytest.raises(AsdError, match=r"made by asd 0\.0, which this .* cannot read: `asd retrain` fits it"):
        Detector.load(saved)


def test_a_folder_without_a_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="nowhere"):
        Detector.load(tmp_path / "nowhere")


def test_a_device_that_is_not_there_is_refused(saved: Path) -> None:
    with pytest.raises(AsdError, match="device=tpu: not available here"):
        Detector.load(saved, device="tpu")


def test_a_save_that_fails_leaves_the_older_detector_and_nothing_else(
    detector: Detector, saved: Path, tmp_path: Path
) -> None:
    class Unwritable(MachineModel):
        def to_arrays(self) -> dict[str, NDArray[Any]]:
            raise RuntimeError("no")

    unwritable = Detector(SETTINGS, detector.encoder, {"fan": Unwritable(detector.machines["fan"].models)})
    for folder in (saved, tmp_path / "new"):
        with pytest.raises(RuntimeError):
            unwritable.save(folder)
    assert sorted(Detector.load(saved).machines) == ["fan", "pump"]
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]


def test_a_later_save_replaces_the_older_detector(detector: Detector, saved: Path) -> None:
    Detector(SETTINGS, detector.encoder, {"fan": detector.machines["fan"]}).save(saved)
    assert list(Detector.load(saved).machines) == ["fan"]


KILLED = """
import os, signal, sys
from asdcore.detector import Detector
from asdcore.normality.machine import MachineModel
from asdcore.normality.machine import MachineModel

class Deadly(MachineModel):
    def to_arrays(self):
        os.kill(os.getpid(), signal.SIGKILL)

detector = Detector.load(sys.argv[1])
Detector(detector.settings, detector.encoder, {"fan": Deadly(detector.machines["fan"].models)}).save(sys.argv[2])
"""


@pytest.mark.parametrize("older", [True, False])
def test_a_save_that_is_killed_leaves_the_older_detector_or_none(saved: Path, tmp_path: Path, older: bool) -> None:
    place = saved if older else tmp_path / "new"
    killed = run(KILLED, str(saved), str(place))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if older:
        assert sorted(Detector.load(place).machines) == ["fan", "pump"]
    else:
        with pytest.raises(AsdError, match="no description of a detector"):
            Detector.load(place)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "scorers", [("embedding",), ("spectrum",), ("change",), ("spectrum_deviation", "embedding"), ("spectrum", "change")]
)
def test_the_scorers_that_the_settings_name_judge(tmp_path: Path, scorers: tuple[str, ...]) -> None:
    normality = SETTINGS.normality.model_copy(update={"scorers": scorers})
    chosen = make_detector(SETTINGS.model_copy(update={"normality": normality}))
    chosen.save(tmp_path / "detector")
    chosen = Detector.load(tmp_path / "detector")
    assert chosen.machines["fan"].scorers == list(scorers)
    table = chosen.score([write(tmp_path / "fan" / "odd.wav", hum(1, 900) + 0.5 * hum(1, seed=9) ** 3)])
    # Few recordings support no rate as low as 1 %: what is stranger than all of them is suspect.
    assert table["verdict"].tolist() == ["suspect"] and table["decision"].tolist() == [0]
    assert table["p_value"][0] == pytest.approx(chosen.machines["fan"].calibration.supported_rate)
    assert set(table["triggered_by"][0].split("+")) <= set(scorers)


def test_without_the_embedding_no_encoder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normality = SETTINGS.normality.model_copy(update={"scorers": ("spectrum", "change")})
    chosen = make_detector(SETTINGS.model_copy(update={"normality": normality}))
    monkeypatch.setattr("asdcore.detector.embedding", None)
    assert chosen.score([write(tmp_path / "fan" / "a.wav", hum(1))])["reason"].tolist() == [""]
