"""Systems ranked on many machines."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import challenge_of
from asdcore.evaluation.ranking import by_group, comparisons, critical_difference, holm, quality, ranking, twins
from asdcore.evaluation.threshold_quality import f1_ev, threshold_quality
from asdcore.plots.ranking import ranking_drawing
from asdcore.reports.ranking import Ranked, ranking_report, system_rows

MACHINES = ["a", "b", "c", "d", "e", "f"]


def scores_of(shifts: dict[str, float], seeds: int = 2) -> pd.DataFrame:
    """System: by how much it separates anomalies, on six machines of two datasets, 20 normal and 20 anomalous each."""
    rows: list[dict[str, Any]] = []
    for system, shift in shifts.items():
        for index, machine in enumerate(MACHINES):
            for seed in range(seeds):
                rng = np.random.default_rng([index, seed])
                for n in range(40):
                    strange = n % 2 == 1
                    rows.append(
                        {
                            "dataset": "x" if index < 3 else "y", "seed": seed, "system": system, "machine": machine,
                            "section": "00", "domain": "source" if n < 20 else "target",
                            "label": "anomaly" if strange else "normal", "recording": f"{machine}{n}",
                            "score": rng.normal() + shift * strange,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_better_system_has_the_better_rank_and_an_interval_above_zero() -> None:
    scores = scores_of({"weak": 0.3, "strong": 3.0, "middle": 1.2})
    table = quality(scores)
    ranked = ranking(table)
    assert ranked.average.to_dict() == {"strong": 1.0, "middle": 2.0, "weak": 3.0}
    compared = comparisons(scores, table, "weak").set_index("system")
    assert (compared["low"] > 0).all()
    assert compared.loc["strong", "wins"] == 6
    assert compared.loc["strong", "p_value"] == pytest.approx(2 / 2**6)
    assert compared.loc["strong", "p_holm"] == pytest.approx(4 / 2**6)


def test_the_quality_is_the_harmonic_mean_of_the_official_metrics_of_each_seed() -> None:
    scores = scores_of({"only": 1.0})
    table = quality(scores)
    assert len(table) == 12
    row = table.iloc[0]
    own = scores[(scores["machine"] == row["machine"]) & (scores["seed"] == row["seed"])]
    source = own[(own["label"] == "anomaly") | (own["domain"] == "source")]
    assert row["auc_source"] == pytest.approx(roc_auc_score(source["label"] == "anomaly", source["score"]))
    assert row["official"] == pytest.approx(stats.hmean(row[["auc_source", "auc_target", "pauc"]].astype(float)))


def test_systems_closer_than_the_critical_difference_are_joined() -> None:
    ranked = ranking(quality(scores_of({"one": 1.0, "two": 1.01, "far": 4.0})))
    assert ranked.critical_difference == pytest.approx(critical_difference(3, 6))
    groups = ranked.alike()
    assert any({"one", "two"} <= set(group) for group in groups) or groups[0][0] == "far"
    assert ranked.p_value < 0.05


def test_critical_differences_are_those_of_demsar() -> None:
    # q at 5 % of his table 5: 2.343, 2.850 and 3.164 for 3, 6 and 10 systems.
    for systems, q in ((3, 2.343), (6, 2.850), (10, 3.164)):
        assert critical_difference(systems, 20) == pytest.approx(q * np.sqrt(systems * (systems + 1) / 120), abs=2e-3)
    assert np.isnan(critical_difference(1, 20)) and np.isnan(critical_difference(3, 1))


def test_holms_correction_leaves_out_what_is_unknown() -> None:
    assert holm(np.array([0.04, np.nan, 0.01])).tolist() == [0.04, pytest.approx(np.nan, nan_ok=True), 0.02]


def test_a_system_with_the_scores_of_another_is_named() -> None:
    assert twins(scores_of({"one": 1.0, "other": 1.0, "third": 2.0})) == {"other": "one"}


def test_a_system_that_lacks_a_machine_is_refused() -> None:
    scores = scores_of({"one": 1.0, "two": 1.0})
    with pytest.raises(AsdError, match="system two has no score of y/f/00: every system needs every machine"):
        ranking(quality(scores[(scores["system"] != "two") | (scores["machine"] != "f")]))


def test_auc_by_group_is_of_its_anomalies_against_all_normal_recordings() -> None:
    scores = scores_of({"one": 1.0}, seeds=1)
    groups = {f"a{n}": ["fault rub"] for n in (1, 3, 5)} | {"a7": ["fault hum"]}
    table = by_group(scores, groups).set_index("group")
    own = scores[scores["machine"] == "a"]
    chosen = own[(own["label"] == "normal") | own["recording"].isin(["a1", "a3", "a5"])]
    assert table.loc["fault rub", "auc"] == pytest.approx(roc_auc_score(chosen["label"] == "anomaly", chosen["score"]))
    assert table["anomalies"].to_dict() == {"fault rub": 3, "fault hum": 1}


def test_f1_ev_is_the_mean_of_f1_over_thresholds() -> None:
    rng = np.random.default_rng(0)
    scores, anomaly = np.r_[rng.normal(size=30), rng.normal(2, 1, 20)], np.arange(50) >= 30
    fine = np.linspace(scores.min(), scores.max(), 200_001)[:-1]
    called = np.sort(scores)
    hits = 20 - np.searchsorted(np.sort(scores[anomaly]), fine, "right")
    total = 50 - np.searchsorted(called, fine, "right")
    assert f1_ev(scores, anomaly) == pytest.approx(float((2 * hits / (total + 20)).mean()), abs=1e-3)
    assert f1_ev(np.r_[np.zeros(5), np.ones(5)], np.arange(10) >= 5) == 1.0
    assert 0 < f1_ev(scores, anomaly, bounded=True) <= 1


def test_the_quality_of_verdicts_counts_suspects_as_called() -> None:
    scores = pd.DataFrame(
        {
            "machine": "a", "section": "00", "label": ["normal", "normal", "anomaly", "anomaly"],
            "score": [0.0, 2.0, 1.0, 3.0], "verdict": ["normal", "suspect", "normal", "anomalous"],
        }
    )  # fmt: skip
    row = threshold_quality(scores).iloc[0]
    assert (row["f1_verdict"], row["false_alarms"], row["f1_best"]) == (0.5, 0.5, pytest.approx(0.8))


def test_the_report_has_every_system_and_machine_and_escapes_names() -> None:
    scores = scores_of({"<b>one</b>": 1.0, "two": 2.0, "same": 2.0})
    table = quality(scores)
    cost = pd.DataFrame(
        {"system": ["two"], "fit_seconds": [1.5], "score_milliseconds": [3.0], "megabytes": [float("nan")]}
    )
    ranked = Ranked(
        table,
        ranking(table),
        comparisons(scores, table, "two"),
        by_group(scores, {"a1": ["fault rub"]}),
        cost,
        twins(scores),
        240,
    )
    page = ranking_report(ranked, ["x: a folder"], "Simulated machines: those of x.")
    assert "&lt;b&gt;one&lt;/b&gt;" in page and "<b>one" not in page
    assert "the same as two" in page and "fault rub" in page and "Simulated machines: those of x." in page
    rows = {row["system"]: row for row in system_rows(ranked)}
    assert (rows["two"]["fit_seconds"], rows["two"]["megabytes"], rows["two"]["difference"]) == (1.5, None, None)
    assert rows["same"]["difference"] == 0
    assert "critical difference" in ranking_drawing(ranked.ranking)
    assert "by the harmonic mean of AUC source, AUC target and pAUC" in page


def test_a_report_by_the_rule_of_another_year_shows_the_metrics_of_that_rule() -> None:
    rule = challenge_of(2021).rule
    scores = scores_of({"one": 1.0, "two": 2.0}, seeds=1)
    table = quality(scores, rule)
    costs = pd.DataFrame(columns=["system", "fit_seconds", "score_milliseconds", "megabytes"])
    compared = comparisons(scores, table, "two", rule)
    ranked = Ranked(table, ranking(table), compared, by_group(scores, {}), costs, {}, 240, rule)
    assert compared["difference"].item() == pytest.approx(
        table.groupby("system")["official"].mean()["one"] - table.groupby("system")["official"].mean()["two"]
    )
    assert compared["low"].item() < compared["difference"].item() < compared["high"].item()
    page = ranking_report(ranked, [], "")
    assert "by the harmonic mean of AUC source, AUC target, pAUC source and pAUC target" in page
    row = system_rows(ranked)[0]
    assert row["pauc_source"] == pytest.approx(100 * table.groupby("system")["pauc_source"].mean()["two"])
