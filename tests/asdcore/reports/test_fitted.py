"""The report of a retraining or an enrolment."""

import pandas as pd
import pytest

from asdcore.evaluation.scores import scores_of_heard
from asdcore.evaluation.table import differences, results_table
from asdcore.monitoring.reliability import reliability_report
from asdcore.reports.fitted import Decision, Step, Verdicts, fitted_report
from asdcore.reports.known import Known
from tests.asdcore.reports.conftest import Page, Plant, vectors_of

DECISION = Decision("Version 2 was not promoted: version 1 stays the champion", False, ["It is worse on pump."])
NO_ROWS = pd.DataFrame(columns=["path", "machine", "found_by"])


@pytest.fixture(scope="module")
def tested(plant: Plant) -> Verdicts:
    """Three faults, of which one does not whistle, and three normal recordings, of which one does."""
    whistles = {"anomaly": (1.0, 1.0, 0.0), "normal": (0.0, 0.0, 1.0)}
    named = [
        (plant.recording(f"test/{label}-{n}.wav", 200 + n + 10 * (label == "normal"), whistle), label)
        for label, strengths in whistles.items()
        for n, whistle in enumerate(strengths)
    ]
    heard = list(plant.detector.listen([path for path, _ in named]))
    described = pd.DataFrame(
        {
            "recording": [one.recording for one in heard],
            "path": [str(one.path) for one in heard],
            "machine": "pump",
            "section": "00",
            "domain": "source",
            "label": [label for _, label in named],
            "session": "day 8",
            "session_heard": pd.array([False] * len(heard), "boolean"),
        }
    )
    scores = scores_of_heard(plant.detector, heard, described)
    return Verdicts(scores["detector"], results_table(scores), differences(scores))


@pytest.fixture(scope="module")
def table(plant: Plant, tested: Verdicts) -> pd.DataFrame:
    test = tested.scores[["recording", "path", "machine", "label", "session"]].assign(split="test", attributes="{}")
    return pd.concat([plant.table, test], ignore_index=True)


@pytest.fixture(scope="module")
def page(plant: Plant, tested: Verdicts, table: pd.DataFrame) -> Page:
    machine = plant.detector.machines["pump"]
    vectors = vectors_of(plant.training)
    report = reliability_report(machine, vectors, ["source"] * len(plant.training), 0.1)
    plant.detector.about["reliability"] = {"pump": report.to_json()}
    stand_out = pd.DataFrame([(str(plant.training[3]), "pump", "change")], columns=["path", "machine", "found_by"])
    steps = [Step("Score new recordings:", "asd score FOLDER")]
    return Page(
        fitted_report(plant.detector, ["pump"], Known(table), DECISION, tested, stand_out, steps, title="Retraining")
    )


def test_it_begins_with_the_gate_and_how_far_to_trust_each_machine(page: Page, plant: Plant) -> None:
    assert page.text.index("challenger Version 2 was not promoted") < page.text.index("It is worse on pump.")
    assert "It is worse on pump." in page.text
    rating = plant.detector.about["reliability"]["pump"]["rating"]
    assert page.text.index("It is worse") < page.text.index(f"{rating} pump")
    assert "16 normal recordings" in page.text and "asd score FOLDER" in page.text


def test_faults_caught_and_missed_are_counted_and_the_wrong_ones_can_be_heard(page: Page) -> None:
    assert "faults caught 2 faults missed 1 false alarms 1 normal, no alarm 2" in page.text
    assert "missed fault anomaly-2.wav" in page.text or "missed fault" in page.text
    assert page.text.index("anomaly-2.wav machine") < page.text.index("normal-2.wav machine")
    assert len(page.sounds()) == 6


def test_metrics_stand_beside_those_of_each_scorer_with_intervals(page: Page, tested: Verdicts) -> None:
    assert tested.table is not None
    header = [f"{name}" for name in ("detector", "change", "spectrum")]
    assert " ".join(["machine", "metric", *header]) in page.text
    row = tested.table[tested.table["metric"] == "AUC source"].iloc[0]
    assert f"{row['detector']:.1f} {row['detector low']:.1f} to {row['detector high']:.1f}" in page.text


def test_a_training_recording_that_stands_out_has_the_command_that_takes_it_out_and_no_other(
    page: Page, plant: Plant
) -> None:
    digest = plant.table["recording"][3][:12]
    assert "stands out among the training recordings, by its change" in page.text
    assert f"asd label {digest} --as anomaly" in page.text and f"asd label {digest} --as normal" not in page.text


def test_the_points_of_a_timeline_lead_to_the_recordings_in_the_page(page: Page) -> None:
    assert {place.removeprefix("#") for place in page.values("a", "href")} <= {*page.values("article", "id")}
    assert len(page.values("a", "href")) == 2


def test_without_test_recordings_there_are_no_metrics_and_nothing_fails(plant: Plant) -> None:
    done = Decision("Version 1 is the champion", True)
    page = Page(fitted_report(plant.detector, ["pump"], Known(plant.table), done, Verdicts(), NO_ROWS, [], title="New"))
    assert "Metrics" not in page.text and "Timeline" not in page.text and "article" not in page.tags


def test_a_training_recording_that_is_gone_is_said_to_be(plant: Plant) -> None:
    rows = pd.DataFrame([("/nowhere/1.wav", "pump", "change")], columns=NO_ROWS.columns)
    done = Decision("Version 1 is the champion", True)
    page = Page(fitted_report(plant.detector, ["pump"], Known(plant.table), done, Verdicts(), rows, [], title="New"))
    assert "not readable" in page.text and "It cannot be shown: unreadable" in page.text
