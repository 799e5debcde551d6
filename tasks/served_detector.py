"""The detector as an MLflow model. MLflow copies this file into every registered version (models from code)."""

from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.normality.machine import VERDICT


def _is_missing(value: Any) -> bool:
    return bool(pd.isna(value))


COLUMNS = ["machine", *VERDICT, "reason"]


class ServedDetector(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Scores a table of paths or waveforms.

    Input, one row per recording: ``path``, or ``waveform`` (samples, full scale at 1) and ``sample_rate`` (Hz, default
    16000); and ``machine``, which may be omitted if the folder of the path names it or only one machine is enrolled.
    Output, one row per recording, in the same order: ``machine``, the columns of `MachineModel.verdict`, and
    ``reason``: why a recording could not be scored (the columns of the verdict are then empty); otherwise empty.
    """

    def load_context(self, context: Any) -> None:
        self.detector = Detector.load(context.artifacts["detector"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        try:
            rows = [self._score(row) for row in model_input.to_dict("records")]
        except AsdError as error:
            # MLflow's server sends its clients the message of this exception, and a stack trace of any other.
            raise MlflowException.invalid_parameter_value(str(error)) from error
        table = pd.DataFrame(rows, columns=COLUMNS, index=model_input.index)
        # As the signature says: in MLflow a missing number is NaN.
        numbers = dict.fromkeys(("score", "p_value", "decision"), float)
        return table.fillna({"verdict": "", "triggered_by": ""}).astype(numbers)

    def _score(self, row: dict[Any, Any]) -> dict[str, Any]:
        given = {name: value for name, value in row.items() if np.ndim(value) or not _is_missing(value)}
        machine = given.get("machine")
        if "path" in given:
            scored = self.detector.score([given["path"]], machine).astype(object)
            return dict(scored.where(scored.notna(), np.nan).iloc[0])
        if "waveform" not in given:
            raise AsdError(f"a row needs path or waveform; this one has {', '.join(map(str, given)) or 'nothing'}")
        enrolled = self.detector.enrolled(machine)
        samples = np.asarray(given["waveform"], dtype=np.float32)
        try:
            verdict = self.detector.score_waveform(samples, int(given.get("sample_rate", 16_000)), enrolled)
        except AsdError as error:
            return {"machine": enrolled, "reason": str(error)}
        return verdict | {"reason": ""}


set_model(ServedDetector())
