"""Faults of one's own for the simulated machines."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.datasets.faults import Fault
from asdcore.datasets.simulate import MARKER, fault_of, simulate, waveform
from asdcore.errors import AsdError
from asdcore.registry import FAULTS

SMALL = {"source_train": 2, "target_train": 1, "test_per_kind": 3, "seconds": 0.5}


def quieter(
    sound: NDArray[np.float64], sample_rate: int, strength: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    sound *= max(0.0, 1 - strength)
    return sound


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    """`quieter`, as long as a test runs."""
    monkeypatch.setattr(FAULTS, "_of_this_process", {})
    yield FAULTS.register("quieter")(quieter)


def faulty(fault: str | None, strength: float = 1.0) -> NDArray[np.float32]:
    label = "anomaly" if fault else "normal"
    return waveform(
        "simFan",
        domain="source",
        label=label,
        fault=fault,
        strength=strength,
        seconds=0.5,
        rng=np.random.default_rng(3),
    )


def test_a_fault_of_ones_own_changes_the_sound_of_the_machine_and_not_of_the_hall(added: Fault) -> None:
    normal = faulty(None)
    np.testing.assert_array_equal(faulty("quieter", 0.0), normal)
    assert 0 < np.std(faulty("quieter", 1.0)) < np.std(faulty("quieter", 0.5)) < np.std(normal)


def test_simulated_machines_have_the_chosen_faults_in_turn_and_tell_which(added: Fault, tmp_path: Path) -> None:
    paths = simulate(tmp_path, machines=["simFan"], faults=["quieter", "tonal"], **SMALL)  # type: ignore[arg-type]
    anomalies = [path for path in paths if "_anomaly_" in path.name]
    assert [fault_of(path) for path in anomalies] == ["quieter", "tonal", "quieter"] * 2
    assert "faults=quieter+tonal" in (tmp_path / MARKER).read_text()
    with pytest.raises(AsdError, match="other arguments"):
        simulate(tmp_path, machines=["simFan"], **SMALL)  # type: ignore[arg-type]
    with (tmp_path / "simFan" / "simulated.csv").open(newline="") as file:
        assert {row["fault"] for row in csv.DictReader(file)} == {"quieter", "tonal"}


def test_normal_recordings_do_not_depend_on_the_faults(added: Fault, tmp_path: Path) -> None:
    own = simulate(tmp_path / "own", machines=["simFan"], faults=["quieter"], **SMALL)  # type: ignore[arg-type]
    built_in = simulate(tmp_path / "built_in", machines=["simFan"], **SMALL)  # type: ignore[arg-type]
    same = {one.name: one.read_bytes() == other.read_bytes() for one, other in zip(own, built_in, strict=True)}
    assert {name for name, alike in same.items() if not alike} == {name for name in same if "_anomaly_" in name}


@pytest.mark.parametrize("faults", [["rust"], ["tonal", "rust"], []])
def test_unknown_faults_are_refused_before_anything_is_written(tmp_path: Path, faults: list[str]) -> None:
    with pytest.raises(AsdError, match=r"is unknown\. Known: tonal, modulated, impulsive, broadband, missing"):
        simulate(tmp_path / "new", faults=faults, **SMALL)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        (lambda sound, rate, strength, rng: sound[1:], r"'odd' returns an array of shape \(7999,\) for a sound"),
        (lambda sound, rate, strength, rng: sound * np.nan, "'odd' at strength 1 returns samples that are not finite"),
        (lambda sound, rate, strength, rng: None, "'odd'"),
    ],
    ids=["shorter", "not finite", "nothing"],
)  # fmt: skip
def test_a_fault_that_makes_no_sound_is_named(added: Fault, makes: Fault, said: str) -> None:
    FAULTS.register("odd")(makes)
    with pytest.raises(AsdError, match=said):
        faulty("odd")
