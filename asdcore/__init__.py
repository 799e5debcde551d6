"""Anomalous sound detection on machines: the science, free of any orchestrator.

The folders stand in the order of the road: recordings, features, representation, normality, detector, evaluation.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("asd")
except PackageNotFoundError:  # The copy that a served model carries is not installed.
    __version__ = "unknown"
