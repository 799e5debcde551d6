import pytest
import torch

from asdcore.datasets.random_faults import FAULTS, with_fault
from asdcore.datasets.random_machines import RandomMachines
from asdcore.datasets.signals import Draw, frequencies


def test_a_seed_gives_the_same_machines_and_recordings_again() -> None:
    first, again, other = (RandomMachines(3, seed, seconds=0.5) for seed in (1, 1, 2))
    recordings = first.recordings()
    assert torch.equal(recordings, again.recordings())
    assert not torch.equal(recordings, other.recordings())
    assert not torch.equal(recordings, first.recordings())


def test_recordings_are_finite_within_full_scale_and_never_silent() -> None:
    machines = RandomMachines(40, 0, seconds=0.5)
    for fault in (None, *FAULTS):
        recordings = machines.recordings(fault=fault)
        assert recordings.isfinite().all() and recordings.abs().max() <= 1
        assert (recordings.square().mean(dim=1).sqrt() > 1e-5).all()


def test_some_of_the_machines_can_be_recorded() -> None:
    assert RandomMachines(5, 0, seconds=0.5).recordings(1, 3).shape == (2, 8000)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_the_spectrum_of_every_sound(fault: str) -> None:
    sounds = RandomMachines(6, 3, seconds=1.0).recordings()
    sounds = sounds / sounds.square().mean(dim=1, keepdim=True).sqrt()
    changed = with_fault(sounds, fault, Draw(0, torch.device("cpu")))
    before, after = (torch.fft.rfft(part).abs() for part in (sounds, changed))
    assert ((after - before).norm(dim=1) / before.norm(dim=1) > 0.001).all()


def test_the_strongest_line_moves_by_up_to_8_percent_where_it_is_the_one_that_is_drawn() -> None:
    hum = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000).expand(50, -1) * 2**0.5
    spectra = torch.fft.rfft(with_fault(hum, "line", Draw(0, torch.device("cpu")))).abs()
    by = (frequencies(16_000, torch.device("cpu"))[spectra.argmax(dim=1)] - 1000).abs()
    assert (by > 0).sum() > 15 and by.max() <= 80 and by[by > 0].min() >= 10


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_recordings_that_are_skipped_draw_the_same_random_numbers(fault: str | None) -> None:
    made, skipped = (RandomMachines(17, 3, seconds=0.5) for _ in range(2))
    made.recordings(0, 16, fault)
    skipped.skip(0, 16, fault)
    assert torch.equal(made.state, skipped.state)
    skipped.state = RandomMachines(17, 3, seconds=0.5).state
    assert torch.equal(skipped.recordings(0, 16, fault), RandomMachines(17, 3, seconds=0.5).recordings(0, 16, fault))
