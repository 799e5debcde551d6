"""Back ends of published systems against plain reference implementations."""

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel, model_from_arrays
from asdcore.normality.memory_mixup import MemoryMixup
from asdcore.normality.references import KMeansCosine, LocalDensity, SmoteNeighbours, unit

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.normal(1, 1, size=(40, 6)), RNG.normal(-1, 1, size=(4, 6))
X, DOMAINS = np.vstack([SOURCE, TARGET]), ["source"] * 40 + ["target"] * 4
TESTED = RNG.normal(size=(15, 6))
MODELS: list[NormalityModel] = [KMeansCosine(4), LocalDensity(3), SmoteNeighbours(), MemoryMixup()]
NAMES = [model.name for model in MODELS]


def length_of(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).sum()))


def test_kmeans_centres_of_the_source_and_every_target_recording() -> None:
    centres = KMeans(4, n_init=10, random_state=0).fit([x / length_of(x) for x in SOURCE]).cluster_centers_
    references = [*centres, *(x / length_of(x) for x in TARGET)]
    expected = [min(1 - float(x @ r) / length_of(x) for r in references) for x in TESTED]
    model = KMeansCosine(4).fit(X, domains=DOMAINS)
    np.testing.assert_allclose(model.distance(TESTED), expected, atol=1e-12)
    assert model.distance(7 * TARGET) == pytest.approx(np.zeros(4), abs=1e-12)


def test_kmeans_of_few_recordings_keeps_them_all() -> None:
    assert KMeansCosine(16).fit(TARGET).distance(TARGET) == pytest.approx(np.zeros(4), abs=1e-12)


def test_the_density_of_the_reference_scales_the_distance() -> None:
    units = [x / length_of(x) for x in X]
    expected = []
    for x in TESTED:
        ratios = []
        for i, reference in enumerate(units):
            others = sorted(1 - float(reference @ other) for j, other in enumerate(units) if j != i)
            ratios.append((1 - float(x @ reference) / length_of(x)) / sum(others[:3]))
        expected.append(min(ratios))
    np.testing.assert_allclose(LocalDensity(3).fit(X, domains=DOMAINS).distance(TESTED), expected, rtol=1e-9)


def test_copies_of_a_recording_do_not_make_everything_else_infinitely_far() -> None:
    copied = np.vstack([X, np.tile(X[0], (20, 1))])
    assert LocalDensity(3).fit(copied).distance(TESTED).max() < 100 * LocalDensity(3).fit(X).distance(TESTED).max()


def test_synthetic_target_recordings_lie_between_neighbours() -> None:
    model = SmoteNeighbours(ratio=0.5, neighbours=1).fit(X, domains=DOMAINS)
    np.testing.assert_array_equal(model.references_[:44], unit(X))
    assert len(model.references_) == 60
    units = unit(TARGET)
    for made in model.references_[44:]:
        # On the chord of two of them, so that it is in the plane of both.
        residuals = [np.linalg.lstsq(units[[i, j]].T, made, rcond=None)[1].sum() for i in range(4) for j in range(i)]
        assert min(residuals) < 1e-20
    np.testing.assert_array_equal(
        model.references_, SmoteNeighbours(ratio=0.5, neighbours=1).fit(X, domains=DOMAINS).references_
    )


def test_memories_are_mixed_and_standardised_by_the_training_recordings() -> None:
    mixed = []
    for t in TARGET:
        nearest = sorted(SOURCE, key=lambda s, t=t: length_of(s - t))[:5]
        mixed += [0.9 * t + 0.1 * s for s in nearest]
    memories = [list(SOURCE), [*TARGET, *mixed]]
    spreads = [
        [min(length_of(x - y) for j, y in enumerate(rows) if j != i) for i, x in enumerate(rows)]
        for rows in (SOURCE, TARGET)
    ]
    means = [float(np.mean(spread)) for spread in spreads]
    expected = []
    for x in TESTED:
        away = [min(length_of(x - y) for y in memory) for memory in memories]
        standardised = [(d - m) / float(np.std(spreads[1])) for d, m in zip(away, means, strict=True)]
        expected.append(min(standardised) + max(means) / float(np.std(spreads[1])))
    model = MemoryMixup(supports=5).fit(X, domains=DOMAINS)
    np.testing.assert_allclose(model.distance(TESTED), expected, rtol=1e-9)


def test_many_target_recordings_do_not_fill_the_memory() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(size=(400, 3))
    model = MemoryMixup()
    model.most_refits = 2  # type: ignore[misc]
    model.fit(many, domains=["source"] * 250 + ["target"] * 150)
    assert len(model.references_) == 400 + 150 * (10_000 // 150)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
@pytest.mark.parametrize("domains", [None, ["source"] * 43 + ["target"]], ids=["one domain", "a single target"])
def test_a_domain_may_be_missing_or_have_one_recording(model: NormalityModel, domains: Any) -> None:
    fitted = model.fit(X, domains=domains)
    assert np.isfinite(fitted.distance(TESTED)).all() and np.isfinite(fitted.left_out_).all()


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_session_is_left_out_as_a_whole(model: NormalityModel) -> None:
    groups = [f"session {i // 9}" for i in range(44)]
    left_out = model.fit(X, domains=DOMAINS, groups=groups).left_out_
    assert left_out is not None
    others = model.fit(X[9:], domains=DOMAINS[9:], groups=groups[9:])
    np.testing.assert_allclose(left_out[:9], others.distance(X[:9]), rtol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_what_is_stored_scores_the_same(model: NormalityModel) -> None:
    fitted = model.fit(X, domains=DOMAINS)
    again = model_from_arrays(fitted.to_arrays())
    assert again.distance(TESTED).tolist() == fitted.distance(TESTED).tolist()
    assert [fitted.distance(row[None])[0] for row in TESTED] == fitted.distance(TESTED).tolist()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (KMeansCosine(0), "clusters is 0"),
        (LocalDensity(0), "neighbours is 0"),
        (SmoteNeighbours(neighbours=0), "neighbours is 0"),
        (MemoryMixup(supports=0), "supports is 0"),
        (MemoryMixup(weight=2.0), r"weight 2\.0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(model: NormalityModel, said: str) -> None:
    with pytest.raises(AsdError, match=said):
        model.fit(X)
