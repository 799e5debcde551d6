"""scikit-learn's own checks of estimators.

All that apply are passed. Not run, with the reason:
- those of predict, transform, score, decision_function and fit_predict: a normality model has `distance` instead;
- check_array_api_input: embeddings are NumPy arrays (it is skipped by scikit-learn itself);
- all of them for Calibration and Fusion: what they take are distances, not features.
"""

from typing import Any

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from asdcore.normality.base import model_class
from asdcore.registry import NORMALITY_MODELS


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([model_class(name)() for name in NORMALITY_MODELS.built_in])
def test_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)
