import re

import pandas as pd
import pytest

from asdcore.evaluation.published import METRICS, PER_KIND, SYSTEMS, machines_of_the_paper, published_metrics
from tests.asdcore.evaluation.conftest import PRINTED_HARMONIC_MEANS


def test_every_machine_of_the_development_set_has_every_metric_of_every_system() -> None:
    table = published_metrics()
    assert table.columns.tolist() == ["machine", "metric", *SYSTEMS]
    # As the data set writes them, not as the paper does ("Bearing").
    machines = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]
    pairs = list(zip(table["machine"], table["metric"], strict=True))
    assert pairs == [(machine, metric) for machine in machines for metric in METRICS]
    assert table[list(SYSTEMS)].gt(0).all(axis=None) and table[list(SYSTEMS)].lt(100).all(axis=None)
    assert all(re.fullmatch("published .+", system) for system in SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_harmonic_mean_of_a_column_is_the_printed_one(system: str) -> None:
    values = published_metrics()[system].tolist()
    assert len(values) == 21
    assert round(21 / sum(1 / value for value in values), 2) == PRINTED_HARMONIC_MEANS[system]


def test_single_cells_are_those_of_the_paper() -> None:
    table = published_metrics().set_index(["machine", "metric"])
    assert table.loc[("fan", "auc_target"), "published MSE"] == 36.18
    assert table.loc[("ToyCar", "auc_source"), "published Mahalanobis"] == 74.53
    assert table.loc[("slider", "pauc"), "published ML"] == 62.89
    assert table.loc[("valve", "auc_source"), "published elliptic"] == 99.24


def recordings(
    machine: str, per_kind: int = PER_KIND, name: str = "section_00_{}_test_{}_{:04}_vel_1.wav"
) -> pd.DataFrame:
    """The test recordings of a machine, as those of the development set."""
    rows = [
        {
            "machine": machine,
            "section": "00",
            "domain": domain,
            "label": label,
            "path": f"x/{name.format(domain, label, n)}",
        }
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for n in range(per_kind)
    ]
    return pd.DataFrame(rows)


def test_a_machine_is_the_papers_by_its_recordings_and_not_by_its_name() -> None:
    others = [
        recordings("valve", per_kind=49),
        recordings("slider").assign(section="01"),
        recordings("bearing", name="{}_{}_{}.wav"),
        recordings("gearbox").query("domain != 'target'"),
        recordings("pump"),
    ]
    assert machines_of_the_paper(pd.concat([recordings("fan"), recordings("ToyCar"), *others])) == {"fan", "ToyCar"}


@pytest.mark.parametrize("end", ["noAttribute", "car_A2_spd_28V_mic_1_noise_1"])
def test_no_machine_of_a_later_development_set_is_the_papers(end: str) -> None:
    later = recordings("ToyCar", name="section_00_{}_test_{}_{:04}_" + end + ".wav")
    assert machines_of_the_paper(pd.concat([recordings("fan"), later])) == set()
    plant = recordings("pump", name="section_00_{}_test_{}_{:04}_" + end + ".wav")
    assert machines_of_the_paper(pd.concat([recordings("fan"), plant])) == {"fan"}
