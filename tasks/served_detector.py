"""The detector as an MLflow model. MLflow copies this file into every registered version (models from code)."""

import logging
import math
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import set_model

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.normality.machine import VERDICT
from asdcore.recordings.audio import BadRecording

COLUMNS = ["machine", *VERDICT, "reason"]
DEFAULT_RATE = 16_000
HIGHEST_RATE = 10_000_000
"""Hz"""
FLOATS = dict.fromkeys(("score", "p_value", "decision"), float)
TEXTS = ("machine", "verdict", "triggered_by", "reason")
"""columns in which a missing value is an empty text"""


class ServedDetector(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Scores a table of paths or waveforms.

    Input, one row per recording: ``path``, or ``waveform`` (samples, full scale at 1; one list per sample where there
    are several channels) and ``sample_rate`` (Hz, default 16000); and ``machine``, which may be omitted if the folder
    of the path names it or only one machine is enrolled. Output, one row per recording, in the same order: ``machine``,
    the columns of `MachineModel.verdict`, and ``reason``: why a recording could not be scored (the columns of the
    verdict are then empty, numbers are None); otherwise empty. A row that fails does not affect the others.
    """

    def load_context(self, context: Any) -> None:
        self.detector = Detector.load(context.artifacts["detector"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        rows = [self._answer(row) for row in model_input.to_dict("records")]
        table = pd.DataFrame(rows, columns=COLUMNS, index=model_input.index)
        table = table.fillna(dict.fromkeys(TEXTS, ""))
        # JSON has no NaN: MLflow's server would send something that clients cannot parse.
        return table.astype(object).where(table.notna(), None) if table.isna().any(axis=None) else table.astype(FLOATS)

    def _answer(self, row: dict[Any, Any]) -> dict[str, Any]:
        # NaN: a cell of a column that only other rows have.
        given = {name: value for name, value in row.items() if not _is_missing(value)}
        machine = _name(given["machine"]) if "machine" in given else None
        try:
            return self._scored(given, machine)
        except (AsdError, BadRecording) as error:
            reason = str(error)
        except Exception as error:
            logging.getLogger(__name__).exception("a row could not be scored")
            reason = f"unexpected {type(error).__name__}: {error}"
        only = next(iter(self.detector.machines)) if len(self.detector.machines) == 1 else ""
        return {"machine": machine or only, "reason": reason}

    def _scored(self, given: dict[Any, Any], machine: str | None) -> dict[str, Any]:
        if "path" in given:
            path = given["path"]
            if not isinstance(path, str) or not path or "\0" in path:
                raise AsdError(f"path has to be the name of a file, not {path!r}")
            (scored,) = self.detector.score([path], machine).to_dict("records")
            return {str(name): value for name, value in scored.items()}
        if "waveform" not in given:
            raise AsdError(f"a row needs path or waveform; this one has {', '.join(map(str, given)) or 'nothing'}")
        enrolled = self.detector.enrolled(machine)
        rate = _rate(given.get("sample_rate", DEFAULT_RATE))
        verdict = self.detector.score_waveform(_samples(given["waveform"]), rate, enrolled)
        return verdict | {"reason": ""}


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _name(machine: Any) -> str:
    """The name of a machine, which may have arrived as a number."""
    whole = isinstance(machine, float) and machine.is_integer()
    return str(int(machine) if whole else machine)


def _rate(value: Any) -> int:
    """Hz: 16000, 16000.0 or "16000"."""
    try:
        rate = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not (1 <= rate <= HIGHEST_RATE and rate.is_integer()):
        raise AsdError(f"sample_rate has to be a whole number of Hz, not {value!r}")
    return int(rate)


def _samples(value: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """(n_samples,) or (n_samples, n_channels)"""
    try:
        samples = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise AsdError("waveform has to be a list of numbers, or one list of them per sample") from None
    if samples.ndim not in (1, 2):
        raise AsdError(f"waveform has to have one or two dimensions (samples, channels), not {samples.ndim}")
    return samples


set_model(ServedDetector())
