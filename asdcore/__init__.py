"""Anomalous sound detection on machines: the science, free of any orchestrator.

The folders stand in the order of the road: recordings, features, encoder, normality, detector, evaluation.

>>> from asdcore import Detector, Settings
>>> detector = Detector.fit("simulated", Settings.preset("demo"))  # doctest: +SKIP
>>> detector.score(["simulated/simFan/test/monday.wav"])           # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from asdcore.storage.caches import provide_caches

if TYPE_CHECKING:
    from asdcore.detector import Detector
    from asdcore.encoder.frozen import FrozenEncoder
    from asdcore.encoder.losses import Loss
    from asdcore.encoder.network import Encoder
    from asdcore.errors import AsdError
    from asdcore.normality.base import NormalityModel
    from asdcore.normality.machine import MachineModel
    from asdcore.normality.scorers import Scorer
    from asdcore.settings import Settings

__all__ = [
    "AsdError", "Detector", "Encoder", "FrozenEncoder", "Loss", "MachineModel", "NormalityModel", "Scorer", "Settings"
]  # fmt: skip

try:
    __version__ = version("asd")
except PackageNotFoundError:  # The copy that a served model carries is not installed.
    __version__ = "unknown"

provide_caches()  # Before any module imports librosa.

_PLACES = {
    "AsdError": "asdcore.errors",
    "Detector": "asdcore.detector",
    "Encoder": "asdcore.encoder.network",
    "FrozenEncoder": "asdcore.encoder.frozen",
    "Loss": "asdcore.encoder.losses",
    "MachineModel": "asdcore.normality.machine",
    "NormalityModel": "asdcore.normality.base",
    "Scorer": "asdcore.normality.scorers",
    "Settings": "asdcore.settings",
}


def __getattr__(name: str) -> Any:
    """The public names, each imported when it is first used: `import asdcore` loads neither torch nor scikit-learn."""
    if name not in _PLACES:
        raise AttributeError(f"module 'asdcore' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
