import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from asdcore.errors import AsdError
from asdcore.evaluation.bootstrap import ALL, bootstrap, paired_bootstrap
from asdcore.evaluation.metrics import machine_metrics, summary


def scores(machines: int = 2, each: int = 20, seed: int = 0, shift: float = 1.0) -> pd.DataFrame:
    """``each`` recordings in each stratum of each machine, with decisions."""
    rng = np.random.default_rng(seed)
    strata = pd.MultiIndex.from_product(
        [[f"machine{number}" for number in range(machines)], ["source", "target"], ["normal", "anomaly"], range(each)],
        names=["machine", "domain", "label", "number"],
    )
    table = strata.to_frame(index=False).assign(section="00")
    table["recording"] = table.domain + table.label + table.number.astype(str)
    table["score"] = rng.normal(size=len(table)) + shift * (table.label == "anomaly")
    table["decision"] = (table.score > shift / 2).astype(int)
    return table.drop(columns="number")


def test_estimates_are_the_metrics_and_means_of_the_table() -> None:
    table = scores()
    metrics = machine_metrics(table)
    estimate = bootstrap(table, resamples=5).estimate
    for row in metrics.to_dict("records"):
        for name in set(row) - {"machine", "section"}:
            assert estimate[row["machine"], "00", name] == row[name]
    means = summary(metrics)
    assert {name: estimate[ALL, ALL, name] for name in means} == means
    assert len(estimate) == len(means) + 2 * (len(metrics.columns) - 2)


def test_each_resample_carries_the_means_of_its_own_metrics() -> None:
    samples = bootstrap(scores(), resamples=5).samples
    for _, sample in samples.iterrows():
        metrics = sample.rename("value").reset_index().query("machine != @ALL")
        means = summary(metrics.pivot_table(index=["machine", "section"], columns="metric", values="value"))
        assert {name: sample[ALL, ALL, name] for name in means} == pytest.approx(means, abs=1e-12)


def test_recall_spreads_as_a_binomial_over_its_stratum() -> None:
    table = scores(machines=1, each=50)
    result = bootstrap(table, resamples=4000)
    recall = result.estimate["machine0", "00", "recall_source"]
    spread = result.samples["machine0", "00", "recall_source"]
    assert spread.mean() == pytest.approx(recall, abs=0.005)
    assert spread.std() == pytest.approx(np.sqrt(recall * (1 - recall) / 50), rel=0.05)


def test_auc_spreads_as_under_resampling_row_by_row() -> None:
    table = scores(machines=1)
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(300):
        drawn = pd.concat(
            [rows.iloc[rng.integers(len(rows), size=len(rows))] for _, rows in table.groupby(["domain", "label"])]
        )
        used = drawn[(drawn.domain == "target") | (drawn.label == "anomaly")]
        plain.append(roc_auc_score(used.label == "anomaly", used.score))
    spread = bootstrap(table).samples["machine0", "00", "auc_target"]
    assert spread.mean() == pytest.approx(np.mean(plain), abs=0.02)
    assert spread.std() == pytest.approx(np.std(plain), rel=0.15)


def test_every_resample_keeps_the_size_of_every_stratum() -> None:
    table = scores(machines=1, each=1)  # strata of one: each resample is the table itself
    result = bootstrap(table, resamples=20)
    assert (result.samples == result.estimate).all(axis=None)


def test_the_seed_decides_and_with_recordings_the_row_order_does_not() -> None:
    table = scores()
    first = bootstrap(table, resamples=50, seed=3)
    pd.testing.assert_frame_equal(first.samples, bootstrap(table, resamples=50, seed=3).samples)
    shuffled = table.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(first.samples, bootstrap(shuffled, resamples=50, seed=3).samples)
    assert not first.samples.equals(bootstrap(table, resamples=50, seed=4).samples)


