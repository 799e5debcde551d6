import math

import numpy as np
import pytest
import torch

from asdcore.encoder.labels import Labels
from asdcore.encoder.losses import Combined, Discriminative, Loss, NTXent, SupervisedContrastive, build_loss
from asdcore.encoder.metrics import chance
from asdcore.settings import TrainingSettings


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


H, Z = random(8, 6), random(8, 5, seed=1)
LABELS = Labels(
    torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0, 1, 2, 2] * 2), torch.tensor([0, 0, 0, 0, -1, 1, 0, -1])
)


def discriminative(conditions: int = 3, subclusters: int = 2) -> Discriminative:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Discriminative(conditions, subclusters, 6)


def cosines(loss_function: Discriminative, h: torch.Tensor) -> np.ndarray:
    """(n, classes, subclusters), one by one."""
    centres = loss_function.centres.detach().double().numpy()
    made = [
        [float(v @ c) / (np.linalg.norm(v) * np.linalg.norm(c)) for c in centres] for v in h.detach().double().numpy()
    ]
    return np.reshape(made, (len(h), loss_function.classes, loss_function.subclusters))


def loss_by_loops(loss_function: Discriminative, h: torch.Tensor, classes: list[int], scale: float) -> float:
    losses = []
    for row, own in zip(cosines(loss_function, h), classes, strict=True):
        powers = [[math.exp(scale * cosine) for cosine in of_class] for of_class in row]
        losses.append(-math.log(sum(powers[own]) / sum(sum(of_class) for of_class in powers)))
    return sum(losses) / len(losses)


CLASSES = [1, 4, 7, 7, 0, 5, 7, 6]


@pytest.mark.parametrize("subclusters", [1, 2, 5])
def test_the_loss_is_the_cosine_softmax_summed_over_sub_clusters(subclusters: int) -> None:
    loss_function = discriminative(subclusters=subclusters).eval()
    assert loss_function.class_of(LABELS).tolist() == CLASSES
    expected = loss_by_loops(loss_function, H, CLASSES, float(loss_function.scale))
    assert float(loss_function(H, Z, LABELS).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_scale_starts_and_adapts_as_in_adacos() -> None:
    loss_function = discriminative()
    start = math.sqrt(2) * math.log(9 * 2 - 1)
    assert float(loss_function.scale) == pytest.approx(start)
    cosine = cosines(loss_function, H)
    others = [
        sum(math.exp(start * c) for k, of_class in enumerate(row) if k != own for c in of_class)
        for row, own in zip(cosine, CLASSES, strict=True)
    ]
    angles = sorted(math.acos(max(row[own])) for row, own in zip(cosine, CLASSES, strict=True))
    adapted = math.log(sum(others) / 8) / math.cos(min(math.pi / 4, angles[3]))  # torch takes the lower median
    loss = loss_function.train()(H, Z, LABELS)
    assert float(loss_function.scale) == pytest.approx(adapted, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(loss_by_loops(loss_function, H, CLASSES, adapted), rel=1e-5)


def test_the_scale_adapts_in_training_only() -> None:
    loss_function = discriminative()
    before = loss_function.scale.clone()
    loss_function.eval()(H, Z, LABELS)
    chance(loss_function.train(), H, Z, LABELS)
    assert torch.equal(loss_function.scale, before)
    assert loss_function.training


def test_the_loss_cares_neither_for_length_nor_for_order() -> None:
    loss_function = discriminative().eval()
    loss = loss_function(H, Z, LABELS)
    torch.testing.assert_close(loss_function(3 * H, Z, LABELS), loss)
    order = torch.tensor([3, 0, 5, 1, 4, 2, 7, 6])
    moved = Labels(LABELS.machine[order], LABELS.condition[order], LABELS.shift[order])
    torch.testing.assert_close(loss_function(H[order], Z, moved), loss)


def test_the_gradients_of_embeddings_and_centres_are_those_of_the_formula() -> None:
    loss_function = discriminative().double().eval()
    h = H.double().requires_grad_()
    loss_function(h, Z, LABELS).backward()
    scale = float(loss_function.scale)
    for tensor, i, j in ((h, 0, 0), (h, 6, 3), (loss_function.centres, 1, 2), (loss_function.centres, 17, 5)):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                tensor[i, j] += step
                values.append(loss_by_loops(loss_function, h, CLASSES, scale))
                tensor[i, j] -= step
        assert tensor.grad is not None
        assert float(tensor.grad[i, j]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("subclusters", [1, 4])
def test_one_machine_without_attributes_is_told_by_its_shifts(subclusters: int) -> None:
    # Centres and embeddings that train freely: the loss falls well below chance, and nothing overflows.
    loss_function = discriminative(1, subclusters)
    h = random(8, 6, seed=3).requires_grad_()
    none = torch.zeros(8, dtype=torch.long)
    labels = Labels(none, none, LABELS.shift)
    optimiser = torch.optim.Adam([h, *loss_function.parameters()], lr=0.05)
    for _ in range(100):
        loss = loss_function(h, Z, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert torch.isfinite(loss) and torch.isfinite(loss_function.scale) and float(loss_function.scale) > 0
    assert float(loss.detach()) < 0.8 * chance(loss_function, h, Z, labels)


def test_combined_is_the_weighted_sum() -> None:
    parts = discriminative().eval(), NTXent(0.1)
    combined = Combined(*parts, weight=0.25)
    expected = parts[0](H, Z, LABELS) + 0.25 * parts[1](H, Z, LABELS)
    torch.testing.assert_close(combined(H, Z, LABELS), expected)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nt_xent", NTXent),
        ("supervised_contrastive", SupervisedContrastive),
        ("discriminative", Discriminative),
        ("combined", Combined),
    ],
)
def test_the_settings_name_the_loss(name: str, kind: type[Loss]) -> None:
    settings = TrainingSettings.model_validate({"loss": name, "z_size": 5})
    loss_function = build_loss(settings, 3, 6)
    assert type(loss_function) is kind
    assert bool(list(loss_function.parameters())) == (name in ("discriminative", "combined"))
    # Views that cannot be told apart have the loss of chance, and views that can be may have less.
    h, z = torch.ones(8, 6), torch.ones(8, 5)
    loss = loss_function.eval()(h, z, LABELS).detach()
    assert float(loss) == pytest.approx(chance(loss_function, H + 1e4, Z + 1e4, LABELS), rel=1e-3)
