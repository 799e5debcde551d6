from pathlib import Path

import pytest

GOLDEN_SUBMISSIONS = ("constant", "inverted", "no_decisions", "oracle", "random", "soft", "ties")
"""Whose figures the official evaluator has computed."""

PRINTED_HARMONIC_MEANS = {
    "published ML": 62.41,
    "published elliptic": 61.31,
    "published MSE": 55.02,
    "published Mahalanobis": 56.58,
}
"""Of the paper, over all seven machines and three metrics."""


@pytest.fixture
def golden(sample_data: Path) -> Path:
    """The folder with the ground truth, those submissions, and their figures."""
    return sample_data / "evaluator-golden"
