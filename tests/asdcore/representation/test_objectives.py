import math

import numpy as np
import pytest
import torch

from asdcore.representation.collapse import alignment, effective_rank, uniformity
from asdcore.representation.contrastive import nt_xent


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equation_1(z: list[np.ndarray], partner: list[int], temperature: float) -> float:
    """The paper's equation, summed as it is written; tau divides the similarity."""

    def similarity(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])))

    losses = []
    for i in range(len(z)):
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(len(z)) if k != i)
        losses.append(-math.log(math.exp(similarity(i, partner[i]) / temperature) / others))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_nt_xent_is_the_equation_of_the_paper(temperature: float) -> None:
    original, variant = random(6, 5), random(6, 5, seed=1)
    views = [*original.double().numpy(), *variant.double().numpy()]
    expected = equation_1(views, [*range(6, 12), *range(6)], temperature)
    assert float(nt_xent(original, variant, temperature)) == pytest.approx(expected, rel=1e-5)


def test_nt_xent_does_not_care_for_the_length_of_embeddings_but_for_the_temperature() -> None:
    original, variant = random(6, 5), random(6, 5, seed=1)
    loss = nt_xent(original, variant, 0.05)
    torch.testing.assert_close(nt_xent(7 * original, 0.1 * variant, 0.05), loss)
    assert not torch.isclose(nt_xent(original, variant, 0.5), loss)


def test_nt_xent_is_symmetric_in_the_views_and_in_the_order_of_the_recordings() -> None:
    original, variant = random(6, 5), random(6, 5, seed=1)
    loss = nt_xent(original, variant, 0.05)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(nt_xent(variant, original, 0.05), loss)
    torch.testing.assert_close(nt_xent(original[order], variant[order], 0.05), loss)


def test_nt_xent_has_its_floor_where_partners_are_equal_and_all_others_opposite() -> None:
    # Two recordings on opposite sides: the partner has similarity 1, both other views -1.
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(nt_xent(z, z, 0.5)) == pytest.approx(math.log(1 + 2 * math.exp(-2 / 0.5)), rel=1e-5)


def test_nt_xent_of_a_collapsed_representation_is_chance() -> None:
    z = torch.ones(6, 5)
    assert float(nt_xent(z, z, 0.05)) == pytest.approx(math.log(11), rel=1e-5)


def test_a_step_along_the_gradient_of_nt_xent_lowers_it() -> None:
    original, variant = random(6, 5).requires_grad_(), random(6, 5, seed=1).requires_grad_()
    loss = nt_xent(original, variant, 0.5)
    loss.backward()
    assert original.grad is not None and variant.grad is not None
    assert torch.isfinite(original.grad).all() and float(original.grad.norm()) > 0 and float(variant.grad.norm()) > 0
    with torch.no_grad():
        assert nt_xent(original - 0.1 * original.grad, variant - 0.1 * variant.grad, 0.5) < loss


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
