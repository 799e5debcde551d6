import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from asdcore.errors import AsdError
from asdcore.evaluation.metrics import (
    MAX_FPR,
    area_under_roc,
    each_machine,
    harmonic_mean,
    machine_metrics,
    partial_area_under_roc,
    summary,
)
from asdcore.evaluation.submission import read_submission
from tests.asdcore.evaluation.conftest import GOLDEN_SUBMISSIONS

OFFICIAL_FIGURES = {
    "AUC (all)": "auc_all",
    "AUC (source)": "auc_source",
    "AUC (target)": "auc_target",
    "pAUC": "pauc",
    "precision (source)": "precision_source",
    "precision (target)": "precision_target",
    "recall (source)": "recall_source",
    "recall (target)": "recall_target",
    "F1 score (source)": "f1_source",
    "F1 score (target)": "f1_target",
}


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"machine": "fan", "section": "00", "domain": "source"} | columns)


def random_table(seed: int, size: int = 80, levels: int | None = None) -> pd.DataFrame:
    """Unbalanced, every stratum filled; with ``levels`` the scores are tied."""
    rng = np.random.default_rng(seed)
    domain = np.where(rng.random(size) < 0.7, "source", "target")
    label = np.where(rng.random(size) < 0.4, "anomaly", "normal")
    domain[:4], label[:4] = ["source", "source", "target", "target"], ["normal", "anomaly"] * 2
    score = rng.normal(size=size) + (label == "anomaly")
    if levels:
        score = np.round(score * levels / 4)
    return table(domain=domain, label=label, score=score, decision=(score > 0.5).astype(int))


def counts(rows: pd.DataFrame, chosen: "pd.Series[bool]") -> np.ndarray:
    levels = np.unique(rows.score)
    return (rows.score[chosen].to_numpy()[:, None] == levels).sum(axis=0).astype(float)


def assert_sklearn_agrees(row: "pd.Series[float]", rows: pd.DataFrame) -> None:
    """Every metric of one machine against scikit-learn's own functions."""
    truth = (rows.label == "anomaly").astype(int)
    expected = {
        "auc_all": roc_auc_score(truth, rows.score),
        "pauc": roc_auc_score(truth, rows.score, max_fpr=MAX_FPR),
    }
    for domain in ("source", "target"):
        of_auc = (rows.domain == domain) | (truth == 1)
        inside = rows.domain == domain
        decided, true = rows.decision[inside], truth[inside]
        expected[f"auc_{domain}"] = roc_auc_score(truth[of_auc], rows.score[of_auc])
        expected[f"precision_{domain}"] = precision_score(true, decided, zero_division=0.0)
        expected[f"recall_{domain}"] = recall_score(true, decided)
        expected[f"f1_{domain}"] = f1_score(true, decided)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("submission", GOLDEN_SUBMISSIONS)
def test_every_metric_is_that_of_the_official_evaluator(golden: Path, submission: str) -> None:
    expected = json.loads((golden / "expected_scores.json").read_text())[submission]

    metrics = machine_metrics(read_submission(golden / "submissions" / submission, golden))

    assert list(metrics.machine) == sorted(expected["machines"])
    for row in metrics.to_dict("records"):
        for official, ours in OFFICIAL_FIGURES.items():
            assert row[ours] == pytest.approx(expected["machines"][row["machine"]][official], abs=1e-12)
    means = summary(metrics)
    assert means.pop("official_score") == pytest.approx(expected["official score"], abs=1e-12)
    for mean in ("arithmetic_mean", "harmonic_mean", "source_harmonic_mean", "target_harmonic_mean"):
        official = expected[f"{mean.replace('_', ' ')} over all machine types, sections, and domains"]
        assert len(official) == 5
        for kind, value in official.items():
            assert means.pop(f"{mean}_{kind.lower()}") == pytest.approx(value, abs=1e-12)
    assert not means


@pytest.mark.parametrize("levels", [None, 3, 10])
def test_metrics_agree_with_sklearn_on_random_tables(levels: int | None) -> None:
    for seed in range(25):
        rows = random_table(seed, size=20 + 7 * seed, levels=levels)
        assert_sklearn_agrees(machine_metrics(rows).iloc[0], rows)


