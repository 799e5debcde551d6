"""What an explanation says of recordings with a known difference, and that it says nothing where there is none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.explanation.explanation import NOTHING, Explanation, Triggers, explain
from asdcore.explanation.profile import TRAITS, Profile
from asdcore.features.spectrogram import Spectrogram, as_stored, spectrogram
from asdcore.features.statistics import mean_change, mean_spectrum
from asdcore.normality.scorers import ChangeScorer, EmbeddingScorer, SpectrumScorer
from asdcore.recordings.audio import decode
from asdcore.settings import RecordingSettings, Settings

MEL = Settings().mel
FRAMES = 200
HOP = MEL.hop_length / 16_000
SPECTRUM: Triggers = {"spectrum": SpectrumScorer.traits}
CHANGE: Triggers = {"change": ChangeScorer.traits}
EMBEDDING: Triggers = {"embedding": EmbeddingScorer.traits}


def normal(rng: np.random.Generator, domain: str = "source") -> Spectrogram:
    """A falling spectrum with a component in bands 40 to 42, a gain of its own, and noise; elsewhere in the target."""
    bands = np.arange(MEL.n_mels)
    level = -20 - 0.2 * bands + 12.0 * np.isin(bands, (40, 41, 42)) + rng.normal(0, 2.0)
    level += 10.0 * (domain == "target") * (bands < 60)
    noise = rng.normal(0, 3.0, (MEL.n_mels, FRAMES)) + rng.normal(0, 0.5, (MEL.n_mels, 1))
    return (level[:, None] + noise).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    rng = np.random.default_rng(0)
    domains = ["source"] * 50 + ["target"] * 5
    return Profile.fit((normal(rng, domain) for domain in domains), domains, MEL, 16_000)


@pytest.fixture
def recording() -> Spectrogram:
    return normal(np.random.default_rng(1))


def kinds(explanation: Explanation) -> list[str]:
    return sorted(finding.kind for finding in explanation.findings)


def centre(profile: Profile, band: int) -> float:
    return float(profile.edges[band : band + 2].mean())


def test_fresh_normals_of_every_domain_mostly_have_no_finding(profile: Profile) -> None:
    rng = np.random.default_rng(2)
    found = [bool(explain(normal(rng, domain), profile).findings) for domain in ("source", "target") for _ in range(50)]
    assert np.mean(found) <= 0.15


def test_each_trait_of_fresh_normals_looks_unusual_once_in_thirty() -> None:
    rng = np.random.default_rng(5)
    # Each eighth of the bands is livelier or calmer than usual by more than the smallest deviation that is reported.
    rough = [np.repeat(np.abs(rng.normal(0, 3, 8)), MEL.n_mels // 8)[:, None] for _ in range(460)]
    values = [normal(rng) + (rng.normal(0, 1, (MEL.n_mels, FRAMES)) * by).astype(np.float32) for by in rough]
    profile = Profile.fit(values[:60], ["source"] * 60, MEL, 16_000)
    found = [finding.trait for one in values[60:] for finding in explain(one, profile).findings]
    assert {"change", "swing"} <= {*found}
    assert all(found.count(trait) / 400 <= 1.5 / 30 for trait in TRAITS)


def test_where_nothing_is_unusual_it_says_so(profile: Profile, recording: Spectrogram) -> None:
    assert explain(recording, profile).sentences == [NOTHING]


def test_a_new_component_is_found_at_its_frequency_and_all_the_time(profile: Profile, recording: Spectrogram) -> None:
    recording[70:73] += 12
    (finding,) = explain(recording, profile).findings
    assert finding.kind == "component"
    assert finding.hz[0] < centre(profile, 71) < finding.hz[1]
    assert finding.decibels == pytest.approx(12, abs=2.5)
    assert finding.always and finding.times == ()
    assert "all the time" in finding.sentence


def test_a_component_that_is_gone_is_missing(profile: Profile, recording: Spectrogram) -> None:
    recording[40:43] -= 12
    (finding,) = explain(recording, profile).findings
    assert finding.kind == "missing"
    assert finding.hz[0] < centre(profile, 41) < finding.hz[1]


def test_neighbouring_bands_are_one_finding(profile: Profile, recording: Spectrogram) -> None:
    recording[80:110] += 8
    (finding,) = explain(recording, profile).findings
    assert finding.kind == "louder"
    assert finding.hz[0] == pytest.approx(profile.edges[80], rel=0.06)
    assert finding.hz[1] == pytest.approx(profile.edges[110], rel=0.06)


def test_a_gain_beyond_the_usual_is_told_and_a_usual_one_is_not(profile: Profile, recording: Spectrogram) -> None:
    assert not explain(recording + np.float32(2), profile).findings
    (finding,) = explain(recording + np.float32(20), profile).findings
    assert (finding.kind, finding.hz) == ("louder", (0.0, 8000.0))


def test_knocks_are_counted_and_timed(profile: Profile, recording: Spectrogram) -> None:
    frames = [30, 80, 120, 170]
    for frame in frames:
        recording[64:96, frame : frame + 2] += 15
    (finding,) = explain(recording, profile).findings
    assert finding.kind == "knocks"
    assert [np.mean(span) for span in finding.times] == pytest.approx([(f + 0.5) * HOP for f in frames], abs=HOP)
    assert finding.hz[0] <= profile.edges[64] < profile.edges[96] <= finding.hz[1] + 1
    assert finding.sentence.startswith("4 short loud moments at 1.0, 2.6, 3.9, 5.5 s")


def test_a_dropout_is_timed(profile: Profile, recording: Spectrogram) -> None:
    recording[:, 100:104] -= 25
    assert "gaps" in kinds(explain(recording, profile))
    gap = next(finding for finding in explain(recording, profile).findings if finding.kind == "gaps")
    assert np.mean(gap.times[0]) == pytest.approx(101.5 * HOP, abs=HOP)


def test_a_modulation_is_unsteady(profile: Profile, recording: Spectrogram) -> None:
    recording += 4 * np.sin(np.arange(FRAMES)).astype(np.float32)
    assert "unsteady" in kinds(explain(recording, profile))


def modulated(recording: Spectrogram, bands: slice, decibels: float) -> Spectrogram:
    """With bands that rise and fall quickly at the level that they had."""
    values = recording.copy()
    values[bands] += decibels * np.sin(2 * np.pi * np.arange(FRAMES) / 4).astype(np.float32)
    return values


def test_a_modulation_at_the_usual_level_is_a_change_in_its_bands(profile: Profile, recording: Spectrogram) -> None:
    fault = modulated(recording, slice(80, 100), 6)
    np.testing.assert_allclose(mean_spectrum(fault), mean_spectrum(recording), atol=0.1)
    explanation = explain(fault, profile, CHANGE)
    first = explanation.findings[0]
    assert first.kind == "changing"
    assert first.hz[0] == pytest.approx(profile.edges[80], rel=0.06)
    assert first.hz[1] == pytest.approx(profile.edges[100], rel=0.06)
    more = (mean_change(fault) - mean_change(recording))[80:100].mean()
    assert first.decibels == pytest.approx(more, abs=1)
    assert explanation.sentences[0] == "Triggered by change."
    assert "changes from frame to frame more than usual: by" in explanation.sentences[1]
    assert not {"louder", "quieter", "component", "missing"} & {*kinds(explanation)}


def test_bands_that_hardly_change_are_constant(profile: Profile, recording: Spectrogram) -> None:
    recording[80:100] = recording[80:100].mean(axis=1, keepdims=True)
    first = explain(recording, profile, CHANGE).findings[0]
    assert (first.kind, first.decibels < 0) == ("constant", True)
    assert "changes from frame to frame less than usual" in first.sentence


@pytest.mark.parametrize(
    ("triggered_by", "modulation", "louder", "first", "why"),
    [
        (CHANGE, 5, 20, "changing", "Triggered by change: findings of change come first."),
        (SPECTRUM, 12, 5, "louder", "Triggered by spectrum: findings of spectrum come first."),
    ],
)
def test_what_the_scorer_that_triggered_finds_comes_first_though_something_else_is_more_unusual(
    profile: Profile,
    recording: Spectrogram,
    triggered_by: Triggers,
    modulation: float,
    louder: float,
    first: str,
    why: str,
) -> None:
    fault = modulated(recording, slice(90, 110), modulation)
    fault[10:30] += louder
    by_size, ordered = explain(fault, profile), explain(fault, profile, triggered_by)
    assert by_size.findings[0].kind != first
    assert ordered.findings[0].kind == first
    assert {*ordered.findings} == {*by_size.findings}
    assert ordered.sentences[0] == why
    assert by_size.sentences[0] == by_size.findings[0].sentence


def test_of_change_the_change_itself_comes_first_then_knocks_then_the_level(
    profile: Profile, recording: Spectrogram
) -> None:
    fault = modulated(recording, slice(104, 120), 5)
    fault[64:80, 50:52] += 25
    fault[10:30] += 30
    assert [finding.trait for finding in explain(fault, profile, CHANGE).findings] == [
        "change",
        "peak",
        "swing",
        "level",
    ]


def test_what_changes_only_because_of_knocks_is_told_once(profile: Profile, recording: Spectrogram) -> None:
    recording[64:96, [30, 80, 130]] += 40
    assert mean_change(recording)[64:96].min() > mean_change(recording)[:64].max()
    assert kinds(explain(recording, profile, CHANGE)) == ["knocks"]


def test_what_changes_less_than_usual_between_the_knocks_is_not_told_as_more(
    profile: Profile, recording: Spectrogram
) -> None:
    bands = recording[64:96]
    bands[:] = bands.mean(axis=1, keepdims=True) + 0.3 * (bands - bands.mean(axis=1, keepdims=True))
    recording[64:96, [30, 80, 130]] += 40
    assert not {"changing", "unsteady"} & {*kinds(explain(recording, profile, CHANGE))}


def test_what_changes_between_the_knocks_as_well_is_told_beside_them(profile: Profile, recording: Spectrogram) -> None:
    fault = modulated(recording, slice(64, 96), 3)
    fault[64:96, [30, 80, 130]] += 40
    assert {"changing", "knocks"} <= {*kinds(explain(fault, profile, CHANGE))}


def test_what_the_embedding_finds_has_no_place_and_the_nearest_is_named(
    profile: Profile, recording: Spectrogram
) -> None:
    assert explain(recording, profile, EMBEDDING).sentences == ["Triggered by embedding.", NOTHING]
    fault = modulated(recording, slice(90, 110), 12)
    fault[10:30] += 5
    explanation = explain(fault, profile, EMBEDDING)
    assert explanation.findings[0].kind == "changing"
    assert explanation.sentences[0] == (
        "Triggered by embedding, which cannot be located in the spectrum; the most unusual there: "
        "the change from frame to frame."
    )
    assert explanation.findings == explain(fault, profile).findings


def test_where_no_finding_is_of_the_scorer_that_triggered_it_says_so(profile: Profile, recording: Spectrogram) -> None:
    recording[80:110] += 8
    said = explain(recording, profile, CHANGE).sentences[0]
    assert said == "Triggered by change, but no finding is typical of it; the most unusual: the level."


def test_all_scorers_that_triggered_are_named(profile: Profile, recording: Spectrogram) -> None:
    recording[80:110] += 8
    explanation = explain(recording, profile, {**SPECTRUM, **CHANGE, **EMBEDDING})
    assert explanation.sentences[0] == "Triggered by spectrum, change and embedding."
    fault = modulated(recording, slice(10, 30), 8)
    said = explain(fault, profile, {**SPECTRUM, **EMBEDDING}).sentences[0]
    assert said == "Triggered by spectrum and embedding: findings of spectrum come first."


def test_what_is_louder_for_a_part_of_the_time_says_when(profile: Profile, recording: Spectrogram) -> None:
    recording[100:120, 20:120] += 12
    louder = next(f for f in explain(recording, profile).findings if f.kind == "louder")
    assert len(louder.times) == 1
    assert louder.times[0] == pytest.approx((20 * HOP, 120 * HOP), abs=3 * HOP)


def test_of_a_machine_that_swings_more_than_that_no_moments_are_told() -> None:
    rng = np.random.default_rng(4)
    strokes = 12 * (np.arange(FRAMES) % 20 < 8).astype(np.float32)
    profile = Profile.fit((normal(rng) + strokes for _ in range(30)), ["source"] * 30, MEL, 16_000)
    recording = normal(rng) + strokes
    recording[80:100] -= 4
    (finding,) = explain(recording, profile).findings
    assert (finding.kind, finding.times, finding.always) == ("quieter", (), False)
    assert "time" not in finding.sentence


def test_the_zeros_beyond_both_ends_are_not_dropouts(profile: Profile, recording: Spectrogram) -> None:
    recording[:, :2] -= 30
    recording[:, -2:] -= 30
    assert explain(recording, profile).sentences == [NOTHING]


def test_a_profile_comes_back_from_its_arrays(profile: Profile, recording: Spectrogram) -> None:
    recording[70:73] += 12
    arrays = profile.to_arrays()
    assert sum(values.nbytes for values in arrays.values()) < 20_000
    assert explain(recording, Profile.from_arrays(arrays)).findings == explain(recording, profile).findings


def test_recordings_as_short_as_they_may_be_are_explained(profile: Profile, recording: Spectrogram) -> None:
    assert explain(recording[:, :17], profile).sentences
    assert explain(recording[:, :2], profile).sentences


def test_training_recordings_that_are_all_alike_leave_room_for_a_decibel(recording: Spectrogram) -> None:
    profile = Profile.fit([recording] * 12, ["source"] * 12, MEL, 16_000)
    assert explain(recording + np.float32(0.2), profile).sentences == [NOTHING]
    assert explain(recording + np.float32(3), profile).findings


def test_too_few_recordings_are_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(AsdError, match="2 recordings of 2 domains: too few"):
        Profile.fit((normal(rng) for _ in range(2)), ["source", "target"], MEL, 16_000)


def spectrograms(folder: Path, pattern: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for path in sorted(folder.glob(pattern)):
        waveform = decode(path, RecordingSettings()).samples
        yield path.name, as_stored(spectrogram(waveform, 16_000, MEL))


@pytest.mark.parametrize(("machine", "explained"), [("bldcA", 0.9), ("bldcB", 0.9), ("fan", 0.5)])
def test_real_machines_with_a_fault_are_explained_and_normal_ones_mostly_not(
    sample_data: Path, machine: str, explained: float
) -> None:
    folder = sample_data / "real-mini" / machine
    names, values = zip(*spectrograms(folder, "train/*.wav"), strict=True)
    profile = Profile.fit(values, ["target" if "target" in name else "source" for name in names], MEL, 16_000)
    share = {
        label: np.mean([bool(explain(v, profile).findings) for _, v in spectrograms(folder, f"test/*_{label}_*.wav")])
        for label in ("normal", "anomaly")
    }
    assert share["normal"] <= 0.2
    assert share["anomaly"] >= explained
