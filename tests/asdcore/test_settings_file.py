"""Settings by name, and files of them."""

from pathlib import Path

import pytest

from asdcore.errors import AsdError
from asdcore.setting_rows import setting_rows
from asdcore.settings import PRESETS, Settings
from asdcore.settings_file import changed, read_settings, write_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plant.yaml"


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_written_is_read_again(preset: str, file: Path) -> None:
    write_settings(file, Settings.preset(preset))
    assert read_settings(file) == Settings.preset(preset)
    assert all(row.name.rsplit(".", 1)[-1] + ": " in file.read_text() for row in setting_rows())


def test_an_existing_file_is_not_overwritten(file: Path) -> None:
    file.write_text("# mine")
    with pytest.raises(AsdError, match=r"plant\.yaml exists"):
        write_settings(file, Settings())
    assert file.read_text() == "# mine"


@pytest.mark.parametrize(
    "text",
    [
        "recordings:\n  channel: mean\nautoencoder:\n  mel:\n    n_fft: 512\n",
        "recordings.channel: mean\nautoencoder.mel.n_fft: 512\ntraining:\n",
        "\ufeffrecordings: {channel: mean}\nautoencoder: {mel.n_fft: 512}\n",
    ],
)
def test_names_are_nested_or_dotted_and_a_stage_may_be_empty(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    read = read_settings(file, Settings.preset("demo"))
    assert (read.recordings.channel, read.autoencoder.mel.n_fft) == ("mean", 512)
    assert read.training == Settings.preset("demo").training
    file.write_text("")
    assert read_settings(file) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  epoch: 3", "no setting 'training.epoch'; did you mean training.epochs"),
        ("trainig:\n  epochs: 3", "no setting 'trainig'"),
        ("normality.eyes: spectrum", "is called normality.scorers now"),
        ("training: 3", "training is a stage"),
        ("training.epochs: 80\ntraining: {epochs: 40}", "training.epochs appears twice"),
        ("training:\n  epochs: 80\n  epochs: 40", "epochs appears twice"),
        ("mel.n_mels: many", "mel.n_mels: expected integer ≥ 8, got 'many'"),
        ("recordings.sample_rate: 16k", r"expected integer ≥ 1000 \(Hz\), got '16k'"),
        ("recordings.channel: second", "expected one of first, mean or integer ≥ 0, got 'second'"),
        ("training.epochs: yes", "training.epochs: expected integer ≥ 1, got True"),
        ("training.epochs:", "training.epochs: expected integer ≥ 1, got None"),
        ("recordings.silence_dbfs: .nan", "expected number"),
        ("augmentation.noise_snr_db: [1, 2, 3]", "expected 2 numbers"),
        ("normality.scorers: [spectrum, ears]", "'ears' is none of"),
        ("training.epochs: 7", "must be a multiple of cycles"),
        ("- training", "not a mapping"),
        ("training: [", "not YAML"),
        ("training: !!python/object:os.system {}", "not YAML"),
        ("training: &a {b: *a}", "line 1: write the value instead of a reference"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(text: str, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(AsdError, match=rf"plant\.yaml: .*{said}"):
        read_settings(file)


def test_a_file_that_is_no_text_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AsdError, match=r"plant\.yaml"):
        read_settings(file)


def test_a_text_means_what_set_means() -> None:
    settings = changed(Settings(), {"normality.scorers": "spectrum, change", "training.micro_batch": "8"})
    assert settings.normality.scorers == ("spectrum", "change")
    assert settings.training.micro_batch == 8
    assert changed(settings, {"training.micro_batch": ""}).training.micro_batch is None


def test_every_setting_has_a_sentence_and_says_what_it_takes() -> None:
    assert not [row.name for row in setting_rows() if not row.description or not row.kind]


def test_a_settings_file_with_references_is_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    levels = [f"&{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)]
    file = tmp_path / "settings.yaml"
    file.write_text(f"recordings.channel: [&a [x], {', '.join(levels)}]")
    with pytest.raises(AsdError, match="line 1: write the value instead of a reference"):
        read_settings(file)
