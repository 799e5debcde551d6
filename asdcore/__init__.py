"""Anomalous sound detection on machines: the science, free of any orchestrator.

The folders stand in the order of the road: recordings, features, representation, normality, detector, evaluation.
"""

__version__ = "0.1.0"
