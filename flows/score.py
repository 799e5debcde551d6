"""The flow `score`: anomaly scores of recordings by a registered detector."""

from pathlib import Path

from prefect import flow

from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.publishing import score_and_publish, summary
from tasks.run_names import add_to_run_name, run_name
from tasks.scoring import Scored
from tasks.warn import warn


@flow(name="score", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def score(
    recordings: list[Path],
    machine: str | None = None,
    model: str = "champion",
    explain: bool = False,
    home: Path | None = None,
    report: bool = True,
) -> Scored:
    """Score audio files, or all audio files below a folder.

    Args:
        recordings: files or folders; or ``-`` alone: one recording on standard input.
        machine: the machine of all recordings; default: the folder of each file names it.
        model: alias or version in the registry.
        explain: describe and plot where the most anomalous recordings differ from normal, at most 20; if none is
            anomalous or suspect, the one with the highest score.
        home: where the registry and the scores are; default ``ASD_HOME`` or ``.asd``.
        report: write an HTML file beside the scores: verdicts, a timeline, the recordings to listen to.

    Returns:
        The table of scores, how many are anomalous or suspect, and the explanations; see `Scored`.
    """
    place = Home.at(home) if home else Home.default()
    with place.synchronised(warn):
        scored = score_and_publish(place, [Path(path) for path in recordings], machine, model, explain, report)
        add_to_run_name(f": {summary(scored)}")
        return scored
