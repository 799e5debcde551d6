"""The flow `threshold`: another false-alarm rate or alarm rule of one machine, at once."""

from pathlib import Path

from prefect import flow

from asdcore.detector import Detector
from asdcore.normality.threshold import Threshold, rule_of
from asdcore.recordings.paths import nfc
from asdcore.storage.home import Home
from flows.enroll import Retired, digest_of_folder, registered_change
from tasks.detector import change_threshold
from tasks.registered import CHAMPION, registered_folder
from tasks.run_names import add_to_run_name, run_name
from tasks.warn import warn


@flow(name="threshold", flow_run_name=run_name)
def threshold(
    machine: str,
    false_alarm_rate: float | None = None,
    alarm: str | None = None,
    model: str = CHAMPION,
    home: Path | None = None,
) -> Retired:
    """Register the detector with another threshold of one machine. Nothing is fitted; a retraining keeps it.

    Args:
        machine: an enrolled one.
        false_alarm_rate: fraction of its normal recordings that may be anomalous; default: as it is.
        alarm: ``k/n``: k anomalous ones of the last n recordings make an alarm; default: as it is.
        model: alias or version of the detector to change.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, champion, machine, and where the detector is.
    """
    machine = nfc(machine)
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), registered_folder(place, model) as (base, parent):
        detector = Detector.load(base)
        before = detector.threshold_of(detector.enrolled(machine))
        rate = before.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
        changed = Threshold(rate, *(rule_of(alarm) if alarm else (before.needed, before.last)))
        add_to_run_name(f": {_words(changed)}")
        folder = change_threshold(str(base), digest_of_folder(base), machine, changed).path
        text = f"threshold of {machine}: {_words(changed)} (was {_words(before)})"
        return registered_change(place, folder, parent, model, machine, text)


def _words(threshold: Threshold) -> str:
    return f"{100 * threshold.false_alarm_rate:g} %, alarm {threshold.rule}"