def test_areas_agree_with_sklearn_for_any_maximum_fpr_and_a_handful_of_recordings() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rows = random_table(seed, size=4 + seed % 9, levels=1 + seed % 4)
        anomaly = rows.label == "anomaly"
        normal_counts, anomaly_counts = counts(rows, ~anomaly), counts(rows, anomaly)
        max_fpr = rng.uniform(0.01, 0.9)
        assert area_under_roc(normal_counts, anomaly_counts) == pytest.approx(
            roc_auc_score(anomaly, rows.score), abs=1e-12
        )
        assert partial_area_under_roc(normal_counts, anomaly_counts, max_fpr) == pytest.approx(
            roc_auc_score(anomaly, rows.score, max_fpr=max_fpr), abs=1e-12
        )


@pytest.mark.parametrize("levels", [None, 4])
def test_a_recording_of_weight_k_counts_as_k_recordings(levels: int | None) -> None:
    rows = random_table(1, levels=levels)
    weights = np.random.default_rng(2).integers(0, 4, size=(25, len(rows)))
    weights[:, :4] += 1  # no stratum runs empty
    ((_, _, one),) = each_machine(rows)

    metrics = one.metrics(weights.astype(float))

    for resample, repeats in enumerate(weights):
        repeated = rows.loc[rows.index.repeat(repeats)]
        assert_sklearn_agrees(pd.Series({name: values[resample] for name, values in metrics.items()}), repeated)


def test_auc_of_a_domain_sets_its_normal_recordings_against_the_anomalies_of_both() -> None:
    rows = table(
        domain=["source", "source", "target", "target"],
        label=["normal", "anomaly", "normal", "anomaly"],
        score=[1.0, 2.0, 3.0, 4.0],
    )
    row = machine_metrics(rows).iloc[0]
    assert (row.auc_source, row.auc_target, row.auc_all) == (1.0, 0.5, 0.75)


def test_pauc_is_half_by_chance_and_nine_nineteenths_at_worst() -> None:
    label = ["normal", "anomaly"] * 20
    constant = table(label=label, score=1.0)
    inverted = table(label=label, score=[1.0, 0.0] * 20)
    assert machine_metrics(constant).pauc.item() == pytest.approx(0.5, abs=1e-12)
    assert machine_metrics(inverted).pauc.item() == pytest.approx(9 / 19, abs=1e-12)


def test_a_machine_without_target_domain_has_nan_there_and_metrics_elsewhere() -> None:
    rows = table(label=["normal", "anomaly"], score=[0.0, 1.0], decision=[0, 1])
    row = machine_metrics(rows).iloc[0]
    assert row[["auc_target", "precision_target", "recall_target", "f1_target"]].isna().all()
    assert (row[["auc_source", "pauc", "auc_all", "precision_source", "recall_source", "f1_source"]] == 1.0).all()


