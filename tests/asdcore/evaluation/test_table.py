import numpy as np
import pandas as pd
import pytest

from asdcore.evaluation.metrics import harmonic_mean, machine_metrics, summary
from asdcore.evaluation.table import cells, labelled, markdown, results_table, systems_of


def scores(
    *machines: str,
    sections: tuple[str, ...] = ("00",),
    domains: tuple[str, ...] = ("source", "target"),
    labels: tuple[str, ...] = ("normal", "anomaly"),
    seed: int = 0,
) -> pd.DataFrame:
    """Five recordings of each combination; anomalies score higher on the average."""
    rng = np.random.default_rng(seed)
    rows = [
        (machine, section, domain, label, f"{machine}-{section}-{domain}-{label}-{i}")
        for machine in machines
        for section in sections
        for domain in domains
        for label in labels
        for i in range(5)
    ]
    table = pd.DataFrame(rows, columns=["machine", "section", "domain", "label", "recording"])
    return table.assign(score=rng.gamma(3, size=len(table)) + (table["label"] == "anomaly"))


def test_a_machine_has_three_rows_in_the_order_of_the_paper_and_the_harmonic_mean_is_last() -> None:
    table = results_table({"ml-z": scores("fan", "bearing"), "spectrum": scores("fan", "bearing", seed=1)})
    assert table.columns.tolist() == [
        "machine",
        "figure",
        *("ml-z", "ml-z low", "ml-z high"),
        *("spectrum", "spectrum low", "spectrum high"),
    ]
    figures = ["AUC target", "AUC source", "pAUC"]
    assert list(zip(table["machine"], table["figure"], strict=True)) == [
        *(("bearing", figure) for figure in figures),
        *(("fan", figure) for figure in figures),
        ("All", "harmonic mean"),
    ]
    assert systems_of(table) == ["ml-z", "spectrum"]


def test_the_cells_are_the_metrics_in_percent_within_their_intervals() -> None:
    one = scores("fan", "bearing")
    table = results_table({"ml-z": one}).set_index(["machine", "figure"])
    metrics = machine_metrics(one).set_index("machine")
    for machine in ("fan", "bearing"):
        for figure, column in (("AUC target", "auc_target"), ("AUC source", "auc_source"), ("pAUC", "pauc")):
            assert table.loc[(machine, figure), "ml-z"] == pytest.approx(100 * metrics.loc[machine, column])
    official = table.loc[("All", "harmonic mean"), "ml-z"]
    assert official == pytest.approx(100 * summary(machine_metrics(one))["official_score"])
    assert official == pytest.approx(harmonic_mean(table["ml-z"].iloc[:-1]))
    assert (table["ml-z low"] <= table["ml-z"]).all() and (table["ml-z"] <= table["ml-z high"]).all()
    assert (table["ml-z low"] < table["ml-z high"]).any()


def test_several_sections_of_a_machine_are_told_apart_and_one_is_not_mentioned() -> None:
    one = pd.concat([scores("fan", sections=("00", "02")), scores("pump", sections=("01",))])
    assert results_table({"ml-z": one})["machine"].unique().tolist() == ["fan 00", "fan 02", "pump", "All"]


def test_a_machine_called_all_has_its_rows() -> None:
    table = results_table({"ml-z": scores("all", "fan")})
    assert table["machine"].tolist() == ["all"] * 3 + ["fan"] * 3 + ["All"]


def test_an_undefined_figure_is_a_dash_and_left_out_of_the_mean() -> None:
    table = results_table({"ml-z": scores("fan", domains=("source",))})
    values = table.set_index("figure")["ml-z"]
    assert np.isnan(values["AUC target"])
    assert values["harmonic mean"] == pytest.approx(harmonic_mean([values["AUC source"], values["pAUC"]]))
    assert [line[2] for line in cells(table)][1] == "-"


def test_a_machine_that_one_system_has_not_scored_is_a_dash_there() -> None:
    text = cells(results_table({"ml-z": scores("fan", "pump"), "spectrum": scores("fan")}))
    assert [line[3] == "-" for line in text if line[0] == "pump"] == [True] * 3
    assert not any(line[2] == "-" for line in text)


@pytest.mark.filterwarnings("error")
def test_without_any_anomaly_there_are_dashes_only() -> None:
    text = cells(results_table({"ml-z": scores("fan", labels=("normal",))}))
    assert {line[2] for line in text[1:]} == {"-"}


def test_text_cells_have_two_digits_and_the_interval_of_the_mean_comes_last() -> None:
    table = results_table({"ml-z": scores("fan"), "spectrum": scores("fan", seed=1)})
    header, *rows, interval = cells(table)
    assert header == ["machine", "figure", "ml-z", "spectrum"]
    assert rows[0] == ["fan", "AUC target", f"{table['ml-z'][0]:.2f}", f"{table['spectrum'][0]:.2f}"]
    last = table.iloc[-1]
    assert interval == [
        "",
        "95 % interval",
        f"{last['ml-z low']:.1f}-{last['ml-z high']:.1f}",
        f"{last['spectrum low']:.1f}-{last['spectrum high']:.1f}",
    ]


def test_the_markdown_table_says_what_the_cells_say() -> None:
    table = results_table({"ml-z": scores("fan"), "spectrum": scores("fan", seed=1)})
    header, rule, *rows = markdown(table).splitlines()
    assert rule == "| --- | --- | ---: | ---: |"
    parsed = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]
    assert parsed == cells(table)


def test_a_bar_in_a_name_does_not_end_a_cell_of_the_markdown_table() -> None:
    lines = markdown(results_table({"ml-z": scores("fan|old")})).splitlines()
    assert lines[2].startswith(r"| fan\|old | AUC target |")
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_only_rows_with_label_domain_and_score_make_figures() -> None:
    one = scores("fan")
    one.loc[3, "label"] = "unknown"
    one.loc[5, "domain"] = "unknown"
    one.loc[7, "score"] = np.nan
    kept = labelled(one)
    assert kept["recording"].tolist() == [name for i, name in enumerate(one["recording"]) if i not in (3, 5, 7)]
    assert kept.index.tolist() == list(range(len(kept)))
