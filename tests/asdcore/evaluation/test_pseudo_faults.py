import numpy as np
import pytest
from numpy.typing import NDArray

from asdcore.errors import AsdError
from asdcore.evaluation.pseudo_faults import KINDS, pseudo_fault

RATE = 16_000


@pytest.fixture(scope="module")
def machine() -> NDArray[np.float32]:
    """Two seconds of a hum of 200 and 900 Hz in noise."""
    time = np.arange(2 * RATE) / RATE
    hum = 0.2 * np.sin(2 * np.pi * 200 * time) + 0.1 * np.sin(2 * np.pi * 900 * time)
    return (hum + 0.02 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)


def faulty(machine: NDArray[np.float32], kind: str, strength: float = 1.0, seed: int = 1) -> NDArray[np.float32]:
    return pseudo_fault(machine, RATE, kind, strength, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_no_fault_and_more_of_it_is_more(machine: NDArray[np.float32], kind: str) -> None:
    np.testing.assert_allclose(faulty(machine, kind, 0.0), machine, atol=1e-6)
    changes = [np.sqrt(np.mean((faulty(machine, kind, strength) - machine) ** 2)) for strength in (0.1, 0.3, 1.0)]
    if kind == "line":  # A moved line differs from the old one by all of it, however far it moved.
        assert min(changes) > 0.1
    else:
        assert 1e-4 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_depends_on_the_generator_only_and_stays_within_full_scale(
    machine: NDArray[np.float32], kind: str
) -> None:
    loud = machine / np.abs(machine).max()
    made = faulty(loud, kind)
    assert made.dtype == np.float32 and made.shape == loud.shape
    assert np.abs(made).max() < 1
    assert np.array_equal(made, faulty(loud, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [RATE // 2, RATE // 2 + 1])
def test_half_a_second_and_silence_are_taken(kind: str, samples: int) -> None:
    short = np.random.default_rng(0).standard_normal(samples).astype(np.float32) / 10
    assert np.isfinite(faulty(short, kind)).all()
    assert np.isfinite(faulty(np.zeros(samples, np.float32), kind)).all()


def test_the_line_moves_and_the_rest_stays(machine: NDArray[np.float32]) -> None:
    spectrum = np.abs(np.fft.rfft(faulty(machine, "line", 0.5)))
    assert abs(spectrum.argmax() / 2 - 200 * 1.04) < 1
    assert spectrum[400] < 0.05 * spectrum.max()
    assert spectrum[1800] == pytest.approx(np.abs(np.fft.rfft(machine))[1800], rel=0.01)


def test_the_silenced_band_is_silent(machine: NDArray[np.float32]) -> None:
    before, after = (np.abs(np.fft.rfft(values)) ** 2 for values in (machine, faulty(machine, "silenced")))
    lost = np.flatnonzero(after < 0.01 * before) / 2
    assert lost.max() / lost.min() == pytest.approx(2 ** (1 / 3), rel=0.05)


def test_what_is_no_fault_is_refused(machine: NDArray[np.float32]) -> None:
    with pytest.raises(AsdError, match="kind 'rust' is none of line, modulated"):
        faulty(machine, "rust")
    with pytest.raises(AsdError, match="strength 2 must be between 0 and 1"):
        faulty(machine, "line", 2)
