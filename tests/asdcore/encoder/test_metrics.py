import math
import re

import pytest
import torch

from asdcore.encoder.metrics import alignment, collapse, effective_rank, spread, uniformity

SOUND = {
    "epoch": 4.0,
    "loss": 0.7,
    "chance": 2.9,
    "effective_rank_h": 4.6,
    "effective_rank_z": 4.8,
    "spread_h": 0.7,
    "spread_z": 0.6,
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_effective_rank_of_a_line_is_one() -> None:
    line = torch.linspace(-1, 3, 50)[:, None] * random(1, 8) + random(1, 8, seed=1)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)


def test_effective_rank_of_equal_singular_values_is_their_number() -> None:
    # The columns of a Hadamard matrix but the first: orthogonal, and each of mean 0.
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    hadamard = torch.kron(torch.kron(two, two), two)
    assert effective_rank(hadamard[:, 1:]) == pytest.approx(7, rel=1e-6)
    assert effective_rank(hadamard[:, 1:4] + 5) == pytest.approx(3, rel=1e-6)


def test_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    plane = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # singular values in the ratio 3 to 1
    assert effective_rank(plane) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_effective_rank_of_embeddings_that_are_all_the_same_is_zero(value: float) -> None:
    assert effective_rank(torch.full((30, 8), value) + value * torch.arange(8) / 3) == 0


def test_alignment_is_zero_for_equal_partners_four_for_opposite_ones_and_knows_no_length() -> None:
    z = random(6, 5)
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-6)
    assert alignment(z, -z) == pytest.approx(4)
    assert alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])) == pytest.approx(2)


def test_uniformity_is_zero_for_one_point_and_lower_the_more_spread() -> None:
    assert uniformity(torch.ones(4, 3)) == pytest.approx(0, abs=1e-5)
    # Six pairs of the four points of a cross: four at squared distance 2, two at 4.
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [0.0, -1.0]])
    assert uniformity(cross) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6), rel=1e-5)


def test_spread_is_zero_for_one_point_and_one_where_the_mean_is_zero() -> None:
    assert spread(torch.full((5, 3), 0.1)) == pytest.approx(0, abs=1e-7)
    assert spread(torch.zeros(5, 3)) == 0
    assert spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(1)
    # Mean (1, 0), distances 1: root mean square length is the root of 2.
    assert spread(torch.tensor([[1.0, 1.0], [1.0, -1.0]])) == pytest.approx(math.sqrt(0.5))
    assert spread(7 * random(20, 4)) == pytest.approx(spread(random(20, 4)))


def test_of_a_sound_training_there_is_nothing_to_say() -> None:
    assert collapse([SOUND]) == []
    assert collapse([]) == []


@pytest.mark.parametrize(
    ("figure", "value", "said"),
    [
        ("effective_rank_h", 1.1, "h has collapsed: .* collinear"),
        ("effective_rank_z", 1.1, "z has collapsed: .* collinear"),
        ("spread_h", 0.001, "h has collapsed: .* the same embedding"),
        ("spread_z", 0.0, "z has collapsed: .* the same embedding"),
        ("loss", 2.9, "learned nothing"),
        ("loss", 3.5, "learned nothing"),
        ("loss", 0.0, "too easy"),
    ],
)
def test_a_collapse_is_said_by_name_of_the_layer_or_the_loss(figure: str, value: float, said: str) -> None:
    (sentence,) = collapse([SOUND, SOUND | {figure: value}])
    assert re.search(said, sentence)
    assert collapse([SOUND | {figure: value}, SOUND]) == []  # It has recovered.


def test_the_history_of_an_older_version_is_judged_by_the_figures_that_it_has() -> None:
    old = {name: SOUND[name] for name in ("epoch", "loss", "effective_rank_h", "effective_rank_z")}
    assert collapse([old]) == []
    assert len(collapse([old | {"effective_rank_z": 0.0}])) == 1
