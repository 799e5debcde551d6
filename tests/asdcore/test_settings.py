from typing import Any

import pytest
from pydantic import ValidationError

from asdcore.settings import (
    PRESETS,
    AugmentationSettings,
    AutoencoderSettings,
    GateSettings,
    MelSettings,
    NormalitySettings,
    RecordingSettings,
    Settings,
    StageSettings,
    TrainingSettings,
    TwoBranchSettings,
)

OTHER_VALUES: dict[type[StageSettings], dict[str, Any]] = {
    RecordingSettings: {
        "sample_rate": 8_000,
        "channel": "mean",
        "cut_off": "use",
        "minimum_seconds": 1.0,
        "clip_seconds": 5.0,
        "maximum_clipped_fraction": 0.5,
        "silence_dbfs": -60.0,
        "minimum_training_recordings": 20,
        "session_gap_minutes": 30.0,
    },
    MelSettings: {"n_fft": 1024, "hop_length": 256, "n_mels": 64, "amin": 1e-8},
    AugmentationSettings: {
        "pitch_method": "waveform",
        "pitch_semitones": 2.0,
        "noise_snr_db": (6.0, 12.0),
        "mask_milliseconds": (100.0, 1000.0),
        "seed": 1,
    },
    TrainingSettings: {
        "encoder": "resnet50",
        "adapter_rank": 8,
        "z_size": 64,
        "crop_frames": 64,
        "batch_size": 32,
        "loss": "nt_xent",
        "temperature": 0.1,
        "subclusters": 2,
        "contrastive_weight": 0.5,
        "learning_rate": 1e-4,
        "cycles": 2,
        "epochs": 80,
        "warmup_steps": 5,
        "validation_fraction": 0.1,
        "patience": 3,
        "micro_batch": 8,
        "precision": "float32",
        "tf32": False,
        "deterministic": True,
        "compile": True,
        "seed": 1,
    },
    NormalitySettings: {
        "estimator": "ledoit_wolf",
        "layer": "z",
        "scorers": ("spectrum",),
        "force_estimator": True,
        "elliptic_components": 8,
        "seed": 1,
        "false_alarm_rate": 0.1,
    },
    AutoencoderSettings: {
        "mel": MelSettings(n_fft=512),
        "epochs": 50,
        "batch_size": 128,
        "learning_rate": 1e-4,
        "validation_fraction": 0.2,
        "decision_quantile": 0.95,
        "seed": 1,
    },
    TwoBranchSettings: {"epochs": 5, "batch_size": 32, "learning_rate": 1e-4, "seconds": 10.0, "seed": 1},
    GateSettings: {"held_out_fraction": 0.2, "margin": 0.02},
}
STAGES = {"recordings", "mel", "augmentation", "training", "normality", "autoencoder", "two_branch", "gate"}
EACH_FIELD = [(stage, name, value) for stage, others in OTHER_VALUES.items() for name, value in others.items()]


def stage_name(stage: type[StageSettings]) -> str:
    return next(name for name in STAGES if type(getattr(Settings(), name)) is stage)


def test_every_field_of_every_stage_is_tried_here() -> None:
    assert set(Settings.model_fields) == STAGES
    for name in STAGES:
        stage = type(getattr(Settings(), name))
        assert set(stage.model_fields) - stage.where_not_what == set(OTHER_VALUES[stage])


@pytest.mark.parametrize(("stage", "name", "value"), EACH_FIELD, ids=[f"{s.__name__}.{n}" for s, n, _ in EACH_FIELD])
def test_the_digest_changes_with_every_field_that_changes_the_result(
    stage: type[StageSettings], name: str, value: Any
) -> None:
    # Only published models have adapters.
    alone = stage(**{"encoder": "ced", "source": "ced"} if name == "adapter_rank" else {})
    changed = stage.model_validate({**alone.model_dump(), name: value})
    assert changed.digest() != alone.digest()
    # The base encoder takes no other spectrograms.
    others = {} if stage is TrainingSettings else {"training": TrainingSettings(encoder="resnet18")}
    before, after = (Settings.model_validate({**others, stage_name(stage): one}) for one in (alone, changed))
    assert before.digest() != after.digest()


def test_settings_that_were_saved_with_a_field_that_is_gone_are_read() -> None:
    assert RecordingSettings.model_validate({"maximum_seconds": 3600.0}) == RecordingSettings()


@pytest.mark.parametrize("where", [{"device": "cpu"}, {"device": "cuda"}, {"device": "mps"}, {"processes": 2}])
def test_the_digest_does_not_change_with_where_it_trains(where: dict[str, Any]) -> None:
    training = TrainingSettings(**where)
    assert training.digest() == TrainingSettings().digest()
    assert Settings(training=training).digest() == Settings().digest()


def test_the_digest_is_16_digits_and_knows_no_order_of_names() -> None:
    one = MelSettings.model_validate({"n_fft": 1024, "n_mels": 64})
    other = MelSettings.model_validate({"n_mels": 64, "n_fft": 1024})
    assert one.digest() == other.digest()
    assert len(one.digest()) == 16
    int(one.digest(), 16)


