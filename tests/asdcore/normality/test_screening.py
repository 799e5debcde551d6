"""Which recordings to listen to first, from vectors."""

import numpy as np
import pytest

from asdcore.errors import AsdError
from asdcore.normality.base import NormalityModel
from asdcore.normality.gaussian import LedoitWolfCovariance
from asdcore.normality.machine import Vectors
from asdcore.normality.neighbours import StandardisedNeighbours
from asdcore.normality.screening import FEWEST, deviations, first_to_hear, screened

MODELS: dict[str, NormalityModel] = {"spectrum": LedoitWolfCovariance(), "change": StandardisedNeighbours()}


def folder(n: int, faults: int, away: float = 4.0, seed: int = 0) -> Vectors:
    """n normal recordings, then faults of one kind: alike, and away from the normal ones by so many deviations."""
    rng = np.random.default_rng(seed)
    moved = np.r_[np.zeros(n), np.full(faults, away)][:, None] * (np.arange(12) < 6)
    return {scorer: rng.normal(size=(n + faults, 12)) + moved for scorer in MODELS}


def names(n: int) -> list[str]:
    return [f"{number:03d}" for number in range(n)]


@pytest.mark.parametrize("faults", [1, 5, 8])
def test_faults_of_one_kind_come_first_and_do_not_vouch_for_each_other(faults: int) -> None:
    table = screened(folder(40, faults), MODELS, names(40 + faults))
    assert set(table["recording"][:faults]) == set(names(40 + faults)[40:])
    assert table["rank"].tolist() == list(range(1, 41 + faults))
    assert (table["times_usual"][:faults] > 1).all() and set(table["found_by"]) <= set(MODELS)


def test_left_out_distances_alone_let_them_vouch_for_each_other() -> None:
    table = screened(folder(40, 8), MODELS, names(48), neighbours=0, left_aside=0)
    assert set(table["recording"][:8]) != set(names(48)[40:])


def test_nothing_stands_out_in_most_folders_without_a_fault() -> None:
    loud = [screened(folder(30, 0, seed=seed), MODELS, names(30))["stands_out"].any() for seed in range(20)]
    assert sum(loud) <= 2


def test_the_clips_of_a_recording_do_not_vouch_for_each_other_and_the_strangest_is_told() -> None:
    vectors = {scorer: X.repeat(3, axis=0) for scorer, X in folder(12, 1, away=60).items()}
    vectors["change"][37] += 1
    table = screened(vectors, MODELS, [name for name in names(13) for _ in range(3)])
    assert table["recording"][0] == "012" and table["stands_out"][0] and table["strangest"][0] == 37
    assert len(table) == 13


def test_too_few_recordings_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(AsdError, match=rf"{FEWEST - 1} recordings: too few .*; {FEWEST} are needed"):
        screened(folder(FEWEST - 1, 0), MODELS, names(FEWEST - 1))


def test_deviations_stay_readable_where_most_recordings_are_alike() -> None:
    assert 2 < deviations(np.array([1.0] * 15 + [2.0, 2.0, 3.0, 3.0, 4.0])).max() < 20


def test_the_sentence_accuses_nobody() -> None:
    one = screened(folder(40, 1), MODELS, names(41))
    assert first_to_hear("fan3", one) == "fan3: listen to one of 41 first; nothing says that it is a fault"
    quiet = one.assign(stands_out=False)
    assert first_to_hear("fan3", quiet) == "fan3: no recording stands out among 41"