def test_intervals_are_percentiles_of_the_samples() -> None:
    result = bootstrap(scores(), resamples=500)
    row = result.intervals(level=0.8).set_index(["machine", "section", "metric"]).loc[(ALL, ALL, "official_score")]
    assert row.low == np.quantile(result.official_score, 0.1)
    assert row.high == np.quantile(result.official_score, 0.9)
    assert row.low < row.estimate < row.high


def test_undefined_metrics_stay_undefined_without_a_warning() -> None:
    table = scores(machines=1).query("domain == 'source'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        intervals = bootstrap(table, resamples=50).intervals().set_index("metric")
    assert intervals.loc["auc_target", ["estimate", "low", "high"]].isna().all()
    assert intervals.loc["official_score", ["estimate", "low", "high"]].notna().all()


def test_a_system_differs_from_itself_by_nothing_in_every_resample() -> None:
    table = scores()
    difference = paired_bootstrap(table, table.sample(frac=1.0, random_state=1), resamples=50)
    assert (difference.samples == 0).all(axis=None)
    assert (difference.estimate == 0).all()


def test_pairing_uses_the_same_resample_for_both_systems() -> None:
    a, b = scores(seed=0), scores(seed=5)
    difference = paired_bootstrap(a, b, resamples=100, seed=2)
    expected = bootstrap(a, resamples=100, seed=2).samples - bootstrap(b, resamples=100, seed=2).samples
    pd.testing.assert_frame_equal(difference.samples, expected)


def test_the_difference_of_like_systems_spreads_less_than_that_of_unrelated_resamples() -> None:
    a = scores(seed=0)
    b = a.assign(score=a.score + np.random.default_rng(1).normal(scale=0.1, size=len(a)))
    paired = paired_bootstrap(a, b, resamples=300).official_score
    apart = bootstrap(a, resamples=300, seed=0).official_score - bootstrap(b, resamples=300, seed=1).official_score
    assert paired.std() < 0.5 * apart.std()


def test_a_better_first_system_has_a_difference_above_zero() -> None:
    better, worse = scores(shift=2.0), scores(shift=0.2)
    low = paired_bootstrap(better, worse, resamples=300).intervals().set_index("metric").low
    assert low["official_score"] > 0


def test_decision_metrics_are_compared_only_if_both_systems_have_them() -> None:
    table = scores()
    both = paired_bootstrap(table, table, resamples=5)
    one = paired_bootstrap(table, table.drop(columns="decision"), resamples=5)
    assert "f1_source" in both.estimate.index.get_level_values("metric")
    assert "f1_source" not in one.estimate.index.get_level_values("metric")
    assert one.estimate.notna().all()


def test_unlike_recordings_are_refused_by_name() -> None:
    table = scores(machines=1)
    lone = table.drop(index=table.index[0])
    with pytest.raises(AsdError, match=r"first table only: 1, machine0/00/sourcenormal0"):
        paired_bootstrap(table, lone)
    with pytest.raises(AsdError, match=r"second table only: 1, machine0/00/sourcenormal0"):
        paired_bootstrap(lone, table)
    with pytest.raises(AsdError, match=r"machine0/00/sourcenormal0 occurs twice in the second"):
        paired_bootstrap(table, pd.concat([table, table.head(1)]))
    other = table.assign(label=["anomaly", *table.label[1:]])
    with pytest.raises(AsdError, match=r"disagree about the label of machine0/00/sourcenormal0"):
        paired_bootstrap(table, other)
    with pytest.raises(AsdError, match="'recording'"):
        paired_bootstrap(table, table.drop(columns="recording"))


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(AsdError, match="resamples is 0"):
        bootstrap(scores(), resamples=0)
    with pytest.raises(AsdError, match="level is 95"):
        bootstrap(scores(), resamples=5).intervals(level=95)
    with pytest.raises(AsdError, match="no rows"):
        bootstrap(scores().iloc[:0])


def test_two_thousand_resamples_of_seven_machines_take_less_than_two_seconds() -> None:
    table = scores(machines=7, each=50)
    start = time.process_time()
    bootstrap(table, resamples=2000)
    assert time.process_time() - start < 2.0
