import math

import numpy as np
import pytest
import torch

from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import NTXent, SupervisedContrastive, nt_xent, supervised_contrastive


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


def l_out(z: list[np.ndarray], classes: list[int], temperature: float) -> float:
    """Equation 2 of Khosla et al., summed as it is written, over the views that have positives."""

    def similarity(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])))

    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        positives = [k for k in others if classes[k] == classes[i]]
        all_others = sum(math.exp(similarity(i, k) / temperature) for k in others)
        logs = [math.log(math.exp(similarity(i, p) / temperature) / all_others) for p in positives]
        if positives:
            losses.append(-sum(logs) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0], [3, 0, 0, 1, 0, 2]])
def test_supervised_contrastive_is_the_equation_of_khosla(classes: list[int], temperature: float) -> None:
    z = random(6, 5)
    expected = l_out(list(z.double().numpy()), classes, temperature)
    assert float(supervised_contrastive(z, torch.tensor(classes), temperature)) == pytest.approx(expected, rel=1e-5)


def test_supervised_contrastive_with_one_positive_each_is_nt_xent() -> None:
    z = random(12, 5)
    classes = torch.arange(6).repeat(2)
    torch.testing.assert_close(supervised_contrastive(z, classes, 0.1), nt_xent(z[:6], z[6:], 0.1))


def test_supervised_contrastive_cares_neither_for_order_nor_for_length_nor_for_the_names_of_classes() -> None:
    z, classes = random(6, 5), torch.tensor([0, 1, 0, 2, 1, 0])
    loss = supervised_contrastive(z, classes, 0.1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(supervised_contrastive(3 * z[order], 7 - classes[order], 0.1), loss)


def test_views_without_any_positive_give_no_loss_and_a_finite_gradient() -> None:
    z = random(4, 5).requires_grad_()
    loss = supervised_contrastive(z, torch.arange(4), 0.05)
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None and not z.grad.any()


def test_the_gradient_of_supervised_contrastive_is_that_of_the_equation() -> None:
    z, classes = random(5, 3), [0, 0, 1, 1, 2]
    free = z.double().requires_grad_()
    supervised_contrastive(free, torch.tensor(classes), 0.5).backward()
    for i, j in [(0, 0), (2, 1), (4, 2)]:  # The last one has no positives and is still pushed away.
        up, down = z.double().numpy().copy(), z.double().numpy().copy()
        up[i, j] += 1e-5
        down[i, j] -= 1e-5
        slope = (l_out(list(up), classes, 0.5) - l_out(list(down), classes, 0.5)) / 2e-5
        assert free.grad is not None and float(free.grad[i, j]) == pytest.approx(slope, rel=1e-5)
        assert slope != 0


def test_the_losses_take_z_and_the_classes_of_machine_and_shift() -> None:
    h, z = random(8, 4), random(8, 5, seed=1)
    machine, shift = torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0, 0, 0, 0, -1, 1, 0, -1])
    labels = Labels(machine, torch.arange(4).repeat(2), shift)
    assert torch.equal(NTXent(0.1)(h, z, labels), nt_xent(z[:4], z[4:], 0.1))
    same = torch.tensor([1, 1, 2, 2, 3, 4, 2, 5])  # Two of them would be one class if the shift did not count.
    torch.testing.assert_close(SupervisedContrastive(0.1)(h, z, labels), supervised_contrastive(z, same, 0.1))