def test_settings_come_back_from_json_the_same() -> None:
    for preset in PRESETS:
        settings = Settings.preset(preset)
        back = Settings.model_validate_json(settings.model_dump_json())
        assert back == settings
        assert back.digest() == settings.digest()


@pytest.mark.parametrize("stage", [Settings, *OTHER_VALUES])
def test_an_unknown_name_is_refused(stage: type[StageSettings]) -> None:
    with pytest.raises(ValidationError, match="learning_rat"):
        stage.model_validate({"learning_rat": 0.1})


@pytest.mark.parametrize("stage", list(OTHER_VALUES))
def test_settings_can_not_be_changed(stage: type[StageSettings]) -> None:
    settings = stage()
    for name, value in OTHER_VALUES[stage].items():
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, name, value)
    assert settings == stage()


def test_epochs_must_be_a_multiple_of_the_cycles_and_the_error_has_both() -> None:
    with pytest.raises(ValidationError, match="epochs=10 must be a multiple of cycles=4"):
        TrainingSettings(epochs=10)
    assert TrainingSettings(epochs=12).epochs == 12


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        (RecordingSettings, "channel", -1),
        (RecordingSettings, "channel", "second"),
        (RecordingSettings, "maximum_clipped_fraction", 1.5),
        (MelSettings, "amin", 0.0),
        (TrainingSettings, "temperature", 0.0),
        (TrainingSettings, "learning_rate", -1e-3),
        (TrainingSettings, "batch_size", 1),
        (TrainingSettings, "encoder", "resnet34"),
        (TrainingSettings, "loss", "triplet"),
        (NormalitySettings, "scorers", "spectrum,ears"),
        (NormalitySettings, "scorers", "change,change"),
        (NormalitySettings, "scorers", ()),
        (NormalitySettings, "estimator", "mle"),
        (NormalitySettings, "elliptic_components", 0),
    ],
)
def test_a_value_that_can_not_work_is_refused_by_name(stage: type[StageSettings], name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        stage(**{name: value})


def test_a_channel_is_a_word_or_an_index() -> None:
    assert [RecordingSettings(channel=channel).channel for channel in ("first", "mean", 0, 7)] == [  # type: ignore[arg-type]
        "first",
        "mean",
        0,
        7,
    ]


def test_the_floor_of_a_spectrogram_in_db() -> None:
    assert MelSettings(amin=1e-8).amin_db == pytest.approx(-80.0)


def test_the_paper_preset_has_the_learning_rate_of_the_paper_and_otherwise_the_decided_method() -> None:
    paper = Settings.preset("paper")
    assert (paper.training.loss, paper.training.learning_rate) == ("nt_xent", 0.5)
    assert paper.training.epochs % 4 == 0
    ten_seconds = 10 * paper.recordings.sample_rate / paper.mel.hop_length
    assert paper.training.crop_frames == pytest.approx(ten_seconds, abs=1)
    assert paper.normality == NormalitySettings(estimator="ml", layer="z", scorers=("embedding",))
    assert paper.gate.held_out_fraction == 0
    assert paper.augmentation == AugmentationSettings(pitch_method="waveform")
    for stage in STAGES - {"augmentation", "training", "normality", "gate"}:
        assert getattr(paper, stage) == getattr(Settings(), stage)


def test_the_demo_preset_keeps_the_method_and_shortens_the_work() -> None:
    demo = Settings.preset("demo")
    assert demo.training.epochs < Settings().training.epochs
    assert (demo.training.loss, demo.training.encoder) == (Settings().training.loss, Settings().training.encoder)
    assert (demo.mel, demo.augmentation) == (MelSettings(), AugmentationSettings())


def test_an_unknown_preset_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="'quick' is none of paper, default, demo"):
        Settings.preset("quick")


@pytest.mark.parametrize(
    ("written", "scorers"),
    [
        ("change", ("change",)),
        ("spectrum, change", ("spectrum", "change")),
        (["embedding"], ("embedding",)),
        ("both", ("embedding", "spectrum_deviation")),
        ("spectrum", ("spectrum_deviation",)),
        (["spectrum"], ("spectrum",)),
    ],
)
def test_scorers_are_names_a_text_with_commas_or_the_words_of_older_settings(
    written: object, scorers: tuple[str, ...]
) -> None:
    assert NormalitySettings.model_validate({"scorers": written}).scorers == scorers


def test_the_schema_and_the_errors_list_the_names_that_there_are() -> None:
    properties = NormalitySettings.model_json_schema()["properties"]
    assert "standardised_knn" in properties["estimator"]["enum"]
    assert "spectrum_deviation" in properties["scorers"]["items"]["enum"]
    assert "resnet50" in TrainingSettings.model_json_schema()["properties"]["encoder"]["enum"]
    with pytest.raises(ValidationError, match="'mle' is none of ml, elliptic, ledoit_wolf, tied, knn"):
        NormalitySettings(estimator="mle")


def test_the_base_encoder_is_refused_with_other_spectrograms_than_it_was_made_for() -> None:
    with pytest.raises(ValidationError, match=r"mel\.n_mels=128; training\.encoder=resnet18"):
        Settings(mel=MelSettings(n_mels=64))
    assert Settings(mel=MelSettings(n_mels=64), training=TrainingSettings(encoder="resnet18")).training.trains
