"""Each year's official score: against the figures that the evaluators' READMEs print, and computed a second time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from asdcore.errors import AsdError
from asdcore.evaluation.bootstrap import ALL, bootstrap
from asdcore.evaluation.challenges import CHALLENGES, challenge_of
from asdcore.evaluation.metrics import machine_metrics, summary
from asdcore.evaluation.ranking import quality
from asdcore.evaluation.submission import read_submission, submission_table, write_submission
from asdcore.evaluation.table import results_table

Three = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

BASELINES: dict[tuple[int, str], tuple[Three, float]] = {
    (2023, "MAHALA"): (
        (
            (0.836434267021059, 0.7409411378914575, 0.8476602762317048, 0.8130000000000001, 0.6678000000000002,
             0.8011999999999999, 0.8383999999999999),
            (0.5885844748858448, 0.50682261208577, 0.6299533799533801, 0.4622, 0.409, 0.4532, 0.9006),
            (0.5753594967896497, 0.5955291246149972, 0.6233307541280444, 0.5142105263157895, 0.5089473684210526,
             0.5384210526315789, 0.653157894736842),
        ),
        0.6105082186925268,
    ),
    (2023, "MSE"): (
        (
            (0.6667348190554078, 0.706837186424004, 0.69428983714698, 0.7968000000000001, 0.77, 0.7212000000000001,
             0.8816),
            (0.48287671232876717, 0.5516569200779727, 0.5604118104118104, 0.561, 0.4716, 0.6468, 0.45320000000000005),
            (0.5091087658743451, 0.5846166760294185, 0.5491654428600755, 0.5368421052631579, 0.5178947368421053,
             0.5826315789473684, 0.5947368421052631),
        ),
        0.5925469043549957,
    ),
    (2024, "MAHALA"): (
        (
            (0.7544, 0.6609999999999999, 0.5684, 0.6794, 0.8387999999999999, 0.606, 0.6556, 0.5834, 0.8032),
            (0.42399999999999993, 0.555, 0.5549999999999999, 0.4464, 0.46399999999999997, 0.5898, 0.579,
             0.42499999999999993, 0.7338),
            (0.508421052631579, 0.6078947368421053, 0.4926315789473684, 0.4921052631578947, 0.5800000000000001,
             0.5510526315789473, 0.48368421052631577, 0.5178947368421053, 0.5905263157894737),
        ),
        0.5648933421610234,
    ),
    (2024, "MSE"): (
        (
            (0.7912, 0.65, 0.6916, 0.7658, 0.8601999999999999, 0.6224000000000001, 0.7504000000000001, 0.6596,
             0.7070000000000001),
            (0.47959999999999997, 0.4824, 0.5374000000000001, 0.5266000000000001, 0.43879999999999997, 0.4598, 0.6948,
             0.4152, 0.6352),
            (0.4942105263157895, 0.5547368421052632, 0.5010526315789474, 0.5, 0.5021052631578947, 0.5163157894736842,
             0.5273684210526316, 0.511578947368421, 0.5557894736842105),
        ),
        0.5650830191796572,
    ),
    (2025, "MAHALA"): (
        (
            (0.7726000000000001, 0.8616, 0.6981999999999999, 0.5586, 0.7638, 0.7498, 0.7041999999999999, 0.729),
            (0.526, 0.42640000000000006, 0.509, 0.5548, 0.3268, 0.4042, 0.5278, 0.7904000000000001),
            (0.541578947368421, 0.5184210526315789, 0.5684210526315789, 0.54, 0.49105263157894735, 0.5142105263157895,
             0.5378947368421052, 0.7005263157894737),
        ),
        0.5650558189601554,
    ),
    (2025, "MSE"): (
        (
            (0.8102, 0.8140000000000001, 0.677, 0.5284, 0.7198, 0.7303999999999999, 0.6686000000000001, 0.6486),
            (0.3436, 0.4976, 0.36699999999999994, 0.6271999999999999, 0.3956, 0.4436, 0.443, 0.6592),
            (0.5421052631578948, 0.5284210526315789, 0.55, 0.5552631578947368, 0.5205263157894737, 0.5342105263157895,
             0.5231578947368422, 0.6210526315789474),
        ),
        0.5442827820713174,
    ),
}  # fmt: skip
"""Of the evaluation sets, from the README of each year's evaluator: AUC source, AUC target and pAUC of every machine;
"TOTAL score".
"""

FIGURES_OF_2020 = {
    "fan": (
        (0.7939877300613497, 0.8663687150837989, 0.869850950290476),
        (0.6181788827897966, 0.6768597471331961, 0.7075731309293712),
        (0.8434024651452082, 0.6675372536174548),
    ),
    "pump": (
        (0.8455172413793103, 0.7973451327433627, 0.8474193548387097),
        (0.7014519056261344, 0.5891942244993014, 0.6394312393887945),
        (0.8300939096537941, 0.6433591231714101),
    ),
    "slider": (
        (0.8836516853932583, 0.8030337078651685, 0.6597752808988764),
        (0.6850975753991722, 0.5416913069189828, 0.49645180366646957),
        (0.7821535580524345, 0.5744135619948748),
    ),
    "valve": (
        (0.57725, 0.5424166666666665, 0.551825),
        (0.5109649122807017, 0.5166666666666667, 0.49144736842105263),
        (0.5571638888888889, 0.506359649122807),
    ),
    "ToyCar": (
        (0.7480452830188679, 0.8309132075471697, 0.8150188679245283),
        (0.6356703078450845, 0.6985104270109235, 0.645759682224429),
        (0.7979924528301886, 0.6599801390268123),
    ),
    "ToyConveyor": (
        (0.9368309859154929, 0.8444647887323944, 0.8399295774647887),
        (0.8021497405485545, 0.6209043736100816, 0.670126019273536),
        (0.8737417840375586, 0.6977267111440573),
    ),
}
"""Machine: AUC and pAUC of its three IDs, and their "Average"; from the README of the evaluator of 2020."""

FIGURES_OF_2021 = {
    "fan": (
        (0.6669, 0.7014, 0.5834), (0.5229, 0.5357, 0.448452380952381),
        (0.5273684210526316, 0.52, 0.5352631578947369), (0.49315789473684213, 0.5063157894736842, 0.4805764411027569),
        (0.5764587301587302, 0.5104469507101085, 0.5634700058286667, 0.5097204125946903),
    ),
    "pump": (
        (0.7691000000000001, 0.6904, 0.6524000000000001), (0.5727, 0.5555, 0.6652),
        (0.5810526315789474, 0.52, 0.5326315789473685), (0.5273684210526316, 0.521578947368421, 0.5468421052631579),
        (0.6508833333333334, 0.5382456140350877, 0.6430137021761633, 0.5374559270729756),
    ),
}  # fmt: skip
"""Machine: AUC of the three sections in the source and in the target domain, pAUC likewise; "arithmetic mean" of AUC
and of pAUC, "harmonic mean" of both; from the README of the evaluator of 2021.
"""

FIGURES_OF_2022 = {
    "ToyCar": (
        (0.8204, 0.6164, 0.8371999999999999), (0.6954, 0.4202, 0.512), (0.71, 0.4942105263157895, 0.6447368421052632),
        (0.6502666666666667, 0.6163157894736843, 0.6118288605395442, 0.6020590065980902),
    ),
    "bearing": (
        (0.6338, 0.772, 0.7701999999999999), (0.49839999999999995, 0.6656, 0.4288),
        (0.47368421052631576, 0.66, 0.5168421052631579),
        (0.6281333333333333, 0.5501754385964913, 0.5992569463670572, 0.5394626348869298),
    ),
}  # fmt: skip
"""Machine: AUC of the three sections in the source and in the target domain, pAUC; "arithmetic mean" of AUC and of
pAUC, "harmonic mean" of both; from the README of the evaluator of 2022.
"""
MEANS_OF_2022 = (0.5301047626828244, 0.5280441052754629, 0.5294160921841315)
""""harmonic mean over all machine types, sections, and domains" of AUC and of pAUC, "official score"."""


@pytest.mark.parametrize(("year", "system"), BASELINES)
def test_the_published_metrics_of_the_baselines_give_their_published_official_score(year: int, system: str) -> None:
    (source, target, pauc), official = BASELINES[year, system]
    machines = [f"machine {n}" for n in range(len(source))]
    metrics = pd.DataFrame({"machine": machines, "auc_source": source, "auc_target": target, "pauc": pauc})
    assert summary(metrics, challenge_of(year).rule)["official_score"] == pytest.approx(official, abs=1e-12)


def test_the_averages_of_2020_are_those_of_the_evaluator() -> None:
    rule = challenge_of(2020).rule
    tables = {
        machine: pd.DataFrame({"machine": machine, "auc_source": auc, "auc_target": np.nan, "pauc": pauc})
        for machine, (auc, pauc, _) in FIGURES_OF_2020.items()
    }
    for machine, (_, _, averages) in FIGURES_OF_2020.items():
        means = summary(tables[machine].assign(auc_all=tables[machine]["auc_source"]), rule)
        assert (means["arithmetic_mean_auc"], means["arithmetic_mean_pauc"]) == pytest.approx(averages, abs=1e-12)
        assert means["official_score"] == pytest.approx(np.mean(averages), abs=1e-12)
    # A machine with more IDs counts no more than others.
    every = pd.concat([*tables.values(), tables["fan"]]).assign(auc_all=lambda rows: rows["auc_source"])
    expected = np.mean([averages for _, _, averages in FIGURES_OF_2020.values()])
    assert summary(every, rule)["official_score"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("machine", FIGURES_OF_2021)
def test_the_means_of_2021_are_those_of_the_evaluator(machine: str) -> None:
    source, target, pauc_source, pauc_target, expected = FIGURES_OF_2021[machine]
    metrics = pd.DataFrame(
        {"machine": machine, "auc_source": source, "auc_target": target, "pauc": np.nan}
        | {"pauc_source": pauc_source, "pauc_target": pauc_target}
    )
    means = summary(metrics, challenge_of(2021).rule)
    names = [f"{mean}_mean_{kind}" for mean in ("arithmetic", "harmonic") for kind in ("auc", "pauc")]
    assert [means[name] for name in names] == pytest.approx(expected, abs=1e-12)
    assert means["official_score"] == pytest.approx(hmean([*source, *target, *pauc_source, *pauc_target]), abs=1e-12)


@pytest.mark.parametrize("machine", FIGURES_OF_2022)
def test_the_means_of_2022_are_those_of_the_evaluator(machine: str) -> None:
    source, target, pauc, expected = FIGURES_OF_2022[machine]
    metrics = pd.DataFrame({"machine": machine, "auc_source": source, "auc_target": target, "pauc": pauc})
    means = summary(metrics, challenge_of(2022).rule)
    names = [f"{mean}_mean_{kind}" for mean in ("arithmetic", "harmonic") for kind in ("auc", "pauc")]
    assert [means[name] for name in names] == pytest.approx(expected, abs=1e-12)


def test_the_official_score_of_2022_counts_two_aucs_for_each_pauc() -> None:
    auc, pauc, official = MEANS_OF_2022
    metrics = pd.DataFrame({"machine": ["fan"], "auc_source": auc, "auc_target": auc, "pauc": pauc})
    assert summary(metrics, challenge_of(2022).rule)["official_score"] == pytest.approx(official, abs=1e-12)


# Every year's score from the recordings, as its evaluator computes it, with scikit-learn and SciPy.


def auc(rows: pd.DataFrame, max_fpr: float | None = None) -> float:
    return float(roc_auc_score(rows["label"] == "anomaly", rows["score"], max_fpr=max_fpr))


def score_of_2020(scores: pd.DataFrame) -> float:
    averages = []
    for _, machine in scores.groupby("machine"):
        of_ids = [(auc(rows), auc(rows, 0.1)) for _, rows in machine.groupby("section")]
        averages.append(np.mean(of_ids, axis=0))
    return float(np.mean(averages))


def score_of_2021(scores: pd.DataFrame) -> float:
    parts = [rows for _, rows in scores.groupby(["machine", "section", "domain"])]
    return float(hmean([auc(rows, max_fpr) for rows in parts for max_fpr in (None, 0.1)]))


def score_since_2022(scores: pd.DataFrame) -> float:
    values = []
    for _, rows in scores.groupby(["machine", "section"]):
        values.append(auc(rows, 0.1))
        for domain in ("source", "target"):
            values.append(auc(rows[(rows["domain"] == domain) | (rows["label"] == "anomaly")]))
    return float(hmean(values))


def scores_of_a_system(seed: int, levels: int | None = None) -> pd.DataFrame:
    """Three machines with one, two and three sections, of different sizes; with ``levels`` scores are tied."""
    rng = np.random.default_rng(seed)
    tables = []
    for machine, sections in (("fan", 1), ("pump", 2), ("valve", 3)):
        for section in range(sections):
            size = int(rng.integers(30, 60))
            domain = np.where(rng.random(size) < 0.7, "source", "target")
            label = np.where(rng.random(size) < 0.4, "anomaly", "normal")
            domain[:4], label[:4] = ["source", "source", "target", "target"], ["normal", "anomaly"] * 2
            shift = {"source": 1.5, "target": 0.4}
            score = rng.normal(size=size) + (label == "anomaly") * np.array([shift[name] for name in domain])
            score = np.round(score * levels) if levels else score
            tables.append(
                pd.DataFrame(
                    {"machine": machine, "section": f"{section:02}", "domain": domain, "label": label, "score": score}
                )
            )
    every = pd.concat(tables, ignore_index=True)
    return every.assign(recording=[f"{number}.wav" for number in range(len(every))])


def of_one_domain(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.assign(domain="source")


SECOND: dict[int, Callable[[pd.DataFrame], float]] = {
    2020: score_of_2020,
    2021: score_of_2021,
} | dict.fromkeys((2022, 2023, 2024, 2025), score_since_2022)


@pytest.mark.parametrize("year", CHALLENGES)
@pytest.mark.parametrize("levels", [None, 2])
def test_the_official_score_is_that_of_a_second_computation(year: int, levels: int | None) -> None:
    rule = challenge_of(year).rule
    for seed in range(3):
        scores = scores_of_a_system(seed, levels)
        for table in (scores, of_one_domain(scores)) if year == 2020 else (scores,):
            official = summary(machine_metrics(table, rule), rule)["official_score"]
            assert official == pytest.approx(SECOND[year](table), abs=1e-12)


def test_the_rules_differ() -> None:
    scores = scores_of_a_system(0)
    official = {
        year: summary(machine_metrics(scores, one.rule), one.rule)["official_score"] for year, one in CHALLENGES.items()
    }
    assert len({round(official[year], 6) for year in (2020, 2021, 2022)}) == 3
    assert len({official[year] for year in (2022, 2023, 2024, 2025)}) == 1


@pytest.mark.parametrize("year", [2020, 2021, 2023])
def test_intervals_tables_and_ranks_are_of_the_same_rule(year: int) -> None:
    scores, rule = scores_of_a_system(3), challenge_of(year).rule
    official = SECOND[year](scores)
    spread = bootstrap(scores, resamples=50, rule=rule)
    assert spread.estimate[ALL, ALL, "official_score"] == pytest.approx(official, abs=1e-12)
    assert spread.official_score.std() > 0
    table = results_table({"only": scores}, rule)
    assert table.iloc[-1]["only"] == pytest.approx(100 * official, abs=1e-9)
    assert table.iloc[-1]["metric"] == ("arithmetic mean" if year == 2020 else "harmonic mean")
    titles = {2020: {"AUC", "pAUC"}, 2021: {"AUC source", "AUC target", "pAUC source", "pAUC target"}}
    assert set(table["metric"].iloc[:-1]) == titles.get(year, {"AUC source", "AUC target", "pAUC"})
    by_block = quality(scores.assign(dataset="x", seed=0, system="only"), rule)
    for block, rows in scores.groupby(["machine", "section"]):
        own = by_block[(by_block["machine"] == block[0]) & (by_block["section"] == block[1])]
        assert own["official"].item() == pytest.approx(SECOND[year](rows), abs=1e-12)


def test_a_domain_without_normal_recordings_is_left_out_by_every_rule() -> None:
    scores = scores_of_a_system(1)
    lacking = scores[(scores["domain"] == "source") | (scores["label"] == "anomaly")]
    for year in (2021, 2023):
        rule = challenge_of(year).rule
        metrics = machine_metrics(lacking, rule)
        assert metrics["auc_target"].isna().all() and metrics["auc_source"].notna().all()
        assert 0 < summary(metrics, rule)["official_score"] < 1


def test_an_unknown_year_is_refused_with_those_there_are() -> None:
    with pytest.raises(AsdError, match="year=2019, must be one of 2020, 2021, 2022, 2023, 2024, 2025"):
        challenge_of(2019)


# The files of each year.


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def named(scores: pd.DataFrame, year: int) -> pd.DataFrame:
    """The recordings with the names of the evaluation set of a year."""
    forms = {2020: "id_{section}_{n:08}.wav", 2021: "section_{section}_{domain}_test_{n:04}.wav"}
    form = forms.get(year, "section_{section}_{n:04}.wav")
    files = [form.format(section=row.section, domain=row.domain, n=n) for n, row in enumerate(scores.itertuples())]
    return scores.assign(file=files)


def write_truth(folder: Path, scores: pd.DataFrame, year: int) -> None:
    """As the evaluator of that year has it."""
    label = (scores["label"] == "anomaly").astype(int)
    if year == 2020:
        lines = []
        for machine, rows in scores.groupby("machine"):
            lines.append(str(machine))
            lines += [f"{row.file},{row.label}_{row.file},{int(row.label == 'anomaly')}" for row in rows.itertuples()]
        write(folder / "eval_data_list.csv", lines)
        return
    by = ["machine", "section", *(["domain"] if year == 2021 else [])]
    for key, rows in scores.assign(code=label).groupby(by):
        end = f"section_{'_'.join(map(str, key[1:]))}_test.csv"
        name = f"ground_truth_{key[0]}_{end}"
        write(folder / "ground_truth_data" / name, [f"{row.file},{row.code}" for row in rows.itertuples()])
        if year != 2021:
            codes = (rows["domain"] == "target").astype(int)
            lines = [f"{file},{code}" for file, code in zip(rows["file"], codes, strict=True)]
            write(folder / "ground_truth_domain" / name, lines)


@pytest.mark.parametrize("year", CHALLENGES)
def test_a_submission_of_any_year_is_written_and_read_back_to_the_same_score(year: int, tmp_path: Path) -> None:
    scores = named(scores_of_a_system(5), year)
    scores = of_one_domain(scores) if year == 2020 else scores
    run = scores.assign(path=lambda rows: "x/" + rows["machine"] + "/test/" + rows["file"], decision=0)
    run = run.drop(columns=["section", "recording", *(["domain"] if year < 2022 else [])])
    write_truth(tmp_path / "truth", scores, year)

    paths = write_submission(submission_table(run), tmp_path / "files", year)

    names = {path.name for path in paths}
    expected = {
        2020: {"anomaly_score_valve_id_02.csv"},
        2021: {"anomaly_score_valve_section_02_source_test.csv", "decision_result_fan_section_00_target_test.csv"},
    }
    assert expected.get(year, {"anomaly_score_valve_section_02_test.csv"}) <= names
    assert len(names) == {2020: 6, 2021: 24}.get(year, 12)
    table = read_submission(tmp_path / "files", tmp_path / "truth", year)
    rule = challenge_of(year).rule
    official = summary(machine_metrics(table, rule), rule)["official_score"]
    assert official == pytest.approx(SECOND[year](scores), abs=1e-12)
    assert ("decision" in table) == (year != 2020)


@pytest.mark.parametrize(
    ("year", "read_as", "says"),
    [
        (
            2021,
            2023,
            r"ground_truth_data: holds no ground_truth_<machine>_section_<section>_test.csv, the name in 2023",
        ),
        (2023, 2021, r"holds no ground_truth_<machine>_section_<section>_<domain>_test.csv, the name in 2021"),
        (2023, 2020, r"eval_data_list.csv: no such file.*another year"),
        (2020, 2023, r"ground_truth_data: no such folder"),
    ],
)
def test_a_ground_truth_of_another_year_is_refused(year: int, read_as: int, says: str, tmp_path: Path) -> None:
    write_truth(tmp_path, named(scores_of_a_system(5), year), year)
    with pytest.raises(AsdError, match=says):
        read_submission(tmp_path, tmp_path, read_as)


def test_a_submission_of_another_year_is_refused_with_the_name_that_is_needed(tmp_path: Path) -> None:
    scores = named(scores_of_a_system(5), 2021)
    write_truth(tmp_path / "truth", scores, 2021)
    write_submission(scores, tmp_path / "files", 2023)
    with pytest.raises(AsdError, match=r"not a name of the challenge of 2021.*<section>_<domain>_test.csv, or name an"):
        read_submission(tmp_path / "files", tmp_path / "truth", 2021)


def test_files_by_domain_need_the_domain_of_every_recording(tmp_path: Path) -> None:
    scores = named(scores_of_a_system(5), 2023).assign(domain="unknown")
    with pytest.raises(AsdError, match=r"domain is 'unknown' in row 1 .*source or target is needed"):
        write_submission(scores, tmp_path, 2021)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["id_01_0.wav,normal_id_01_0.wav,0"], r"row 1: 'id_01_0.wav' must be .* below the name of a machine"),
        (["fan", "fan_01.wav,x,0"], r"row 2: 'fan_01.wav' must be id_<ID>"),
        (["fan", "id_01_0.wav,0"], r"row 2: 2 columns instead of 1 or 3"),
        (["fan", "id_01_0.wav,x,2"], r"row 2: '2' must be 0 \(normal\) or 1 \(anomaly\)"),
        (["fan", "id_01_0.wav,x,0", "id_01_0.wav,y,0"], r"row 3: 'id_01_0.wav' comes twice"),
        ([], "lists no recording"),
    ],
)
def test_a_broken_list_of_2020_is_refused_with_its_row(lines: list[str], says: str, tmp_path: Path) -> None:
    write(tmp_path / "eval_data_list.csv", lines)
    with pytest.raises(AsdError, match=f"eval_data_list.csv.*{says}"):
        read_submission(tmp_path, tmp_path, 2020)