@pytest.mark.parametrize("label", ["normal", "anomaly"])
def test_a_machine_with_one_label_only_has_nan_without_a_warning(label: str) -> None:
    rows = table(label=label, score=[0.0, 1.0], decision=[0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = machine_metrics(rows).iloc[0]
        means = summary(machine_metrics(rows))
    assert row.drop(["machine", "section"]).isna().all()
    assert np.isnan(list(means.values())).all()


def test_undefined_metrics_are_left_out_of_the_means() -> None:
    whole = random_table(3)
    source_only = table(machine="valve", label=["normal", "anomaly"] * 2, score=[0.0, 1.0, 2.0, 3.0], decision=1)
    metrics = machine_metrics(pd.concat([whole, source_only]))
    fan, valve = metrics.iloc[0], metrics.iloc[1]
    five = [fan.auc_source, fan.auc_target, fan.pauc, valve.auc_source, valve.pauc]
    assert summary(metrics)["official_score"] == pytest.approx(5 / sum(1 / value for value in five), abs=1e-12)
    three = [fan.auc_source, fan.auc_target, valve.auc_source]
    assert summary(metrics)["arithmetic_mean_auc"] == pytest.approx(np.mean(three), abs=1e-12)
    assert summary(metrics)["target_harmonic_mean_recall"] == pytest.approx(fan.recall_target, abs=1e-12)


def test_each_machine_and_section_has_its_own_row_whatever_the_names_and_the_row_order() -> None:
    parts = [
        random_table(seed).assign(machine=machine, section=section)
        for seed, (machine, section) in enumerate([("pump_7", "01"), ("Extruder", "A"), ("pump_7", "00")])
    ]
    metrics = machine_metrics(pd.concat(parts).sample(frac=1.0, random_state=0))
    assert list(zip(metrics.machine, metrics.section, strict=True)) == [
        ("Extruder", "A"),
        ("pump_7", "00"),
        ("pump_7", "01"),
    ]
    for part in parts:
        row = metrics[(metrics.machine == part.machine[0]) & (metrics.section == part.section[0])].iloc[0]
        assert_sklearn_agrees(row, part)


def test_without_decisions_there_are_no_decision_metrics() -> None:
    rows = random_table(4)
    for bare in (rows.drop(columns="decision"), rows.assign(decision=None)):
        metrics = machine_metrics(bare)
        assert list(metrics) == ["machine", "section", "auc_source", "auc_target", "pauc", "auc_all"]
        assert not any("precision" in name for name in summary(metrics))


def test_a_domain_in_which_a_decision_is_missing_has_no_decision_metrics() -> None:
    rows = random_table(5).astype({"decision": "Int64"})
    rows.loc[rows.index[rows.domain == "target"][0], "decision"] = pd.NA
    row = machine_metrics(rows).iloc[0]
    assert row[["precision_target", "recall_target", "f1_target"]].isna().all()
    assert row[["precision_source", "recall_source", "f1_source"]].notna().all()


def test_precision_is_zero_where_nothing_was_called_anomalous() -> None:
    row = machine_metrics(table(label=["normal", "anomaly"], score=[0.0, 1.0], decision=0)).iloc[0]
    assert (row.precision_source, row.recall_source, row.f1_source) == (0.0, 0.0, 0.0)


def test_harmonic_mean_floors_at_epsilon_and_leaves_nan_out() -> None:
    epsilon = np.finfo(float).eps
    assert harmonic_mean([0.25, 1.0, np.nan]) == pytest.approx(0.4, abs=1e-12)
    assert harmonic_mean([0.0, 0.0]) == pytest.approx(epsilon, rel=1e-12)
    assert harmonic_mean([0.0, 1.0]) == pytest.approx(2 * epsilon, rel=1e-12)
    assert np.isnan(harmonic_mean([np.nan]))
    assert np.isnan(harmonic_mean([]))
    assert harmonic_mean([[0.5, 0.5], [1.0, np.nan]], axis=1).tolist() == [0.5, 1.0]


def test_an_empty_table_has_no_rows_and_no_official_score() -> None:
    metrics = machine_metrics(random_table(6).iloc[:0])
    assert len(metrics) == 0
    assert np.isnan(summary(metrics)["official_score"])


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("score", np.nan, "score is nan in row 3"),
        ("score", np.inf, "score is inf in row 3"),
        ("domain", "Target", "domain is 'Target' in row 3"),
        ("label", "abnormal", "label is 'abnormal' in row 3"),
        ("decision", 2, "decision is 2 in row 3"),
        ("machine", None, "machine is .* in row 3"),
    ],
)
def test_a_wrong_value_is_refused_with_its_column_and_row(column: str, value: object, word: str) -> None:
    rows = random_table(7)
    rows[column] = [*rows[column].iloc[:2], value, *rows[column].iloc[3:]]
    with pytest.raises(AsdError, match=word):
        machine_metrics(rows)


def test_a_missing_column_is_refused_by_name() -> None:
    with pytest.raises(AsdError, match="'domain'"):
        machine_metrics(random_table(8).drop(columns="domain"))
